// A source on one machine with a value in it, and another machine.
#pragma once

#include "tests/lab/one_enclave.h"

namespace sealift::lab {

class TwoMachines : public ::testing::Test {
 protected:
  static constexpr std::uint32_t kTcs = 2, kOtherTcs = 3;

  TwoMachines() : source_(here_) {}
  void SetUp() override {
    ASSERT_EQ(source_.build("tiny"), Errc::kOk) << source_.error;
    ASSERT_EQ(source_.start(), Errc::kOk) << source_.error;
    ASSERT_TRUE(source_.raw_call(kTcs, counter::kPut, "k", "v").ok());
  }
  void stream(Migration& m) {
    ASSERT_EQ(m.prepare(), Errc::kOk);
    ASSERT_EQ(m.offer(), Errc::kOk);
    ASSERT_EQ(m.dump(), Errc::kOk);
  }
  // A target that shows the digest.
  void restore(Migration& m, Peer& target) {
    ASSERT_EQ(target.build("tiny", source_.base), Errc::kOk) << target.error;
    ASSERT_EQ(m.meet(target), Errc::kOk);
    ASSERT_EQ(m.feed(target), Errc::kOk);
    ASSERT_EQ(m.ready(target), Errc::kOk);
  }
  bool runs(Peer& peer) { return peer.raw_call(kTcs, counter::kGet, "k").ok(); }

  LabMachine here_, there_;
  Peer source_;
};

}  // namespace sealift::lab

// One running enclave, small, an agent that the test plays, and what many tests of a hostile host do with them.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "tests/lab/expect.h"
#include "tests/lab/keyholder.h"
#include "tests/lab/lab.h"
#include "tests/lab/watching.h"

namespace sealift::lab {

class OneEnclave : public ::testing::Test {
 protected:
  // TCSs of `tiny`: control, main, three that serve ecalls, then those of threads made inside.
  static constexpr std::uint32_t kTcs = 2, kOtherTcs = 3, kThirdTcs = 4, kPoolTcs = 5;

  // `options` go to `softsgx run`.
  explicit OneEnclave(const std::vector<std::string>& options = {}) : agent_(machine_), peer_(machine_, options) {}
  void SetUp() override {
    ASSERT_EQ(peer_.build("tiny"), Errc::kOk) << peer_.error;
    ASSERT_EQ(peer_.start(), Errc::kOk) << peer_.error;
  }

  void interrupt_watching(std::uint32_t tcs, std::uint64_t until) { lab::interrupt_watching(peer_, tcs, until); }
  sgx::GprSgx frame(std::uint32_t tcs) { return frame_of(peer_, tcs); }
  // A copy of the enclave as its checkpoint has it: granted by the test, so that the source may go on.
  void revive(Peer& copy, KeyHolder& agent, const OpenStream& stream, const std::vector<Bytes>& sealed) {
    ASSERT_EQ(copy.build("tiny", peer_.base), Errc::kOk) << copy.error;
    ASSERT_EQ(agent.restore(copy, stream, sealed), Errc::kOk);
    ASSERT_EQ(agent.grant(copy, stream), Errc::kOk);
  }

  LabMachine machine_;
  KeyHolder agent_;
  Peer peer_;
};

}  // namespace sealift::lab

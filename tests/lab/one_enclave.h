// One running enclave, small, an agent that the test plays, and what many tests of a hostile host do with them.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "tests/enclaves/counter_calls.h"
#include "tests/lab/expect.h"
#include "tests/lab/keyholder.h"
#include "tests/lab/lab.h"

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

  // A thread in the middle of application code, outside: kWatch(until).
  void interrupt_watching(std::uint32_t tcs, std::uint64_t until) {
    const std::uint64_t bytes = peer_.put_call(tcs, 13, wire::encode(std::tuple(until)));
    EncluArgs args{kEenterLeaf, tcs, static_cast<std::uint64_t>(abi::Request::kCall), bytes, 0, {}, {}, 500};
    EncluResult r = peer_.enclu(args);
    // Not in core's entry code, whose windows have tests of their own.
    const std::uint64_t begin = peer_.symbol("sealift_entry"), end = peer_.symbol("sealift_park");
    for (args.leaf = kEresumeLeaf; interrupted(r); r = peer_.enclu(args)) {
      const std::uint64_t rip = frame(tcs).rip - peer_.base;
      if (rip < begin || rip > end) return;
    }
    FAIL() << "the thread left the enclave";
  }
  // SSA[0] of a TCS, as only the laboratory can see it.
  sgx::GprSgx frame(std::uint32_t tcs) {
    const std::uint64_t at = ssa_offset(peer_.config(), tcs) + sgx::kPageSize - sizeof(sgx::GprSgx);
    const Bytes bytes = peer_.peek(at, sizeof(sgx::GprSgx));
    sgx::GprSgx gpr{};
    std::memcpy(&gpr, bytes.data(), std::min(bytes.size(), sizeof gpr));
    return gpr;
  }
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

// Run under --single-step: every instruction of the enclave is followed by an AEX that looks like an interrupt.
#include <gtest/gtest.h>

#include <set>

#include "softsgx/tests/abi/call.h"
#include "softsgx/tests/abi/enclave/interface.h"
#include "softsgx/tests/abi/loader.h"

namespace third_party {
namespace {

TEST(Step, EveryInstructionIsInterrupted) {
  TestEnclave e(EnclaveOptions{});
  ASSERT_EQ(e.error(), 0) << e.failed_step();
  // One frame only: read RIP where the AEX put it, by an entry at CSSA 1; that one is stepped through, too.
  const std::uint64_t tcs = e.tcs();
  std::set<std::uint64_t> seen;
  CallState s;
  Outcome o = enter(s, tcs, kAdd, 40, 2);
  std::uint64_t steps = 0;
  while (o == kAtAep) {
    ++steps;
    sgx::GprSgx gpr{};
    o = enter(s, tcs, kInspect, reinterpret_cast<std::uint64_t>(&gpr));
    while (o == kAtAep) o = resume(s, tcs);
    ASSERT_EQ(o, kExited);
    EXPECT_EQ(gpr.exitinfo, 0u);
    EXPECT_EQ(gpr.rflags & 0x100, 0u);  // the trap flag is not the enclave's
    seen.insert(gpr.rip - e.base());
    o = resume(s, tcs);
  }
  EXPECT_EQ(s.out_rdi, 42u);
  // The first AEX comes before the first instruction.
  EXPECT_EQ(seen.count(e.address_of("enclave_entry") - e.base()), 1u);
  EXPECT_GT(steps, 15u);
  EXPECT_EQ(steps, seen.size());  // no loop in this path
}

// Run under --aex-hz: without it this would never end.
TEST(RandomAex, InterruptsAThreadThatOnlySpins) {
  TestEnclave e(EnclaveOptions{});
  ASSERT_EQ(e.error(), 0) << e.failed_step();
  std::uint32_t stop = 0;
  CallState s;
  Outcome o = enter(s, e.tcs(), kCount, reinterpret_cast<std::uint64_t>(&stop));
  for (int aexs = 1; o == kAtAep; ++aexs) {
    if (aexs == 20) stop = 1;
    o = resume(s, e.tcs());
  }
  EXPECT_EQ(o, kExited);
  EXPECT_EQ(stop, 1u);
}

TEST(Step, HostIsNotStepped) {
  std::uint64_t flags;
  TestEnclave e(EnclaveOptions{});
  ASSERT_EQ(e.error(), 0);
  EXPECT_EQ(run(e.tcs(), kAdd, 1, 1), 2u);
  asm volatile("pushfq; pop %0" : "=r"(flags));
  EXPECT_EQ(flags & 0x100, 0u);
}

// Run with a window around do_ud2 only.
TEST(StepWindow, OnlyTheWindowIsInterrupted) {
  TestEnclave e(EnclaveOptions{});
  ASSERT_EQ(e.error(), 0) << e.failed_step();
  CallState s;
  Outcome o = enter(s, e.tcs(), kAdd, 1, 1);
  EXPECT_EQ(o, kExited);  // never there
  o = enter(s, e.tcs(), kRead, reinterpret_cast<std::uint64_t>(&s));
  int aexs = 0;
  while (o == kAtAep) {
    ++aexs;
    o = resume(s, e.tcs());
  }
  EXPECT_EQ(aexs, 2);  // movzbl, ret
}

}  // namespace
}  // namespace third_party

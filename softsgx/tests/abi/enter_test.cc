// EENTER, EEXIT, ERESUME and AEX with the program's own ENCLU, AEP and signal handlers.
#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "softsgx/tests/abi/call.h"
#include "softsgx/tests/abi/enclave/interface.h"
#include "softsgx/tests/abi/fault_catcher.h"
#include "softsgx/tests/abi/loader.h"

namespace third_party {
namespace {

std::uint64_t aep() {
  return reinterpret_cast<std::uint64_t>(abi_call_aep);
}

class Enter : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(enclave.error(), 0) << enclave.failed_step(); }

  // Runs a function that faults at `symbol`, checks what the handler saw, skips the instruction and finishes.
  void expect_fault(std::uint64_t function, std::uint64_t a, int signal, int code, unsigned vector,
                    std::uint64_t instruction_bytes) {
    CallState s;
    ASSERT_EQ(enter(s, enclave.tcs(), function, a), kAtAep);
    const Caught& c = FaultCatcher::caught();
    EXPECT_EQ(c.count, 1);
    EXPECT_EQ(c.signal, signal);
    EXPECT_EQ(c.code, code);
    EXPECT_EQ(c.trap, vector);
    EXPECT_EQ(c.rip, aep());
    EXPECT_EQ(c.rax, 3u);
    EXPECT_EQ(c.rbx, enclave.tcs());
    EXPECT_EQ(c.rcx, aep());
    EXPECT_EQ(s.out_rax, 3u);
    EXPECT_EQ(s.out_rbx, enclave.tcs());
    EXPECT_EQ(s.out_rcx, aep());
    const std::uint64_t exitinfo = run(enclave.tcs(), kSkip, instruction_bytes);
    EXPECT_EQ(exitinfo & 0x800000ff, 0x80000000u | vector);
    ASSERT_EQ(resume(s, enclave.tcs()), kExited);
    EXPECT_EQ(c.count, 1);
  }

  FaultCatcher catcher;
  TestEnclave enclave{EnclaveOptions{.threads = 2, .miscselect = sgx::miscselect::kExinfo}};
};

TEST_F(Enter, ReturnsAResult) {
  EXPECT_EQ(run(enclave.tcs(), kAdd, 40, 2), 42u);
  EXPECT_EQ(run(enclave.tcs(1), kAdd, 1, 2), 3u);
  EXPECT_EQ(FaultCatcher::caught().count, 0);
}

TEST_F(Enter, SegmentBasesAreTheEnclavesInsideAndTheHostsOutside) {
  std::uint64_t host_fs, host_gs, after_fs, after_gs, gs = 0;
  asm volatile("rdfsbase %0; rdgsbase %1" : "=r"(host_fs), "=r"(host_gs));
  EXPECT_EQ(run(enclave.tcs(), kBases, reinterpret_cast<std::uint64_t>(&gs)), enclave.thread_block());
  EXPECT_EQ(gs, enclave.thread_block());
  asm volatile("rdfsbase %0; rdgsbase %1" : "=r"(after_fs), "=r"(after_gs));
  EXPECT_EQ(host_fs, after_fs);
  EXPECT_EQ(host_gs, after_gs);
}

TEST_F(Enter, Ud2IsSigill) {
  expect_fault(kUd2, 0, SIGILL, ILL_ILLOPN, 6, 2);
  EXPECT_EQ(FaultCatcher::caught().address, aep());
}

TEST_F(Enter, SyscallIsUndefinedInside) {
  expect_fault(kSyscall, 0, SIGILL, ILL_ILLOPN, 6, 2);
  EXPECT_EQ(FaultCatcher::caught().address, aep());
}

TEST_F(Enter, DivideErrorIsSigfpe) {
  expect_fault(kDivide, 0, SIGFPE, FPE_INTDIV, 0, 2);
  EXPECT_EQ(FaultCatcher::caught().address, aep());
}

TEST_F(Enter, BreakpointIsSigtrapAndFaultClass) {
  expect_fault(kInt3, 0, SIGTRAP, SI_KERNEL, 3, 1);
}

TEST_F(Enter, NonCanonicalAddressIsGeneralProtection) {
  expect_fault(kRead, 0x8000'0000'0000'0000, SIGSEGV, SI_KERNEL, 13, 3);
  EXPECT_EQ(FaultCatcher::caught().address, 0u);
}

TEST_F(Enter, FaultOutsideTellsThePageOnly) {
  expect_fault(kRead, 0x10123, SIGSEGV, SEGV_MAPERR, 14, 3);
  EXPECT_EQ(FaultCatcher::caught().address, 0x10000u);
  EXPECT_EQ(FaultCatcher::caught().error & 0x8000, 0u);
}

TEST_F(Enter, EpcmViolationHasTheSgxBit) {
  // A TCS has no EPCM rights, though its mapping has.
  expect_fault(kRead, enclave.tcs(1) + 8, SIGSEGV, SEGV_ACCERR, 14, 3);
  EXPECT_EQ(FaultCatcher::caught().address, enclave.tcs(1));
  EXPECT_EQ(FaultCatcher::caught().error, 0x8005u);
}

TEST_F(Enter, MappingViolationHasNoSgxBit) {
  expect_fault(kWrite, enclave.address_of("enclave_entry"), SIGSEGV, SEGV_ACCERR, 14, 3);
  EXPECT_EQ(FaultCatcher::caught().error, 7u);
}

// EEXIT keeps them, and the machine itself must survive them: its handlers start with the enclave's flags.
TEST_F(Enter, LeavesWithTheEnclavesFlags) {
  CallState s;
  ASSERT_EQ(enter(s, enclave.tcs(), kRflags), kExited);
  EXPECT_EQ(s.out_flags & 0x40400, 0x40400u);  // AC, DF
}

TEST_F(Enter, FaultsOfEnclu) {
  CallState s;
  const Caught& c = FaultCatcher::caught();
  EXPECT_EQ(enclu(s, sgx::Enclu::kEexit, enclave.tcs()), kFixedUp);  // outside: #GP
  EXPECT_EQ(c.signal, SIGSEGV);
  EXPECT_EQ(c.trap, 13u);
  EXPECT_EQ(enter(s, enclave.tcs() + 8, kAdd), kFixedUp);  // not page-aligned: #GP
  EXPECT_EQ(c.trap, 13u);
  EXPECT_EQ(enter(s, enclave.thread_block(), kAdd), kFixedUp);  // not a TCS: #PF with PFEC.SGX
  EXPECT_EQ(c.trap, 14u);
  EXPECT_EQ(c.error & 0x8000, 0x8000u);
  EXPECT_EQ(resume(s, enclave.tcs()), kFixedUp);  // CSSA is 0: #GP
  EXPECT_EQ(c.trap, 13u);
  EXPECT_EQ(c.count, 4);
  EXPECT_EQ(run(enclave.tcs(), kAdd, 1, 1), 2u);
}

TEST_F(Enter, BusyTcsIsGeneralProtection) {
  std::atomic<std::uint32_t> stop = 0;
  std::thread other([&] {
    CallState s;
    Outcome o;
    do {  // the main thread may be inside just now
      o = enter(s, enclave.tcs(), kCount, reinterpret_cast<std::uint64_t>(&stop));
    } while (o == kFixedUp);
    EXPECT_EQ(o, kExited);
  });
  CallState s;
  Outcome o;
  do {  // before the other thread is inside this succeeds
    o = enter(s, enclave.tcs(), kAdd, 1, 2);
  } while (o == kExited);
  EXPECT_EQ(o, kFixedUp);
  EXPECT_EQ(FaultCatcher::caught().trap, 13u);
  stop = 1;
  other.join();
}

std::atomic<int> g_kicks = 0;
std::atomic<std::uint64_t> g_kick_rip = 0;
void on_kick(int, siginfo_t*, void* raw) {
  g_kick_rip = static_cast<std::uint64_t>(static_cast<ucontext_t*>(raw)->uc_mcontext.gregs[REG_RIP]);
  ++g_kicks;
}

TEST_F(Enter, SignalIsAnAexAndNestedEntryWorks) {
  struct sigaction a {};
  a.sa_sigaction = &on_kick;
  a.sa_flags = SA_SIGINFO;
  sigaction(SIGRTMIN + 3, &a, nullptr);
  g_kicks = 0;
  std::atomic<std::uint32_t> stop = 0;
  const pthread_t self = pthread_self();
  std::atomic<bool> done = false;
  std::thread kicker([&] {
    while (!done) {
      pthread_kill(self, SIGRTMIN + 3);
      std::this_thread::yield();
    }
  });
  CallState s;
  Outcome o = enter(s, enclave.tcs(), kCount, reinterpret_cast<std::uint64_t>(&stop));
  while (o == kAtAep && g_kick_rip != aep()) o = resume(s, enclave.tcs());
  done = true;
  kicker.join();
  ASSERT_EQ(o, kAtAep);
  EXPECT_GT(g_kicks, 0);
  // At CSSA 1, with the interrupted code in SSA[0].
  sgx::GprSgx gpr{};
  EXPECT_EQ(run(enclave.tcs(), kInspect, reinterpret_cast<std::uint64_t>(&gpr)), 0u);
  EXPECT_EQ(gpr.exitinfo, 0u);
  EXPECT_GE(gpr.rip, enclave.base());
  EXPECT_LT(gpr.rip, enclave.base() + enclave.size());
  stop = 1;
  while (o == kAtAep) o = resume(s, enclave.tcs());
  EXPECT_EQ(o, kExited);
}

TEST_F(Enter, HandlerMayRunTheEnclaveItself) {
  // A handler in which SIGILL is blocked by the program's own mask still executes ENCLU.
  static TestEnclave* e;
  static std::uint64_t result;
  e = &enclave;
  result = 0;
  struct sigaction a {};
  a.sa_handler = [](int) { result = run(e->tcs(1), kAdd, 3, 4); };
  sigfillset(&a.sa_mask);
  sigaction(SIGUSR1, &a, nullptr);
  raise(SIGUSR1);
  EXPECT_EQ(result, 7u);
}

TEST_F(Enter, SignalMaskCannotHideEnclu) {
  sigset_t all, old, now;
  sigfillset(&all);
  ASSERT_EQ(sigprocmask(SIG_SETMASK, &all, &old), 0);
  EXPECT_EQ(run(enclave.tcs(), kAdd, 3, 5), 8u);
  ASSERT_EQ(sigprocmask(SIG_SETMASK, &old, &now), 0);
  EXPECT_EQ(sigismember(&now, SIGUSR1), 1);
}

}  // namespace
}  // namespace third_party

// __vdso_sgx_enter_enclave, as <asm/sgx.h> and Documentation/arch/x86/sgx.rst describe it.
#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <ctime>
#include <stdexcept>
#include <thread>

#include "softsgx/tests/abi/enclave/interface.h"
#include "softsgx/tests/abi/loader.h"
#include "softsgx/tests/abi/vdso_lookup.h"

extern "C" int vdso_call(unsigned function, sgx_enclave_run* run, std::uint64_t rdi, std::uint64_t rsi,
                         std::uint64_t rdx, void* vdso);

namespace third_party {
namespace {

constexpr unsigned kEenter = 2, kEresume = 3, kEexit = 4;

class Vdso : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(enclave.error(), 0) << enclave.failed_step();
    ASSERT_NE(vdso, nullptr);
    run.tcs = enclave.tcs();
  }
  int call(std::uint64_t function, std::uint64_t a = 0, std::uint64_t b = 0, unsigned leaf = kEenter) {
    return vdso_call(leaf, &run, function, a, b, vdso);
  }
  void expect_exception(unsigned vector, std::uint64_t error, std::uint64_t address) const {
    EXPECT_EQ(run.function, kEresume);
    EXPECT_EQ(run.exception_vector, vector);
    EXPECT_EQ(run.exception_error_code, error);
    EXPECT_EQ(run.exception_addr, address);
  }

  TestEnclave enclave{EnclaveOptions{.threads = 2, .miscselect = sgx::miscselect::kExinfo}};
  void* vdso = vdso_function("__vdso_sgx_enter_enclave");
  sgx_enclave_run run{};
};

TEST_F(Vdso, OtherFunctionsStillWork) {
  auto* clock = reinterpret_cast<int (*)(clockid_t, timespec*)>(vdso_function("__vdso_clock_gettime"));
  ASSERT_NE(clock, nullptr);
  timespec a{}, b{};
  EXPECT_EQ(clock(CLOCK_MONOTONIC, &a), 0);
  EXPECT_EQ(clock_gettime(CLOCK_MONOTONIC, &b), 0);
  EXPECT_TRUE(a.tv_sec < b.tv_sec || (a.tv_sec == b.tv_sec && a.tv_nsec <= b.tv_nsec));
}

TEST_F(Vdso, ExitsNormally) {
  EXPECT_EQ(call(kAdd, 1, 2), 0);
  EXPECT_EQ(run.function, kEexit);
}

TEST_F(Vdso, RefusesOtherFunctionsAndReservedBytes) {
  EXPECT_EQ(call(kAdd, 0, 0, 1), -EINVAL);
  EXPECT_EQ(call(kAdd, 0, 0, kEexit), -EINVAL);
  EXPECT_EQ(call(kAdd, 0, 0, ~0u), -EINVAL);
  run.reserved[0] = 1;
  EXPECT_EQ(call(kAdd), -EINVAL);
  run.reserved[0] = 0;
  run.reserved[sizeof run.reserved - 1] = 1;
  EXPECT_EQ(call(kAdd), -EINVAL);
  run.reserved[sizeof run.reserved - 1] = 0;
  EXPECT_EQ(call(kAdd), 0);
}

TEST_F(Vdso, ReportsExceptionsInRun) {
  EXPECT_EQ(call(kUd2), 0);
  expect_exception(6, 0, 0);
  EXPECT_EQ(call(kSkip, 2), 0);  // CSSA 1
  EXPECT_EQ(call(0, 0, 0, kEresume), 0);
  EXPECT_EQ(run.function, kEexit);
}

TEST_F(Vdso, ReportsSyscallAsInvalidOpcode) {
  EXPECT_EQ(call(kSyscall), 0);
  expect_exception(6, 0, 0);
}

TEST_F(Vdso, ReportsPageFaults) {
  EXPECT_EQ(call(kWrite, 0x10123), 0);
  expect_exception(14, 6, 0x10000);
}

TEST_F(Vdso, ReportsFaultsOfEncluItself) {
  run.tcs = enclave.tcs() + 8;
  EXPECT_EQ(call(kAdd), 0);
  EXPECT_EQ(run.function, kEenter);
  EXPECT_EQ(run.exception_vector, 13);
  run.tcs = 0x10000;
  EXPECT_EQ(call(kAdd), 0);
  EXPECT_EQ(run.function, kEenter);
  EXPECT_EQ(run.exception_vector, 14);
}

std::atomic<int> g_traps = 0;

TEST_F(Vdso, LeavesBreakpointsToSignals) {
  struct sigaction a {
  }, old;
  a.sa_handler = [](int) { ++g_traps; };
  sigaction(SIGTRAP, &a, &old);
  g_traps = 0;
  // The handler returns to the AEP, an ERESUME: the fault-class breakpoint comes again, until it is skipped.
  static TestEnclave* e;
  static void* function;
  e = &enclave;
  function = vdso;
  a.sa_handler = [](int) {
    ++g_traps;
    sgx_enclave_run nested{};
    nested.tcs = e->tcs();
    vdso_call(kEenter, &nested, kSkip, 1, 0, function);
  };
  sigaction(SIGTRAP, &a, nullptr);
  EXPECT_EQ(call(kInt3), 0);
  EXPECT_EQ(run.function, kEexit);
  EXPECT_EQ(g_traps, 1);
  sigaction(SIGTRAP, &old, nullptr);
}

TEST_F(Vdso, InterruptsAreInvisible) {
  struct sigaction a {};
  static std::atomic<int> kicks;
  kicks = 0;
  a.sa_handler = [](int) { ++kicks; };
  sigaction(SIGUSR2, &a, nullptr);
  std::atomic<std::uint32_t> stop = 0;
  const pthread_t self = pthread_self();
  std::thread kicker([&] {
    while (kicks < 100) {
      pthread_kill(self, SIGUSR2);
      std::this_thread::yield();
    }
    stop = 1;
  });
  EXPECT_EQ(call(kCount, reinterpret_cast<std::uint64_t>(&stop)), 0);
  EXPECT_EQ(run.function, kEexit);
  kicker.join();
}

// What a user handler saw and what it shall answer.
struct HandlerLog {
  int calls = 0;
  int answers[4] = {};
  long rdi = 0, rsp = 0, r8 = 0, pushed = 0;
  unsigned function = 0, vector = 0;
};

int user_handler(long rdi, long, long, long rsp, long r8, long, sgx_enclave_run* run) {
  auto& log = *reinterpret_cast<HandlerLog*>(run->user_data);
  log.rdi = rdi;
  log.rsp = rsp;
  log.r8 = r8;
  log.function = run->function;
  log.vector = run->exception_vector;
  log.pushed = *reinterpret_cast<long*>(rsp);
  return log.answers[log.calls++];
}

class VdsoHandler : public Vdso {
 protected:
  void SetUp() override {
    Vdso::SetUp();
    run.user_handler = reinterpret_cast<std::uint64_t>(&user_handler);
    run.user_data = reinterpret_cast<std::uint64_t>(&log);
  }
  HandlerLog log;
};

TEST_F(VdsoHandler, IsCalledAtExitAndItsAnswerReturned) {
  log.answers[0] = -77;
  EXPECT_EQ(call(kAdd, 20, 22), -77);
  EXPECT_EQ(log.calls, 1);
  EXPECT_EQ(log.rdi, 42);
  EXPECT_EQ(log.function, kEexit);
  EXPECT_EQ(call(kAdd, 1, 1), 0);
}

TEST_F(VdsoHandler, SeesWhatTheEnclavePushedOnTheHostsStack) {
  EXPECT_EQ(call(kPushOnHost, 0, 4711), 0);
  EXPECT_EQ(log.pushed, 4711);
}

TEST_F(VdsoHandler, MayReenterAndResume) {
  // Exception; then EENTER at CSSA 1 repeats rdi..rdx as they are now: rdi = vector 6 is kWrite's number, an exception
  // request that enclave_exception answers as "inspect", with a bad pointer: so resume at once, which faults again.
  log.answers[0] = kEresume;
  log.answers[1] = 0;
  EXPECT_EQ(call(kUd2), 0);
  EXPECT_EQ(log.calls, 2);
  EXPECT_EQ(log.vector, 6u);
}

TEST_F(VdsoHandler, PositiveNonsenseIsInvalid) {
  log.answers[0] = kEexit;
  EXPECT_EQ(call(kAdd), -EINVAL);
}

int throwing_handler(long, long, long, long, long, long, sgx_enclave_run*) {
  throw std::runtime_error("from the handler");
}

TEST_F(VdsoHandler, MayThrowThroughTheVdso) {
  run.user_handler = reinterpret_cast<std::uint64_t>(&throwing_handler);
  EXPECT_THROW((void)call(kAdd), std::runtime_error);
  run.user_handler = 0;
  EXPECT_EQ(call(kAdd), 0);
}

}  // namespace
}  // namespace third_party

// sigaction and relatives: what is set is what is told, and default actions.
#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "softsgx/tests/signals/handler.h"

namespace signals {
namespace {

void nothing(int, siginfo_t*, void*) {}
void simple(int) {}

TEST(Action, IsToldAsItWasSet) {
  struct sigaction a {
  }, told{};
  a.sa_sigaction = &nothing;
  a.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
  sigaddset(&a.sa_mask, SIGUSR2);
  for (const int s : {SIGUSR1, SIGSEGV, SIGILL, SIGRTMIN + 1, SIGRTMAX}) {
    ASSERT_EQ(sigaction(s, &a, nullptr), 0);
    ASSERT_EQ(sigaction(s, nullptr, &told), 0);
    EXPECT_EQ(told.sa_sigaction, &nothing);
    EXPECT_EQ(told.sa_flags, a.sa_flags | 0x04000000);  // SA_RESTORER
    EXPECT_EQ(sigismember(&told.sa_mask, SIGUSR2), 1);
    EXPECT_EQ(sigismember(&told.sa_mask, SIGUSR1), 0);
    struct sigaction none {};
    none.sa_handler = SIG_DFL;
    ASSERT_EQ(sigaction(s, &none, &told), 0);
    EXPECT_EQ(told.sa_sigaction, &nothing);
  }
}

TEST(Action, BadSignalsAreRefused) {
  struct sigaction a {};
  a.sa_handler = &simple;
  for (const int s : {0, -1, 65, 1000, SIGKILL, SIGSTOP, 32, 33}) {
    EXPECT_EQ(sigaction(s, &a, nullptr), -1) << s;
    EXPECT_EQ(errno, EINVAL) << s;
  }
}

TEST(Action, SignalHasBsdSemantics) {
  EXPECT_EQ(signal(SIGUSR1, &simple), SIG_DFL);
  struct sigaction told {};
  sigaction(SIGUSR1, nullptr, &told);
  EXPECT_EQ(told.sa_handler, &simple);
  EXPECT_EQ(told.sa_flags & SA_RESTART, SA_RESTART);
  EXPECT_EQ(signal(SIGUSR1, SIG_DFL), &simple);
  errno = 0;
  EXPECT_EQ(signal(1000, &simple), SIG_ERR);
  EXPECT_EQ(errno, EINVAL);
}

TEST(Action, RawSystemCallsSeeTheSame) {
  Handler h(SIGUSR1, &nothing);
  struct {
    void* handler;
    unsigned long flags;
    void* restorer;
    unsigned long mask;
  } raw{};
  ASSERT_EQ(syscall(SYS_rt_sigaction, SIGUSR1, nullptr, &raw, 8), 0);
  EXPECT_EQ(raw.handler, reinterpret_cast<void*>(&nothing));
}

// System V's interface is deprecated, not gone.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
TEST(Action, SigsetHoldsAndReleases) {
  EXPECT_EQ(sigset(SIGUSR2, &simple), SIG_DFL);
  EXPECT_EQ(sigset(SIGUSR2, SIG_HOLD), &simple);
  raise(SIGUSR2);  // waits
  EXPECT_EQ(sigset(SIGUSR2, SIG_IGN), SIG_HOLD);
  EXPECT_EQ(sigset(SIGUSR2, SIG_DFL), SIG_IGN);
  EXPECT_EQ(siginterrupt(SIGUSR2, 1), 0);
  constexpr int kBit = 1 << (SIGUSR2 - 1);
  const int before = sigblock(kBit);
  EXPECT_EQ(sigsetmask(before), before | kBit);
}
#pragma GCC diagnostic pop

TEST(Action, ChildOfVforkHasItsOwnDispositions) {
  Handler h(SIGUSR1, &nothing);
  const pid_t child = vfork();
  if (child == 0) {
    signal(SIGUSR1, SIG_IGN);
    _exit(0);
  }
  int status;
  waitpid(child, &status, 0);
  struct sigaction told {};
  sigaction(SIGUSR1, nullptr, &told);
  EXPECT_EQ(told.sa_sigaction, &nothing);
  raise(SIGUSR1);
}

TEST(Action, SystemAndSpawnLeaveHandlersAlone) {
  Handler h(SIGINT, &nothing);
  EXPECT_EQ(system("kill -INT $$"), SIGINT);  // in the child the default action is back
  struct sigaction told {};
  sigaction(SIGINT, nullptr, &told);
  EXPECT_EQ(told.sa_sigaction, &nothing);
  raise(SIGINT);
}

TEST(DefaultAction, KillsByTheRightSignal) {
  EXPECT_EXIT(raise(SIGTERM), ::testing::KilledBySignal(SIGTERM), "");
  EXPECT_EXIT(raise(SIGSEGV), ::testing::KilledBySignal(SIGSEGV), "");
  EXPECT_EXIT(__builtin_trap(), ::testing::KilledBySignal(SIGILL), "");
  EXPECT_EXIT(fault(), ::testing::KilledBySignal(SIGSEGV), "");
  EXPECT_EXIT(asm volatile("int3"), ::testing::KilledBySignal(SIGTRAP), "");
  EXPECT_EXIT(abort(), ::testing::KilledBySignal(SIGABRT), "");
}

TEST(DefaultAction, IgnoringAFaultDoesNotHelp) {
  EXPECT_EXIT(
      {
        signal(SIGSEGV, SIG_IGN);
        fault();
      },
      ::testing::KilledBySignal(SIGSEGV), "");
  signal(SIGSEGV, SIG_IGN);
  raise(SIGSEGV);  // sent, not raised: ignored
  signal(SIGSEGV, SIG_DFL);
}

int g_count = 0;
void count(int, siginfo_t*, void*) {
  ++g_count;
}

TEST(Action, ResetHandIsForOneSignal) {
  Handler h(SIGUSR1, &count, static_cast<int>(SA_RESETHAND));
  g_count = 0;
  raise(SIGUSR1);
  EXPECT_EQ(g_count, 1);
  struct sigaction told {};
  sigaction(SIGUSR1, nullptr, &told);
  EXPECT_EQ(told.sa_handler, SIG_DFL);
  Handler segv(SIGSEGV, &count, static_cast<int>(SA_RESETHAND));
  raise(SIGSEGV);
  EXPECT_EQ(g_count, 2);
  EXPECT_EXIT(raise(SIGSEGV), ::testing::KilledBySignal(SIGSEGV), "");
}

}  // namespace
}  // namespace signals

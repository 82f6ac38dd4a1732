// What a handler sees, and that what it interrupted goes on as if nothing had been.
#include <gtest/gtest.h>
#include <immintrin.h>
#include <pthread.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <stdexcept>
#include <thread>

#include "softsgx/tests/signals/handler.h"

namespace signals {
namespace {

siginfo_t g_info;
ucontext_t g_context;
sigset_t g_mask_inside;
int g_count;

void note(int, siginfo_t* info, void* context) {
  g_info = *info;
  g_context = *static_cast<ucontext_t*>(context);
  sigprocmask(SIG_SETMASK, nullptr, &g_mask_inside);
  ++g_count;
}

TEST(Delivery, SiginfoIsTheSenders) {
  Handler h(SIGRTMIN + 2, &note);
  sigval v;
  v.sival_int = 4711;
  ASSERT_EQ(sigqueue(getpid(), SIGRTMIN + 2, v), 0);
  EXPECT_EQ(g_info.si_signo, SIGRTMIN + 2);
  EXPECT_EQ(g_info.si_code, SI_QUEUE);
  EXPECT_EQ(g_info.si_pid, getpid());
  EXPECT_EQ(g_info.si_value.sival_int, 4711);
}

TEST(Delivery, FaultDetailsAreTheKernels) {
  Handler h(SIGSEGV, [](int s, siginfo_t* info, void* context) {
    note(s, info, context);
    auto& g = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
    g[REG_RIP] += 2;  // movb (%rax), %al
    g[REG_RAX] = 77;
  });
  std::uint64_t rax = 0x1234;
  asm volatile(".byte 0x8a, 0x00" : "+a"(rax));
  EXPECT_EQ(rax, 77u);
  EXPECT_EQ(g_info.si_code, SEGV_MAPERR);
  EXPECT_EQ(g_info.si_addr, reinterpret_cast<void*>(0x1234));
  EXPECT_EQ(g_context.uc_mcontext.gregs[REG_TRAPNO], 14);
  EXPECT_EQ(g_context.uc_mcontext.gregs[REG_ERR], 4);
  EXPECT_EQ(g_context.uc_mcontext.gregs[REG_CR2], 0x1234);
}

TEST(Delivery, ResolvedFaultRetries) {
  static void* page;
  page = mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  Handler h(SIGSEGV, [](int, siginfo_t*, void*) { mprotect(page, 4096, PROT_READ | PROT_WRITE); });
  *static_cast<volatile int*>(page) = 5;
  EXPECT_EQ(*static_cast<volatile int*>(page), 5);
  munmap(page, 4096);
}

TEST(Delivery, MaskInsideAndAfter) {
  Handler h(SIGUSR1, &note, 0, {SIGUSR2});
  sigset_t before, after;
  sigprocmask(SIG_SETMASK, nullptr, &before);
  raise(SIGUSR1);
  EXPECT_EQ(sigismember(&g_mask_inside, SIGUSR1), 1);
  EXPECT_EQ(sigismember(&g_mask_inside, SIGUSR2), 1);
  EXPECT_EQ(sigismember(&g_mask_inside, SIGHUP), 0);
  sigprocmask(SIG_SETMASK, nullptr, &after);
  EXPECT_EQ(sigismember(&after, SIGUSR1), 0);
  EXPECT_EQ(sigismember(&after, SIGUSR2), 0);
  Handler nodefer(SIGUSR1, &note, SA_NODEFER);
  raise(SIGUSR1);
  EXPECT_EQ(sigismember(&g_mask_inside, SIGUSR1), 0);
}

TEST(Delivery, BlockedSignalsWait) {
  Handler h(SIGUSR1, &note);
  sigset_t s, pending;
  sigemptyset(&s);
  sigaddset(&s, SIGUSR1);
  g_count = 0;
  pthread_sigmask(SIG_BLOCK, &s, nullptr);
  raise(SIGUSR1);
  EXPECT_EQ(g_count, 0);
  sigpending(&pending);
  EXPECT_EQ(sigismember(&pending, SIGUSR1), 1);
  int got = 0;
  EXPECT_EQ(sigwait(&s, &got), 0);
  EXPECT_EQ(got, SIGUSR1);
  raise(SIGUSR1);
  pthread_sigmask(SIG_UNBLOCK, &s, nullptr);
  EXPECT_EQ(g_count, 1);
}

TEST(Delivery, HandlersNest) {
  static int depth, deepest;
  depth = deepest = 0;
  Handler inner(SIGUSR2, [](int, siginfo_t*, void*) {
    deepest = ++depth;
    --depth;
  });
  Handler outer(SIGUSR1, [](int, siginfo_t*, void*) {
    ++depth;
    raise(SIGUSR2);
    --depth;
  });
  raise(SIGUSR1);
  EXPECT_EQ(deepest, 2);
  EXPECT_EQ(depth, 0);
}

TEST(Delivery, RecursesWithNodefer) {
  static int left;
  left = 50;
  Handler h(
      SIGUSR1,
      [](int, siginfo_t*, void*) {
        if (left-- > 0) raise(SIGUSR1);
      },
      SA_NODEFER);
  raise(SIGUSR1);
  EXPECT_EQ(left, -1);
}

TEST(Delivery, ExtendedStateSurvivesTheHandler) {
  Handler h(SIGUSR1, [](int, siginfo_t*, void*) { asm volatile("vzeroall" ::: "memory"); });
  alignas(32) double out[4];
  const __m256d v = _mm256_set_pd(1, 2, 3, 4);
  asm volatile(
      "vmovapd %1, %%ymm9\n\t mov %2, %%edi\n\t mov $39, %%eax\n\t syscall\n\t mov %%eax, %%edi\n\t mov %2, %%esi\n\t "
      "mov $62, %%eax\n\t syscall\n\t vmovapd %%ymm9, %0"
      : "=m"(out)
      : "x"(v), "i"(SIGUSR1)
      : "rax", "rdi", "rsi", "rcx", "r11", "ymm9", "memory");
  EXPECT_EQ(out[0], 4);
  EXPECT_EQ(out[3], 1);
}

TEST(Delivery, HandlerStartsWithCleanFloatingPoint) {
  static unsigned mxcsr;
  Handler h(SIGUSR1, [](int, siginfo_t*, void*) { mxcsr = _mm_getcsr(); });
  const unsigned before = _mm_getcsr();
  _mm_setcsr(before | 0x6000);
  raise(SIGUSR1);
  EXPECT_EQ(mxcsr, 0x1f80u);
  EXPECT_EQ(_mm_getcsr(), before | 0x6000);
  _mm_setcsr(before);
}

TEST(Delivery, LongjmpOutOfTheHandler) {
  static sigjmp_buf target;
  Handler h(SIGSEGV, [](int, siginfo_t*, void*) { siglongjmp(target, 1); });
  static int left;
  for (left = 1000; left > 0; --left) {
    if (sigsetjmp(target, 1) == 0) {
      fault();
      FAIL();
    }
  }
}

TEST(Delivery, ExceptionOutOfTheHandler) {
  Handler h(
      SIGSEGV, [](int, siginfo_t*, void*) { throw std::runtime_error("fault"); }, SA_NODEFER);
  for (int i = 0; i < 10; ++i) {
    EXPECT_THROW(fault(), std::runtime_error);
  }
}

TEST(Delivery, SystemCallsRestartOrNot) {
  auto read_interrupted = [](int flags) {
    Handler h(SIGUSR1, &note, flags);
    int p[2];
    if (pipe(p) != 0) return -1;
    g_count = 0;
    const pthread_t self = pthread_self();
    std::thread writer([&] {
      while (g_count == 0) {
        pthread_kill(self, SIGUSR1);
        std::this_thread::yield();
      }
      const char c = 'x';
      EXPECT_EQ(write(p[1], &c, 1), 1);
    });
    char c;
    ssize_t r;
    int interrupted = 0;
    // The signal may also arrive before read(): then the byte is there at once.
    while ((r = read(p[0], &c, 1)) < 0 && errno == EINTR) ++interrupted;
    EXPECT_EQ(r, 1);
    writer.join();
    close(p[0]);
    close(p[1]);
    return interrupted;
  };
  EXPECT_EQ(read_interrupted(SA_RESTART), 0);
}

TEST(Delivery, ThreadsHaveTheirOwn) {
  static std::atomic<std::uint64_t> seen;
  Handler h(SIGUSR1, [](int, siginfo_t*, void*) { seen = pthread_self(); });
  std::atomic<bool> stop = false;
  std::thread t([&] {
    while (!stop) std::this_thread::yield();
  });
  seen = 0;
  pthread_kill(t.native_handle(), SIGUSR1);
  while (seen == 0) std::this_thread::yield();
  EXPECT_EQ(seen, t.native_handle());
  stop = true;
  t.join();
}

TEST(Delivery, CancellationUnwinds) {
  static std::atomic<bool> started, unwound;
  started = unwound = false;
  struct Guard {
    ~Guard() { unwound = true; }
  };
  pthread_t t;
  pthread_create(
      &t, nullptr,
      [](void*) -> void* {
        Guard g;
        started = true;
        for (;;) pause();
      },
      nullptr);
  while (!started) std::this_thread::yield();
  pthread_cancel(t);
  void* result = nullptr;
  pthread_join(t, &result);
  EXPECT_EQ(result, PTHREAD_CANCELED);
  EXPECT_TRUE(unwound);
}

TEST(Delivery, ForkInheritsHandlers) {
  Handler h(SIGUSR1, &note);
  const pid_t child = fork();
  if (child == 0) {
    g_count = 0;
    raise(SIGUSR1);
    _exit(g_count);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 1);
}

TEST(Delivery, UnderFire) {
  // Signals at random instructions of ordinary code, nested and not.
  static std::atomic<long> hits;
  hits = 0;
  Handler a(
      SIGUSR1, [](int, siginfo_t*, void*) { ++hits; }, SA_ONSTACK);
  Handler b(
      SIGUSR2, [](int, siginfo_t*, void*) { ++hits; }, SA_NODEFER);
  std::atomic<bool> stop = false;
  const pthread_t self = pthread_self();
  std::thread shooter([&] {
    while (!stop) {
      const long before = hits;  // one pair at a time: with SA_NODEFER an endless stream nests without bound
      pthread_kill(self, SIGUSR1);
      pthread_kill(self, SIGUSR2);
      while (!stop && hits < before + 2) std::this_thread::yield();
    }
  });
  std::uint64_t x = 1;
  while (hits < 3000) {
    for (int i = 0; i < 1000; ++i) x = x * 6364136223846793005u + 1442695040888963407u;
  }
  stop = true;
  shooter.join();
  EXPECT_NE(x, 0u);
}

}  // namespace
}  // namespace signals

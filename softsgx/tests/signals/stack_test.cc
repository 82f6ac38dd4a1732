// Alternate signal stacks.
#include <gtest/gtest.h>
#include <setjmp.h>

#include <cerrno>
#include <memory>
#include <thread>

#include "softsgx/tests/signals/handler.h"

namespace signals {
namespace {

std::uintptr_t g_frame;
stack_t g_told;
int g_change_error;

void note(int, siginfo_t*, void*) {
  g_frame = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
  sigaltstack(nullptr, &g_told);
  stack_t other{};
  other.ss_flags = SS_DISABLE;
  errno = 0;
  sigaltstack(&other, nullptr);
  g_change_error = errno;
}

class Stack : public ::testing::Test {
 protected:
  void SetUp() override {
    stack_t s{};
    s.ss_sp = memory.get();
    s.ss_size = kBytes;
    ASSERT_EQ(sigaltstack(&s, &before), 0);
  }
  void TearDown() override {
    stack_t off{};
    off.ss_flags = SS_DISABLE;
    EXPECT_EQ(sigaltstack(&off, nullptr), 0);
  }
  bool contains(std::uintptr_t at) const {
    const auto base = reinterpret_cast<std::uintptr_t>(memory.get());
    return at - base < kBytes;
  }
  static constexpr std::size_t kBytes = 64 * 1024;
  std::unique_ptr<char[]> memory = std::make_unique<char[]>(kBytes);
  stack_t before{};
};

TEST_F(Stack, IsOffAtFirstAndToldAsSet) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "AddressSanitizer sets an alternate stack in every thread";
#endif
  EXPECT_EQ(before.ss_flags, SS_DISABLE);
  stack_t told{};
  ASSERT_EQ(sigaltstack(nullptr, &told), 0);
  EXPECT_EQ(told.ss_sp, memory.get());
  EXPECT_EQ(told.ss_size, kBytes);
  EXPECT_EQ(told.ss_flags, 0);
}

TEST_F(Stack, IsUsedOnlyWithOnstack) {
  Handler on(SIGUSR1, &note, SA_ONSTACK);
  raise(SIGUSR1);
  EXPECT_TRUE(contains(g_frame));
  EXPECT_EQ(g_told.ss_flags, SS_ONSTACK);
  EXPECT_EQ(g_change_error, EPERM);
  Handler off(SIGUSR1, &note);
  raise(SIGUSR1);
  EXPECT_FALSE(contains(g_frame));
  EXPECT_EQ(g_change_error, 0);  // not in use: the handler may switch it off, and did
}

TEST_F(Stack, NestedHandlersShareIt) {
  static std::uintptr_t outer;
  Handler inner(SIGUSR2, &note, SA_ONSTACK);
  Handler h(
      SIGUSR1,
      [](int, siginfo_t*, void*) {
        outer = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
        raise(SIGUSR2);
      },
      SA_ONSTACK);
  raise(SIGUSR1);
  EXPECT_TRUE(contains(outer));
  EXPECT_TRUE(contains(g_frame));
  EXPECT_LT(g_frame, outer);
}

TEST_F(Stack, LongjmpLeavesItUsable) {
  static sigjmp_buf target;
  Handler h(
      SIGSEGV, [](int, siginfo_t*, void*) { siglongjmp(target, 1); }, SA_ONSTACK);
  static int left;
  for (left = 1000; left > 0; --left) {
    if (sigsetjmp(target, 1) == 0) fault();
  }
  Handler on(SIGUSR1, &note, SA_ONSTACK);
  raise(SIGUSR1);
  EXPECT_TRUE(contains(g_frame));
}

TEST_F(Stack, CatchesStackOverflow) {
  static sigjmp_buf target;
  struct Deep {
    static int fall(volatile char* p) {
      volatile char page[4096];
      page[0] = *p;
      return *p == 1 ? 0 : fall(page) + page[0];
    }
  };
  Handler h(
      SIGSEGV, [](int, siginfo_t*, void*) { siglongjmp(target, 1); }, SA_ONSTACK);
  volatile char c = 0;
  if (sigsetjmp(target, 1) == 0) {
    Deep::fall(&c);
    FAIL();
  }
}

TEST_F(Stack, IsTheThreadsOwn) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "AddressSanitizer sets an alternate stack in every thread";
#endif
  std::thread([] {
    stack_t told{};
    EXPECT_EQ(sigaltstack(nullptr, &told), 0);
    EXPECT_EQ(told.ss_flags, SS_DISABLE);
  }).join();
}

TEST_F(Stack, BadOnesAreRefused) {
  stack_t s{};
  s.ss_sp = memory.get();
  s.ss_size = 100;
  EXPECT_EQ(sigaltstack(&s, nullptr), -1);
  EXPECT_EQ(errno, ENOMEM);
  s.ss_size = kBytes;
  s.ss_flags = 77;
  EXPECT_EQ(sigaltstack(&s, nullptr), -1);
  EXPECT_EQ(errno, EINVAL);
}

}  // namespace
}  // namespace signals

#include "host/thread_group.h"

#include <gtest/gtest.h>

#include <malloc.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <future>

namespace sealift::host {
namespace {

std::size_t address_space_pages() {
  std::ifstream statm("/proc/self/statm");
  std::size_t pages = 0;
  statm >> pages;
  return pages;
}

TEST(ThreadGroup, ThoseThatEndedTakeNoMemory) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers keep memory for every thread";
#endif
  // Threads that free at the same time would take 64 MiB of address space each, for arenas of their own.
  ASSERT_EQ(::mallopt(M_ARENA_MAX, 1), 1);
  ThreadGroup group;
  const auto run_one = [&group] {
    std::promise<void> ran;
    group.start([&ran] { ran.set_value(); });
    ran.get_future().wait();
  };
  for (int i = 0; i < 20; ++i) run_one();  // glibc keeps some stacks for later
  const std::size_t before = address_space_pages();
  for (int i = 0; i < 200; ++i) run_one();
  constexpr std::size_t kStackPages = 8 * 256;
  // One that is slow to end keeps those waiting that are to join it, one by one.
  const auto too_much = [before] { return address_space_pages() >= before + 20 * kStackPages; };
  for (int i = 0; i < 6'000 && too_much(); ++i) ::usleep(10'000);
  EXPECT_FALSE(too_much()) << address_space_pages() - before << " pages for what is left of 200 threads";
  for (std::thread& thread : group.close()) thread.join();
}

TEST(ThreadGroup, ClosedWhileThreadsRunAndEnd) {
  for (int round = 0; round < 200; ++round) {
    ThreadGroup group;
    std::atomic<int> ran{0};
    std::promise<void> go;
    const std::shared_future<void> gone = go.get_future().share();
    for (int i = 0; i < 8; ++i) {
      group.start([&ran, gone, i] {
        if (i % 2 == 0) gone.wait();
        ++ran;
      });
    }
    auto left = group.close();
    go.set_value();
    group.start([&ran] { ran += 1000; });
    for (std::thread& thread : left) thread.join();
    EXPECT_EQ(ran, 8) << "all that were started have ended; none was started afterwards";
  }
}

}  // namespace
}  // namespace sealift::host

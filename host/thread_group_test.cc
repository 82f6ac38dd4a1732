#include "host/thread_group.h"

#include <gtest/gtest.h>

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
  EXPECT_LT(address_space_pages(), before + 20 * kStackPages) << "of 200";
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

#include "host/link/job_threads.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <future>
#include <memory>
#include <thread>
#include <vector>

namespace sealift::host {
namespace {

using Queues = std::vector<std::shared_ptr<JobThreads::Queue>>;

Queues queues(int n) {
  Queues out;
  for (int i = 0; i < n; ++i) out.push_back(std::make_shared<JobThreads::Queue>());
  return out;
}

void close_all(JobThreads& threads, const Queues& all) {
  for (const auto& queue : all) threads.close(*queue);
}

// Something that jobs wait for.
struct Gate {
  std::promise<void> promise;
  std::shared_future<void> opened = promise.get_future().share();
};

TEST(JobThreads, NoThreadWithoutAJob) {
  JobThreads threads(4);
  const auto all = queues(8);
  EXPECT_EQ(threads.threads(), 0u);
  std::promise<void> done;
  threads.post(all[0], [&done] { done.set_value(); });
  done.get_future().wait();
  EXPECT_EQ(threads.threads(), 1u);
  close_all(threads, all);
}

TEST(JobThreads, OneQueueIsDoneInOrder) {
  JobThreads threads(4);
  const auto all = queues(3);
  std::array<std::vector<int>, 3> seen;  // each written by one job at a time
  std::array<std::promise<void>, 3> done;
  for (int i = 0; i < 300; ++i) {
    for (std::size_t q = 0; q < 3; ++q) threads.post(all[q], [&seen, q, i] { seen[q].push_back(i); });
  }
  for (std::size_t q = 0; q < 3; ++q) threads.post(all[q], [&done, q] { done[q].set_value(); });
  for (std::size_t q = 0; q < 3; ++q) {
    done[q].get_future().wait();
    ASSERT_EQ(seen[q].size(), 300u);
    for (int i = 0; i < 300; ++i) EXPECT_EQ(seen[q][static_cast<std::size_t>(i)], i);
  }
  close_all(threads, all);
}

TEST(JobThreads, NoMoreThreadsThanCpusForJobsThatCompute) {
  JobThreads threads(2);
  const auto all = queues(8);
  Gate gate;
  std::atomic<int> begun{0};
  for (const auto& queue : all) {
    threads.post(queue, [&begun, opened = gate.opened] {
      ++begun;
      opened.wait();  // as one that computes: it does not say that it waits
    });
  }
  EXPECT_LE(threads.threads(), 2u);
  gate.promise.set_value();
  while (begun < 8) std::this_thread::yield();
  EXPECT_LE(threads.threads(), 2u);
  close_all(threads, all);
}

TEST(JobThreads, JobsThatWaitKeepNobodyFromWork) {
  JobThreads threads(1);
  const auto all = queues(8);
  Gate gate;
  for (std::size_t q = 0; q < 7; ++q) {
    threads.post(all[q], [&threads, opened = gate.opened] {
      const JobThreads::Waiting waiting(threads);
      opened.wait();
    });
  }
  std::promise<void> done;
  threads.post(all[7], [&done] { done.set_value(); });
  EXPECT_EQ(done.get_future().wait_for(std::chrono::seconds(60)), std::future_status::ready);
  gate.promise.set_value();
  close_all(threads, all);
  // What there is for the CPUs stays, the rest has nothing to do.
  std::promise<void> again;
  threads.post(queues(1)[0], [&again] { again.set_value(); });
  again.get_future().wait();
  while (threads.threads() > 1) std::this_thread::yield();
}

TEST(JobThreads, ACloseDropsWhatIsQueued) {
  JobThreads threads(1);
  const auto all = queues(2);
  Gate gate;
  std::promise<void> begun, done;
  std::atomic<bool> dropped{true};
  threads.post(all[0], [&begun, opened = gate.opened] {
    begun.set_value();
    opened.wait();
  });
  begun.get_future().wait();
  threads.post(all[1], [&dropped] { dropped = false; });
  threads.close(*all[1]);
  threads.post(all[1], [&dropped] { dropped = false; });
  gate.promise.set_value();
  threads.post(all[0], [&done] { done.set_value(); });
  done.get_future().wait();
  EXPECT_TRUE(dropped);
  close_all(threads, all);
}

TEST(JobThreads, ACloseWaitsForTheJobUnderWay) {
  JobThreads threads(1);
  const auto all = queues(1);
  Gate gate;
  std::promise<void> begun;
  std::atomic<bool> ended{false};
  threads.post(all[0], [&begun, &ended, opened = gate.opened] {
    begun.set_value();
    opened.wait();
    ended = true;
  });
  begun.get_future().wait();
  auto closed = std::async(std::launch::async, [&] {
    threads.close(*all[0]);
    return ended.load();
  });
  EXPECT_EQ(closed.wait_for(std::chrono::milliseconds(50)), std::future_status::timeout);
  gate.promise.set_value();
  EXPECT_TRUE(closed.get());
}

}  // namespace
}  // namespace sealift::host

// ThreadGroup: threads that end by themselves, each in its own time.
//
// The memory of a thread's stack is given back when it is joined, and nobody waits for these: so each that ends joins
// the one that ended before it. At most one that has ended is left at any time.
//
// Thread-safe. The owner calls close() and joins what it returns before the group goes away.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <list>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

namespace sealift::host {

class ThreadGroup {
 public:
  // Does nothing once the group is closed. Throws std::system_error if there can be no more threads.
  template <typename Body>
  void start(Body body) {
    const std::lock_guard lock(mutex_);
    if (closed_) return;
    const auto self = threads_.emplace(threads_.end());
    try {
      *self = std::thread([this, self, body = std::move(body)]() mutable {
        body();
        retire(self);
      });
      ++running_;
    } catch (const std::system_error&) {
      threads_.erase(self);
      throw;
    }
  }

  // After close(): true if all have ended, which a thread has when it does nothing more but to end; false if they have
  // not within this time.
  [[nodiscard]] bool wait_ended(std::chrono::milliseconds time) {
    std::unique_lock lock(mutex_);
    return ended_all_.wait_for(lock, time, [this] { return running_ == 0; });
  }

  // No more threads. What is left to be joined, by the caller.
  [[nodiscard]] std::list<std::thread> close() {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    if (ended_.joinable()) threads_.push_back(std::move(ended_));
    return std::exchange(threads_, {});
  }

 private:
  void retire(std::list<std::thread>::iterator self) {
    std::thread before;
    {
      const std::lock_guard lock(mutex_);
      if (--running_ == 0) ended_all_.notify_all();
      if (closed_) return;  // whoever closed it has the list
      before = std::exchange(ended_, std::move(*self));
      threads_.erase(self);
    }
    if (before.joinable()) before.join();
  }

  std::mutex mutex_;
  std::list<std::thread> threads_;  // that have not ended
  std::thread ended_;               // the last one that has
  std::size_t running_ = 0;
  std::condition_variable ended_all_;
  bool closed_ = false;
};

}  // namespace sealift::host

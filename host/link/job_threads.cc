#include "host/link/job_threads.h"

#include <algorithm>
#include <system_error>
#include <utility>

namespace sealift::host {

JobThreads::JobThreads(std::size_t cpus) : cpus_(std::max<std::size_t>(cpus, 1)) {}

JobThreads::~JobThreads() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  for (std::thread& thread : group_.close()) thread.join();
}

void JobThreads::post(const std::shared_ptr<Queue>& queue, Job job) {
  const std::lock_guard lock(mutex_);
  if (queue->closed_) return;
  queue->jobs_.push_back(std::move(job));
  if (std::exchange(queue->listed_, true)) return;
  ready_.push_back(queue);
  make_threads();
  changed_.notify_one();
}

void JobThreads::close(Queue& queue) {
  std::unique_lock lock(mutex_);
  queue.closed_ = true;
  queue.jobs_.clear();
  queue.idle_.wait(lock, [&] { return !queue.running_; });
}

void JobThreads::set_waiting(bool waiting) {
  const std::lock_guard lock(mutex_);
  waiting ? ++waiting_ : --waiting_;
  if (waiting) make_threads();
}

void JobThreads::make_threads() {
  for (std::size_t idle = idle_; idle < ready_.size() && threads_ - waiting_ < cpus_; ++idle) {
    try {
      group_.start([this] { work(); });
    } catch (const std::system_error&) {
      return;  // the system has no more: those that there are will do it, or one that the next job makes
    }
    ++threads_;
  }
}

void JobThreads::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    if (ready_.empty()) {
      if (stopping_ || threads_ > cpus_) break;
      ++idle_;
      changed_.wait(lock);
      --idle_;
      continue;
    }
    const auto queue = std::move(ready_.front());
    ready_.pop_front();
    if (!queue->jobs_.empty()) {
      Job job = std::move(queue->jobs_.front());
      queue->jobs_.pop_front();
      queue->running_ = true;
      lock.unlock();
      job();
      job = nullptr;  // what it holds may want the mutex
      lock.lock();
      queue->running_ = false;
      queue->idle_.notify_all();
    }
    queue->listed_ = !queue->jobs_.empty();
    if (queue->listed_) ready_.push_back(queue);
  }
  --threads_;
}

std::size_t JobThreads::threads() {
  const std::lock_guard lock(mutex_);
  return threads_;
}

}  // namespace sealift::host

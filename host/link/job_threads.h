// JobThreads: the threads on which a process's enclaves are called, shared by all of them.
//
// Jobs of one queue are done in order, one at a time; different queues side by side, by as many threads as there are
// CPUs. A job that waits for something says so (Waiting), and does not count as one of these: so no number of enclaves
// that stand still, or dumps that nobody takes, keeps another enclave from being called. When its wait is over it goes
// on at once. Threads are made when there is something to do; those beyond the CPUs end when there is not.
//
// A new thread has the signal mask of the one that gave it reason to be, by post() or by waiting.
//
// Thread-safe. Queues are closed before their JobThreads goes.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>

#include "host/thread_group.h"

namespace sealift::host {

class JobThreads {
 public:
  using Job = std::function<void()>;

  class Queue {
    friend class JobThreads;
    std::deque<Job> jobs_;  // all under the mutex
    bool listed_ = false;   // in ready_, or being worked on
    bool running_ = false;
    bool closed_ = false;
    std::condition_variable idle_;
  };

  // A job's own thread, while it waits.
  class Waiting {
   public:
    explicit Waiting(JobThreads& owner) : owner_(owner) { owner_.set_waiting(true); }
    ~Waiting() { owner_.set_waiting(false); }
    Waiting(const Waiting&) = delete;
    Waiting& operator=(const Waiting&) = delete;

   private:
    JobThreads& owner_;
  };

  explicit JobThreads(std::size_t cpus);
  ~JobThreads();
  JobThreads(const JobThreads&) = delete;
  JobThreads& operator=(const JobThreads&) = delete;

  void post(const std::shared_ptr<Queue>& queue, Job job);
  // Drops what is queued, and waits for the job that is being done. Not from inside a job.
  void close(Queue& queue);

  // For tests: threads that there are now.
  [[nodiscard]] std::size_t threads();

 private:
  void work();
  void set_waiting(bool waiting);
  void make_threads();  // as many as are missing; under the mutex

  const std::size_t cpus_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::shared_ptr<Queue>> ready_;  // have jobs, and nobody does them
  std::size_t threads_ = 0, idle_ = 0, waiting_ = 0;
  bool stopping_ = false;
  ThreadGroup group_;  // last: its threads use all of the above
};

}  // namespace sealift::host

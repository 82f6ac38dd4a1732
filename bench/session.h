// One migration in the laboratory, driven by the benchmark: two machines, a process on each, clocks beside the work.
#pragma once

#include <sched.h>

#include <memory>
#include <string>

#include "bench/enclaves/calls.h"
#include "tests/lab/lab.h"

namespace sealift::bench {

struct Options {
  bool json = false;
  bool smoke = false;  // small sizes, few repetitions: does it work?
  std::string only;    // part of figures' names
};

// Throws with one line for a person when `e` is not kOk.
void must(Errc e, const std::string& what, const lab::Peer& peer);

struct DumpTimes {
  std::uint64_t quiesce_ns = 0, inside_ns = 0, inside_cpu_ns = 0, all_ns = 0, copied_cpu_ns = 0, bytes = 0;
};
struct FeedTimes {
  std::uint64_t inside_ns = 0, inside_cpu_ns = 0, all_ns = 0, copied_cpu_ns = 0;
};
struct CallTimes {
  std::uint64_t ns = 0, cpu_ns = 0;
};

// While it lives this thread, and what it starts, runs on the CPU that it is on now: a virtual machine's CPUs may
// differ in speed for seconds, and then two processes that are to be compared must not sit on different ones.
class OnOneCpu {
 public:
  OnOneCpu();
  ~OnOneCpu();
  OnOneCpu(const OnOneCpu&) = delete;
  OnOneCpu& operator=(const OnOneCpu&) = delete;

 private:
  cpu_set_t before_;
};

// A source with an enclave that runs; the stream goes through a file in memory.
class Source {
 public:
  Source(lab::LabMachine& machine, const std::string& enclave);
  void fill(std::uint64_t bytes);
  // An attempt as far as the target's key; `target` null: dumped for nobody.
  [[nodiscard]] std::unique_ptr<lab::Migration> prepare(lab::LabMachine& to, lab::Peer* target);
  [[nodiscard]] DumpTimes dump();
  [[nodiscard]] FeedTimes feed(lab::Peer& target, std::uint64_t bytes);
  void cancel();

  lab::LabMachine& machine;
  lab::Peer peer;
  const std::string enclave;

 private:
  std::string stream_;
  std::uint64_t capacity_;
};

// One ecall that does nothing.
[[nodiscard]] CallTimes run_nothing(lab::Peer& peer);
[[nodiscard]] CallTimes run_kernel(lab::Peer& peer, workload::Kernel which, std::uint32_t size);

}  // namespace sealift::bench

// The enclave that is measured: ballast to move, threads to stop, kernels to slow down.
#include <atomic>
#include <thread>
#include <vector>

#include "bench/enclaves/calls.h"
#include "bench/enclaves/kernels.h"
#include "sealift/trusted.h"

namespace {

std::vector<std::uint64_t> ballast;
std::vector<std::thread> busy;
std::atomic<bool> stop{false};

void fill(std::uint64_t bytes) {
  ballast.resize(bytes / sizeof ballast[0]);
  std::uint64_t x = 0x9e3779b97f4a7c15;
  for (std::uint64_t& word : ballast) word = x = x * 6364136223846793005u + 1442695040888963407u;
}

std::uint64_t checksum() {
  std::uint64_t sum = 0;
  for (const std::uint64_t word : ballast) sum = sum * 1099511628211u + word;
  return sum;
}

void work() {
  volatile std::uint64_t x = 1;
  while (!stop.load(std::memory_order_relaxed)) x = x * 6364136223846793005u + 1;
}

void start_busy(std::uint32_t n) {
  for (std::uint32_t i = 0; i < n; ++i) busy.emplace_back(work);
}

void stop_busy() {
  stop = true;
  for (std::thread& t : busy) t.join();
  busy.clear();
  stop = false;
}

const sealift::Define kDefinitions[] = {
    {workload::kFill, fill},
    {workload::kStartBusy, start_busy},
    {workload::kStopBusy, stop_busy},
    {workload::kRun,
     [](std::uint32_t which, std::uint32_t size) {
       return workload::run_kernel(static_cast<workload::Kernel>(which), size);
     }},
    {workload::kChecksum, checksum},
};

}  // namespace

// The smallest enclave that proves the runtime: containers, exceptions, threads.
#include "tests/enclaves/hello_calls.h"

#include <map>
#include <mutex>
#include <numeric>
#include <stdexcept>
#include <thread>
#include <vector>

#include "sealift/trusted.h"

namespace {

std::string greet(const std::string& name, std::uint32_t times) {
  std::string out;
  for (std::uint32_t i = 0; i < times; ++i) out += "hello " + name + "\n";
  return out;
}

std::uint64_t sum_in_threads(std::uint32_t threads, std::uint32_t rounds) {
  std::mutex mutex;
  std::uint64_t sum = 0;
  std::vector<std::thread> workers;
  for (std::uint32_t t = 0; t < threads; ++t) {
    workers.emplace_back([&] {
      for (std::uint32_t i = 0; i < rounds; ++i) {
        const std::lock_guard lock(mutex);
        ++sum;
      }
    });
  }
  for (std::thread& w : workers) w.join();
  return sum;
}

void throws() {
  throw std::runtime_error("a secret");
}

std::int32_t catches() {
  const std::map<int, int> empty;
  try {
    return empty.at(7);
  } catch (const std::out_of_range&) {
    return 42;
  }
}

const sealift::Define kDefinitions[] = {
    {hello::kGreet, greet},
    {hello::kSumInThreads, sum_in_threads},
    {hello::kThrows, throws},
    {hello::kCatches, catches},
    {hello::kAskHost,
     [](std::uint32_t v) -> std::uint32_t {
       const auto doubled = sealift::ocall(hello::kDouble, v);
       return doubled ? *doubled : 0;
     }},
    {hello::kCrash, [](std::uint64_t address) { *reinterpret_cast<volatile int*>(address) = 1; }},
    {hello::kAskHostThenCrash,
     [] {
       if (sealift::ocall(hello::kDouble, 1u)) __builtin_trap();
     }},
};

}  // namespace

// The enclave of the migration tests: shared state under a mutex, worked on by threads inside, and state that must
// travel.
#include "tests/enclaves/counter_calls.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <map>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <vector>

#include "sealift/trusted.h"

namespace {

std::mutex mutex;
// Invariant under the mutex: the three are equal, and every element of `history` is one more than the one before.
std::uint64_t first, second, third;
std::vector<std::uint64_t> history;
std::map<std::string, std::string> table;
std::vector<std::thread> workers;
std::atomic<bool> stop{false};
std::atomic<std::uint64_t> steps{0};
std::vector<std::uint8_t> ballast;

std::uint64_t next() {
  ++steps;
  const std::lock_guard lock(mutex);
  ++first;
  history.push_back(first);
  if (history.size() > 1000) history.erase(history.begin(), history.begin() + 500);
  try {
    if (first % 7 == 0) throw std::runtime_error("exceptions must survive being interrupted");
  } catch (const std::runtime_error&) {
    ++second;
    third = second;
    return first;
  }
  return second = third = first;
}

void step() {
  next();
}

void work() {
  thread_local std::uint64_t rounds = 0;
  while (!stop.load(std::memory_order_relaxed)) {
    step();
    ++rounds;
  }
}

void start_workers(std::uint32_t n) {
  for (std::uint32_t i = 0; i < n; ++i) workers.emplace_back(work);
}

void stop_workers() {
  stop = true;
  for (std::thread& w : workers) w.join();
  workers.clear();
  stop = false;
}

bool consistent_locked() {
  if (first != second || second != third) return false;
  for (std::size_t i = 1; i < history.size(); ++i) {
    if (history[i] != history[i - 1] + 1) return false;
  }
  return true;
}

counter::State state() {
  const std::lock_guard lock(mutex);
  return {first, consistent_locked()};
}

void fill(std::uint64_t bytes, std::uint8_t seed) {
  ballast.resize(bytes);
  for (std::size_t i = 0; i < ballast.size(); ++i) ballast[i] = static_cast<std::uint8_t>(i * 31 + seed + (i >> 12));
}

std::uint64_t checksum() {
  std::uint64_t sum = 0;
  for (const std::uint8_t b : ballast) sum = sum * 1099511628211u + b;
  return sum;
}

counter::Fresh fresh(std::uint64_t bytes) {
  void* area = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (area == MAP_FAILED) return {};
  const auto* p = static_cast<const volatile std::uint8_t*>(area);
  counter::Fresh out{reinterpret_cast<std::uint64_t>(area), 0};
  for (std::uint64_t i = 0; i < bytes; ++i) out.dirty += p[i] != 0 ? 1 : 0;
  munmap(area, bytes);
  return out;
}

std::tuple<std::int64_t, bool> read_host(std::uint64_t bytes) {
  constexpr std::size_t kRoom = 8192;
  std::vector<std::uint8_t> buffer(kRoom, 0x5a);
  const ssize_t n = read(0, buffer.data(), std::min<std::uint64_t>(bytes, kRoom));
  bool intact = true;
  for (std::size_t i = bytes; i < kRoom; ++i) intact = intact && buffer[i] == 0x5a;
  return {n < 0 ? -errno : n, intact};
}

const sealift::Define kDefinitions[] = {
    {counter::kStep, step},
    {counter::kState, state},
    {counter::kStartWorkers, start_workers},
    {counter::kStopWorkers, stop_workers},
    {counter::kPut, [](const std::string& k, const std::string& v) { table[k] = v; }},
    {counter::kGet, [](const std::string& k) { return table[k]; }},
    {counter::kFill, fill},
    {counter::kChecksum, checksum},
    {counter::kSpin,
     [](std::uint64_t until) -> std::uint64_t {
       // In flight across a migration: a call that ends only when the counter has got there.
       for (;;) {
         const std::lock_guard lock(mutex);
         if (first >= until) return first;
       }
     }},
    {counter::kIdentity, [] { return sealift::identity().epoch; }},
    {counter::kFresh, fresh},
    {counter::kRead, read_host},
    {counter::kNext, next},
    {counter::kWatch,
     [](std::uint64_t until) -> std::uint64_t {
       while (steps.load(std::memory_order_relaxed) < until) {
       }
       return steps.load();
     }},
    {counter::kWaitForNothing,
     [] {
       std::condition_variable nothing;
       std::unique_lock lock(mutex);
       nothing.wait(lock, [] { return false; });
     }},
};

}  // namespace

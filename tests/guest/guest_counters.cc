// Counters in a guest, each in an enclave of its own with one thread that counts: every answer must be one more than
// the one before, over any number of moves. What has become of them is told once a second, in one line, on stdout.
//
// guest_counters IMAGE COUNT PAUSE_MS NAME: pauses so long after each step. Ends when an enclave does not answer.
//   counters NAME: 8 enclaves, 1234 steps, 0 wrong, 0 inconsistent, epochs 3 to 3, longest gap 850 ms
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "sealift/enclave.h"
#include "tests/enclaves/counter_calls.h"

namespace {

using Clock = std::chrono::steady_clock;

struct Counter {
  std::unique_ptr<sealift::Enclave> enclave;
  std::thread thread;
  std::atomic<std::uint64_t> steps{0}, wrong{0}, gap_ms{0};
  std::atomic<sealift::Errc> error{sealift::Errc::kOk};
};

void count(Counter& c, std::chrono::milliseconds pause) {
  std::uint64_t last = 0;
  for (auto before = Clock::now();;) {
    const auto value = c.enclave->call(counter::kNext);
    if (!value.ok()) {
      c.error = value.error();
      return;
    }
    if (*value != last + 1) {
      ++c.wrong;
      std::printf("counters: %llu came after %llu\n", static_cast<unsigned long long>(*value),
                  static_cast<unsigned long long>(last));
    }
    last = *value;
    ++c.steps;
    const auto now = Clock::now();
    const auto gap = std::chrono::duration_cast<std::chrono::milliseconds>(now - before).count();
    c.gap_ms = std::max(c.gap_ms.load(), static_cast<std::uint64_t>(gap));
    before = now;
    std::this_thread::sleep_for(pause);
  }
}

// False: one of them does not answer any more.
bool tell(const std::string& name, std::vector<std::unique_ptr<Counter>>& all) {
  std::uint64_t steps = 0, wrong = 0, inconsistent = 0, gap = 0, oldest = ~std::uint64_t{0}, newest = 0;
  for (const auto& c : all) {
    const std::uint64_t acknowledged = c->steps;  // before the state, which must have them
    const auto state = c->enclave->call(counter::kState);
    const auto epoch = c->enclave->call(counter::kIdentity);
    if (!state.ok() || !epoch.ok() || c->error != sealift::Errc::kOk) {
      const sealift::Errc error = !state.ok() ? state.error() : !epoch.ok() ? epoch.error() : c->error.load();
      std::printf("counters %s: an enclave does not answer: %s\n", name.c_str(), sealift::errc_name(error));
      return false;
    }
    steps += acknowledged;
    wrong += c->wrong;
    inconsistent += state->consistent && state->value >= acknowledged ? 0 : 1;
    gap = std::max(gap, c->gap_ms.load());
    oldest = std::min(oldest, *epoch);
    newest = std::max(newest, *epoch);
  }
  const auto n = [](std::uint64_t v) { return static_cast<unsigned long long>(v); };
  std::printf(
      "counters %s: %zu enclaves, %llu steps, %llu wrong, %llu inconsistent, epochs %llu to %llu, longest gap %llu "
      "ms\n",
      name.c_str(), all.size(), n(steps), n(wrong), n(inconsistent), n(oldest), n(newest), n(gap));
  return true;
}

int run(const std::string& image, int enclaves, std::chrono::milliseconds pause, const std::string& name) {
  std::vector<std::unique_ptr<Counter>> all;
  for (int i = 0; i < enclaves; ++i) {
    all.emplace_back(std::make_unique<Counter>())->enclave = sealift::Enclave::open(image);
  }
  for (const auto& c : all) c->thread = std::thread([&c = *c, pause] { count(c, pause); });
  while (tell(name, all)) std::this_thread::sleep_for(std::chrono::seconds(1));
  std::_Exit(1);  // whatever calls are under way
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) return 2;
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  try {
    return run(argv[1], std::stoi(argv[2]), std::chrono::milliseconds(std::stoi(argv[3])), argv[4]);
  } catch (const std::exception& error) {
    std::printf("counters %s: %s\n", argv[4], error.what());
    return 1;
  }
}

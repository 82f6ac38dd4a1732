// The rate of this machine's time stamp counter in kHz, for a guest under TCG (scripts/vm-run).
//
// There rdtsc gives the host's counter, and a guest that measures its rate at boot against emulated timers gets it
// wrong by any factor when other work on the host interrupts the measurement: seen 3.5 times too small, so that the
// guest's clock ran as much too fast and every timeout in it was as much too short.
#include <x86intrin.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <thread>

namespace {

using Clock = std::chrono::steady_clock;

struct Instant {
  std::uint64_t ticks;
  Clock::time_point time;
};

// Both at the same moment: of some readings the one that took the least.
Instant now() {
  constexpr int kTries = 50;
  Instant best{};
  std::uint64_t shortest = ~std::uint64_t{0};
  for (int i = 0; i < kTries; ++i) {
    const std::uint64_t before = __rdtsc();
    const Clock::time_point time = Clock::now();
    const std::uint64_t after = __rdtsc();
    if (after - before >= shortest) continue;
    shortest = after - before;
    best = {before + (after - before) / 2, time};
  }
  return best;
}

}  // namespace

int main() {
  const Instant begin = now();
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  const Instant end = now();
  const double milliseconds = std::chrono::duration<double, std::milli>(end.time - begin.time).count();
  std::printf("%.0f\n", static_cast<double>(end.ticks - begin.ticks) / milliseconds);
}

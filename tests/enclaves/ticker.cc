// A program of its own: counts in its main, prints what it counts, and keeps its state across migrations.
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <mutex>

#include "sealift/trusted.h"

int main(int argc, char** argv) {
  const int until = argc > 1 ? std::atoi(argv[1]) : 10;
  std::mutex mutex;
  std::condition_variable never;
  auto last = std::chrono::steady_clock::now();
  for (int i = 1; i <= until; ++i) {
    const auto now = std::chrono::steady_clock::now();
    if (now < last) {
      std::puts("time ran backwards");
      return 1;
    }
    last = now;
    std::printf("tick %d epoch %llu\n", i, static_cast<unsigned long long>(sealift::identity().epoch));
    std::fflush(stdout);
    std::unique_lock lock(mutex);
    never.wait_for(lock, std::chrono::milliseconds(20));
  }
  return 42;
}

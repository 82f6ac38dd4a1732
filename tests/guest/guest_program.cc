// A program in a guest: several enclaves, each worked on without a pause, that tells what became of them when asked.
//
// guest_program IMAGE COUNT WORKERS. Reads lines: "state" -> a line for each enclave, then "end"; end of input: ends.
//   enclave I acked N value V consistent 0|1 epoch E error TEXT
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "sealift/enclave.h"
#include "tests/enclaves/counter_calls.h"

namespace {

struct Worked {
  std::unique_ptr<sealift::Enclave> enclave;
  std::atomic<std::uint64_t> acked{0};
  std::atomic<sealift::Errc> error{sealift::Errc::kOk};
  std::thread thread;
};

void tell(std::size_t i, Worked& w) {
  const std::uint64_t acked = w.acked.load();  // before the value, which must be at least this
  const auto state = w.enclave->call(counter::kState);
  const auto epoch = w.enclave->call(counter::kIdentity);
  const auto error = state.ok() ? w.error.load() : state.error();
  std::printf("enclave %zu acked %llu value %llu consistent %d epoch %llu error %s\n", i,
              static_cast<unsigned long long>(acked), static_cast<unsigned long long>(state.ok() ? state->value : 0),
              state.ok() && state->consistent ? 1 : 0, static_cast<unsigned long long>(epoch.ok() ? *epoch : 0),
              sealift::errc_name(error));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  try {
    const auto workers = static_cast<std::uint32_t>(std::stoul(argv[3]));
    std::vector<std::unique_ptr<Worked>> all;
    for (int i = 0; i < std::stoi(argv[2]); ++i) {
      auto& w = *all.emplace_back(std::make_unique<Worked>());
      w.enclave = sealift::Enclave::open(argv[1]);
      // The first has threads of its own inside as well, which are parked in the middle of what they do.
      if (i == 0 && !w.enclave->call(counter::kStartWorkers, workers).ok()) return 1;
    }
    for (const auto& w : all) {
      w->thread = std::thread([&w = *w] {
        for (;;) {
          const auto stepped = w.enclave->call(counter::kStep);
          if (!stepped.ok()) {
            w.error = stepped.error();
            return;
          }
          ++w.acked;
          std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
      });
    }
    std::puts("ready");
    std::fflush(stdout);
    for (std::string line; std::getline(std::cin, line);) {
      for (std::size_t i = 0; i < all.size(); ++i) tell(i, *all[i]);
      std::puts("end");
      std::fflush(stdout);
    }
    // The test has seen enough, whatever calls are under way.
    std::_Exit(0);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "guest_program: %s\n", error.what());
    return 1;
  }
  return 0;
}

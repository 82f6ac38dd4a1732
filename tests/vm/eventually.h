#pragma once

#include <poll.h>

#include <chrono>

namespace sealift::vm_test {

// TCG on a busy machine: for hangs, not for speed.
inline constexpr std::chrono::seconds kPatience{150};

template <typename Test>
[[nodiscard]] bool eventually(Test test, std::chrono::seconds patience = kPatience) {
  using Clock = std::chrono::steady_clock;
  for (const auto deadline = Clock::now() + patience; Clock::now() < deadline; ::poll(nullptr, 0, 50)) {
    if (test()) return true;
  }
  return false;
}

}  // namespace sealift::vm_test

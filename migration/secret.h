// Secret<N>: bytes that are wiped when they go out of scope, on every path. Moving wipes the origin; copying is
// explicit.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace sealift {

// Not optimised away: the barrier makes the zeroes observable.
inline void wipe(void* data, std::size_t size) noexcept {
  std::memset(data, 0, size);
  __asm__ volatile("" : : "r"(data) : "memory");
}

template <std::size_t N>
class Secret {
 public:
  Secret() noexcept = default;
  explicit Secret(std::span<const std::uint8_t, N> from) noexcept { std::memcpy(bytes_.data(), from.data(), N); }
  ~Secret() { wipe(bytes_.data(), N); }
  Secret(const Secret&) = delete;
  Secret& operator=(const Secret&) = delete;
  Secret(Secret&& other) noexcept : bytes_(other.bytes_) { other.clear(); }
  Secret& operator=(Secret&& other) noexcept {
    if (this != &other) {
      bytes_ = other.bytes_;
      other.clear();
    }
    return *this;
  }
  void clear() noexcept { wipe(bytes_.data(), N); }
  [[nodiscard]] std::uint8_t* data() noexcept { return bytes_.data(); }
  [[nodiscard]] const std::uint8_t* data() const noexcept { return bytes_.data(); }
  [[nodiscard]] static constexpr std::size_t size() noexcept { return N; }
  [[nodiscard]] std::span<const std::uint8_t, N> view() const noexcept { return bytes_; }

 private:
  std::array<std::uint8_t, N> bytes_{};
};

// Wipes an object of plain bytes (a message that carried a key) at the end of its scope.
template <typename T>
class WipeOnExit {
 public:
  explicit WipeOnExit(T& object) noexcept : object_(object) {}
  ~WipeOnExit() { wipe(&object_, sizeof(T)); }
  WipeOnExit(const WipeOnExit&) = delete;
  WipeOnExit& operator=(const WipeOnExit&) = delete;

 private:
  T& object_;
};

}  // namespace sealift

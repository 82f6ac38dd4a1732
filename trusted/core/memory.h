// Copies, constant-time compares, wiping, and the one gate for bytes that cross the enclave's boundary.
//
// Freestanding. Nothing here allocates, locks, or touches TLS.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sealift::core {

// Named for what they are, so that nothing in core refers to a C library.
//
// The only way to read what the host can change: no compiler reads twice through it.
void copy(void* to, const void* from, std::size_t n) noexcept;
void fill(void* to, std::uint8_t value, std::size_t n) noexcept;
// True when equal; time depends on n alone.
[[nodiscard]] bool equal_ct(const void* a, const void* b, std::size_t n) noexcept;
// Zeroes memory in a way the compiler keeps.
void wipe(void* p, std::size_t n) noexcept;
// True when the page at p (aligned) holds only zeroes.
[[nodiscard]] bool page_is_zero(const void* p) noexcept;

inline constexpr std::size_t kCacheLine = 64;

// Prefetches, which never fault. Not __builtin_prefetch: g++ leaves out calls of a function that does nothing else.
inline void fetch_to_l1(const std::uint8_t* p) noexcept {
  asm volatile("prefetcht0 %0" : : "m"(*p));
}
inline void fetch_to_l2(const std::uint8_t* p) noexcept {
  asm volatile("prefetcht1 %0" : : "m"(*p));
}
inline void fetch_to_write(const std::uint8_t* p) noexcept {
  asm volatile("prefetchw %0" : : "m"(*p));
}

// For a few bytes of the enclave's own, where `copy` would take longer to start than to copy.
template <typename T>
inline void copy_own(void* to, const T& from) noexcept {
  static_assert(sizeof(T) <= 64);
  __builtin_memcpy(to, &from, sizeof(T));
}

// The same to memory outside, which is written once and never read back.
template <typename T>
inline void store_outside(void* to, const T& from) noexcept {
  static_assert(sizeof(T) % sizeof(std::uint64_t) == 0 && sizeof(T) <= 64);
  std::uint64_t words[sizeof(T) / sizeof(std::uint64_t)];
  copy_own(words, from);
  auto* at = static_cast<std::uint8_t*>(to);
  for (const std::uint64_t word : words) {
    asm volatile("movq %1, (%0)" : : "r"(at), "r"(word) : "memory");
    at += sizeof word;
  }
}

// Wipes an object when the scope is left, on every path.
template <typename T>
class ScopedWipe {
 public:
  explicit ScopedWipe(T& object) noexcept : object_(object) {}
  ~ScopedWipe() { wipe(&object_, sizeof(T)); }
  ScopedWipe(const ScopedWipe&) = delete;
  ScopedWipe& operator=(const ScopedWipe&) = delete;

 private:
  T& object_;
};

}  // namespace sealift::core

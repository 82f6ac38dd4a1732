// Memory of the data, counted: a full store answers -OOM while calls and replies still find room in the heap.
//
// Thread-safe. Everything kept between commands is allocated through Allocator; what lives for one command is not.
#pragma once

#include <atomic>
#include <cstddef>
#include <limits>
#include <memory>
#include <new>
#include <string>
#include <type_traits>
#include <utility>

namespace kv {

class Memory {
 public:
  // Throws std::bad_alloc when the limit would be passed.
  static void take(std::size_t bytes) {
    if (used_.fetch_add(bytes, std::memory_order_relaxed) + bytes <= limit_.load(std::memory_order_relaxed)) return;
    give(bytes);
    throw std::bad_alloc();
  }
  static void give(std::size_t bytes) noexcept { used_.fetch_sub(bytes, std::memory_order_relaxed); }
  static void set_limit(std::size_t bytes) noexcept { limit_.store(bytes); }
  [[nodiscard]] static std::size_t used() noexcept { return used_.load(std::memory_order_relaxed); }
  [[nodiscard]] static std::size_t limit() noexcept { return limit_.load(std::memory_order_relaxed); }
  // What malloc takes for a block: 8 bytes of its own, units of 16, at least 32 (glibc's chunks).
  [[nodiscard]] static constexpr std::size_t cost(std::size_t bytes) noexcept {
    return bytes <= 24 ? 32 : (bytes + 8 + 15) & ~std::size_t{15};
  }

 private:
  static inline std::atomic<std::size_t> used_{0};
  static inline std::atomic<std::size_t> limit_{std::numeric_limits<std::size_t>::max()};
};

template <typename T>
struct Allocator {
  using value_type = T;
  using is_always_equal = std::true_type;
  Allocator() noexcept = default;
  template <typename U>
  Allocator(const Allocator<U>& /*other*/) noexcept {}  // NOLINT(google-explicit-constructor): required of allocators

  T* allocate(std::size_t n) {
    if (n > std::numeric_limits<std::size_t>::max() / 2 / sizeof(T)) throw std::bad_array_new_length();
    const std::size_t bytes = n * sizeof(T);
    Memory::take(Memory::cost(bytes));
    try {
      return static_cast<T*>(::operator new(bytes));
    } catch (...) {
      Memory::give(Memory::cost(bytes));
      throw;
    }
  }
  void deallocate(T* p, std::size_t n) noexcept {
    ::operator delete(p);
    Memory::give(Memory::cost(n * sizeof(T)));
  }
  template <typename U>
  bool operator==(const Allocator<U>& /*other*/) const noexcept {
    return true;
  }
};

using String = std::basic_string<char, std::char_traits<char>, Allocator<char>>;

// A value of its own block, so that what holds it stays small.
template <typename T>
struct BoxDelete {
  void operator()(T* p) const noexcept {
    std::destroy_at(p);
    Allocator<T>().deallocate(p, 1);
  }
};
template <typename T>
using Box = std::unique_ptr<T, BoxDelete<T>>;

template <typename T>
[[nodiscard]] Box<T> make_box() {
  static_assert(std::is_nothrow_default_constructible_v<T>);
  return Box<T>(std::construct_at(Allocator<T>().allocate(1)));
}

}  // namespace kv

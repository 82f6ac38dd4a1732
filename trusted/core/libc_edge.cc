// What the compiler and the linked crypto libraries expect of a C library, so that core needs none.
//
// The compiler emits calls to mem*; libsodium's objects also name functions that core never causes to be called (they
// belong to its allocator, its RNG and its misuse handler). Those are a #UD: reaching one is a bug, and stops the
// thread.
#include <cstddef>
#include <cstdint>

#include "trusted/core/memory.h"

namespace {
[[gnu::section(".bss.sealift_core")]] int errno_slot;
}  // namespace

extern "C" {

void* memcpy(void* to, const void* from, std::size_t n) {
  sealift::core::copy(to, from, n);
  return to;
}

void* memmove(void* to, const void* from, std::size_t n) {
  auto* t = static_cast<std::uint8_t*>(to);
  const auto* f = static_cast<const std::uint8_t*>(from);
  if (t <= f || t >= f + n) {
    sealift::core::copy(to, from, n);
  } else {
    for (std::size_t i = n; i-- > 0;) t[i] = f[i];
  }
  return to;
}

void* memset(void* to, int value, std::size_t n) {
  sealift::core::fill(to, static_cast<std::uint8_t>(value), n);
  return to;
}

int memcmp(const void* a, const void* b, std::size_t n) {
  const auto* x = static_cast<const std::uint8_t*>(a);
  const auto* y = static_cast<const std::uint8_t*>(b);
  for (std::size_t i = 0; i < n; ++i) {
    if (x[i] != y[i]) return x[i] < y[i] ? -1 : 1;
  }
  return 0;
}

void __explicit_bzero_chk(void* p, std::size_t n, std::size_t) {
  sealift::core::wipe(p, n);
}  // NOLINT: glibc's name

int* __errno_location() {
  return &errno_slot;
}  // NOLINT: glibc's name

#define SEALIFT_UNREACHABLE(name) \
  [[noreturn]] void name() {      \
    __builtin_trap();             \
  }
SEALIFT_UNREACHABLE(__assert_fail)
SEALIFT_UNREACHABLE(__stack_chk_fail)
SEALIFT_UNREACHABLE(abort)
SEALIFT_UNREACHABLE(raise)
SEALIFT_UNREACHABLE(close)
SEALIFT_UNREACHABLE(fcntl)
SEALIFT_UNREACHABLE(free)
SEALIFT_UNREACHABLE(fstat)
SEALIFT_UNREACHABLE(getrandom)
SEALIFT_UNREACHABLE(madvise)
SEALIFT_UNREACHABLE(malloc)
SEALIFT_UNREACHABLE(mlock)
SEALIFT_UNREACHABLE(mmap)
SEALIFT_UNREACHABLE(mprotect)
SEALIFT_UNREACHABLE(munlock)
SEALIFT_UNREACHABLE(munmap)
SEALIFT_UNREACHABLE(open)
SEALIFT_UNREACHABLE(poll)
SEALIFT_UNREACHABLE(pthread_mutex_lock)
SEALIFT_UNREACHABLE(pthread_mutex_unlock)
SEALIFT_UNREACHABLE(read)
SEALIFT_UNREACHABLE(strerror)
SEALIFT_UNREACHABLE(sysconf)
#undef SEALIFT_UNREACHABLE

}  // extern "C"

// What the compiler and the linked crypto libraries expect around them, so that core needs no C library and no more of
// the crypto libraries than it calls.
//
// The compiler emits calls to mem*. libsodium's objects name helpers whose own objects would pull in its allocator, its
// RNG and every other algorithm: the few that are really called are defined here, the others are a #UD, since reaching
// one is a bug.
#include <cstddef>
#include <cstdint>

#include "trusted/core/area.h"
#include "trusted/core/memory.h"

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

void sodium_memzero(void* p, std::size_t n) {
  sealift::core::wipe(p, n);
}

int sodium_memcmp(const void* a, const void* b, std::size_t n) {
  return sealift::core::equal_ct(a, b, n) ? 0 : -1;
}

// Of field elements: constant in time, as the one it stands for.
int sodium_is_zero(const unsigned char* p, std::size_t n) {
  volatile unsigned char any = 0;
  for (std::size_t i = 0; i < n; ++i) any = static_cast<unsigned char>(any | p[i]);
  return any == 0 ? 1 : 0;
}

// X25519's portable implementation: a few microseconds an attempt are not worth a second one in the TCB.
int sodium_runtime_has_avx() {
  return 0;
}

// intel-ipsec-mb notes bad arguments in a global; core passes none, and has no use for the note.
SEALIFT_CORE_DATA int imb_errno;
// Error texts, which nothing here asks for.
extern const char* const imb_errno_types[1] = {nullptr};
void imb_set_errno(void*, int) {}

#define SEALIFT_UNREACHABLE(name) \
  [[noreturn]] void name() {      \
    __builtin_trap();             \
  }
SEALIFT_UNREACHABLE(__stack_chk_fail)
SEALIFT_UNREACHABLE(abort)
SEALIFT_UNREACHABLE(randombytes_buf)
SEALIFT_UNREACHABLE(sodium_misuse)
#undef SEALIFT_UNREACHABLE

}  // extern "C"

#include "trusted/core/memory.h"

#include <immintrin.h>

namespace sealift::core {

// `rep movsb` (ERMS) keeps vector registers and code size out of it; large copies run at memory speed.
void copy(void* to, const void* from, std::size_t n) noexcept {
  asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
}

void fill(void* to, std::uint8_t value, std::size_t n) noexcept {
  asm volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(value) : "memory");
}

bool equal_ct(const void* a, const void* b, std::size_t n) noexcept {
  const auto* x = static_cast<const volatile std::uint8_t*>(a);
  const auto* y = static_cast<const volatile std::uint8_t*>(b);
  unsigned difference = 0;
  for (std::size_t i = 0; i < n; ++i) difference |= static_cast<unsigned>(x[i] ^ y[i]);
  return difference == 0;
}

void wipe(void* p, std::size_t n) noexcept {
  auto* at = static_cast<std::uint8_t*>(p);
  // Most are keys and contexts of a few lines, for which `rep stosb` takes longer to start than to write.
  for (; n >= sizeof(std::uint64_t); n -= sizeof(std::uint64_t), at += sizeof(std::uint64_t)) {
    asm volatile("movq $0, (%0)" : : "r"(at) : "memory");
  }
  fill(at, 0, n);
}

bool page_is_zero(const void* p) noexcept {
  const auto* v = static_cast<const __m128i*>(p);
  for (int i = 0; i < 256; i += 8) {
    __m128i any = _mm_load_si128(v + i);
    for (int k = 1; k < 8; ++k) any = _mm_or_si128(any, _mm_load_si128(v + i + k));
    if (_mm_movemask_epi8(_mm_cmpeq_epi8(any, _mm_setzero_si128())) != 0xffff) return false;
  }
  return true;
}

}  // namespace sealift::core

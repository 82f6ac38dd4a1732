// System calls without libc: no errno, no cancellation point, no interposition by this library or a sanitizer.
//
// Everything that runs in a signal handler, or below an interposed libc function, calls the kernel through here.
#pragma once

#include <sys/syscall.h>

#include <cstdint>

namespace softsgx::raw {

// The kernel's answer: a value, or -errno.
[[gnu::always_inline]] inline long call(long number, std::uint64_t a = 0, std::uint64_t b = 0, std::uint64_t c = 0,
                                        std::uint64_t d = 0, std::uint64_t e = 0, std::uint64_t f = 0) noexcept {
  long result = number;
  register std::uint64_t r10 asm("r10") = d;
  register std::uint64_t r8 asm("r8") = e;
  register std::uint64_t r9 asm("r9") = f;
  asm volatile("syscall" : "+a"(result) : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
  return result;
}

[[nodiscard]] inline std::uint64_t arg(const volatile void* p) noexcept {
  return reinterpret_cast<std::uint64_t>(p);
}

}  // namespace softsgx::raw

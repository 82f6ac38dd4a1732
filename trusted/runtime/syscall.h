// System calls of application code, as stage 2 delivers them. Freestanding: any of glibc's locks may be held.
#pragma once

#include <cstdint>

#include "trusted/core/core.h"

namespace sealift::runtime {

using core::SyscallRegs;

inline constexpr std::uint64_t kEperm = static_cast<std::uint64_t>(-1);
inline constexpr std::uint64_t kEintr = static_cast<std::uint64_t>(-4);
inline constexpr std::uint64_t kEio = static_cast<std::uint64_t>(-5);
inline constexpr std::uint64_t kEagain = static_cast<std::uint64_t>(-11);
inline constexpr std::uint64_t kEnomem = static_cast<std::uint64_t>(-12);
inline constexpr std::uint64_t kEfault = static_cast<std::uint64_t>(-14);
inline constexpr std::uint64_t kEinval = static_cast<std::uint64_t>(-22);
inline constexpr std::uint64_t kEnotty = static_cast<std::uint64_t>(-25);

[[nodiscard]] constexpr bool is_error(std::uint64_t result) noexcept {
  return result > static_cast<std::uint64_t>(-4096);
}

// Made up: there are no host thread ids to leak, or to lose in a migration.
[[nodiscard]] constexpr std::uint32_t thread_id(std::uint32_t tcs) noexcept {
  return 1000 + tcs - abi::kMainTcs;
}

// futex.cc, clock.cc, threads.cc, forward.cc: each answers one family; regs.rdi … hold the arguments.
[[nodiscard]] std::uint64_t futex(const SyscallRegs& r) noexcept;
// Where host threads wait for `address`: an index into the arena's futex words.
[[nodiscard]] std::uint64_t futex_word(std::uint64_t address) noexcept;
[[nodiscard]] std::uint64_t clock(std::uint64_t id, std::int64_t (&time)[2]) noexcept;
[[nodiscard]] std::uint64_t clone3(const SyscallRegs& r) noexcept;
[[noreturn]] void thread_exit() noexcept;
// Passed out by a checked copy, from a table; ENOSYS and counted if it is not there.
[[nodiscard]] std::uint64_t forward(const SyscallRegs& r) noexcept;
[[noreturn]] void process_exit(std::uint64_t status) noexcept;

// Threads made while this is set become ecall threads (start.cc).
extern bool making_ecall_threads;

}  // namespace sealift::runtime

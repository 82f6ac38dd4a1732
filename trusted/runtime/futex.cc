// futex: values are compared inside; host threads wait on words outside, as the kernel cannot read EPC.
//
// Spurious wake-ups are allowed by futex(2), so a wait that a migration interrupts simply returns 0 and the caller
// looks again. A lost wake-up is what must not happen: a waiter counts itself before it reads the outside word and
// compares; a waker changes the value first (its caller did), then looks at the count.
#include <atomic>

#include "migration/ocalls.h"
#include "trusted/core/area.h"
#include "trusted/core/memory.h"
#include "trusted/runtime/syscall.h"

namespace sealift::runtime {
namespace {

constexpr std::uint64_t kWait = 0, kWake = 1, kWaitBitset = 9, kWakeBitset = 10;
constexpr std::uint64_t kPrivate = 128, kRealtime = 256;
constexpr std::int64_t kNanoseconds = 1'000'000'000;

std::atomic<std::uint32_t> waiters[abi::kFutexWords];

std::atomic<std::uint32_t>& outside(std::uint64_t word) noexcept {
  return reinterpret_cast<std::atomic<std::uint32_t>*>(core::futex_words())[word];
}

// < 0: no timeout. The kernel's rules: WAIT takes a relative time, WAIT_BITSET an absolute one.
std::int64_t relative_timeout(const SyscallRegs& r, std::uint64_t op) noexcept {
  if (r.r10 == 0) return -1;
  std::int64_t until[2];
  core::copy(until, reinterpret_cast<const void*>(r.r10), sizeof until);
  std::int64_t now[2] = {0, 0};
  if (op == kWaitBitset && clock((r.rsi & kRealtime) != 0 ? 0 : 1, now) != 0) return 0;
  const std::int64_t left = (until[0] - now[0]) * kNanoseconds + until[1] - now[1];
  return left < 0 ? 0 : left;
}

std::uint64_t wait(const SyscallRegs& r, std::uint64_t op) noexcept {
  const auto& value = *reinterpret_cast<const std::atomic<std::uint32_t>*>(r.rdi);
  const std::uint64_t word = futex_word(r.rdi);
  waiters[word].fetch_add(1, std::memory_order_seq_cst);
  const std::uint32_t seen = outside(word).load(std::memory_order_seq_cst);
  std::uint64_t result = 0;
  if (value.load(std::memory_order_seq_cst) != static_cast<std::uint32_t>(r.rdx)) {
    result = kEagain;
  } else {
    const abi::FutexWaitArgs args{static_cast<std::uint32_t>(word), seen, relative_timeout(r, op)};
    core::copy(core::slot(), &args, sizeof args);
    const core::OcallResult done = core::ocall(abi::OcallOp::kFutexWait, sizeof args);
    constexpr std::uint64_t kTimedOut = static_cast<std::uint64_t>(-110);
    if (!done.migrated && done.value == kTimedOut && args.timeout_ns >= 0) result = kTimedOut;
  }
  waiters[word].fetch_sub(1, std::memory_order_seq_cst);
  return result;
}

std::uint64_t wake(const SyscallRegs& r) noexcept {
  const std::uint64_t word = futex_word(r.rdi);
  if (waiters[word].load(std::memory_order_seq_cst) == 0) return 0;
  outside(word).fetch_add(1, std::memory_order_seq_cst);
  const abi::FutexWakeArgs args{static_cast<std::uint32_t>(word), 0};
  core::copy(core::slot(), &args, sizeof args);
  // After a migration every waiter wakes anyway: nothing to repeat.
  [[maybe_unused]] const core::OcallResult done = core::ocall(abi::OcallOp::kFutexWake, sizeof args);
  return r.rdx;
}

}  // namespace

std::uint64_t futex_word(std::uint64_t address) noexcept {
  return (address / 4 * 0x9e3779b97f4a7c15u) >> 32 & (abi::kFutexWords - 1);
}

std::uint64_t futex(const SyscallRegs& r) noexcept {
  const std::uint64_t op = r.rsi & ~(kPrivate | kRealtime);
  if (r.rdi % 4 != 0) return kEinval;
  if (op == kWait || op == kWaitBitset) return wait(r, op);
  if (op == kWake || op == kWakeBitset) return wake(r);
  return core::enosys(r.rax);
}

}  // namespace sealift::runtime

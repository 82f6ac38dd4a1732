// Time comes from the host and is believed only as far as it must be: CLOCK_MONOTONIC and its relatives never run
// backwards, neither because the host says so nor across a migration, where the target's clock is another one.
#include <atomic>

#include "migration/ocalls.h"
#include "trusted/core/memory.h"
#include "trusted/runtime/syscall.h"

namespace sealift::runtime {
namespace {

constexpr std::int64_t kNanoseconds = 1'000'000'000;

std::atomic<std::int64_t> last;              // the latest monotonic time ever answered, ns
std::atomic<std::int64_t> offset;            // added to the host's clock
std::atomic<std::uint64_t> offset_epoch{0};  // the epoch that `offset` belongs to

bool host_clock(std::int32_t id, std::int64_t& ns) noexcept {
  abi::ClockArgs args{id, 0, 0, 0};
  do {
    core::copy(core::slot(), &args, sizeof args);
  } while (core::ocall(abi::OcallOp::kClock, sizeof args).migrated);
  core::copy(&args, core::slot(), sizeof args);
  constexpr std::int64_t kLimit = std::int64_t{1} << 33;  // seconds; beyond it the product would overflow
  if (args.seconds < 0 || args.seconds >= kLimit || args.nanoseconds < 0 || args.nanoseconds >= kNanoseconds) {
    return false;
  }
  ns = args.seconds * kNanoseconds + args.nanoseconds;
  return true;
}

std::int64_t monotonic(std::int64_t host) noexcept {
  const std::uint64_t epoch = core::epoch();
  if (offset_epoch.load() != epoch) {
    // First question after a migration: continue from the last answer.
    const std::int64_t floor = last.load();
    offset.store(floor == 0 ? 0 : floor - host);
    offset_epoch.store(epoch);
  }
  std::int64_t now = host + offset.load();
  std::int64_t before = last.load();
  while (now > before && !last.compare_exchange_weak(before, now)) {
  }
  return now > before ? now : before;
}

}  // namespace

std::uint64_t clock(std::uint64_t id, std::int64_t (&time)[2]) noexcept {
  constexpr std::uint64_t kRealtime = 0, kMonotonic = 1, kProcessCpu = 2, kThreadCpu = 3, kRealtimeCoarse = 5;
  if (id > 11) return kEinval;
  const bool real = id == kRealtime || id == kRealtimeCoarse;
  const bool cpu = id == kProcessCpu || id == kThreadCpu;
  std::int64_t ns = 0;
  if (!host_clock(static_cast<std::int32_t>(real || cpu ? id : kMonotonic), ns)) return kEinval;
  if (!real && !cpu) ns = monotonic(ns);
  time[0] = ns / kNanoseconds;
  time[1] = ns % kNanoseconds;
  return 0;
}

}  // namespace sealift::runtime

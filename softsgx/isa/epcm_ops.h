// How leaves take and change EPCM entries, and count logical processors. Private to softsgx/isa.
#pragma once

#include "softsgx/isa/leaf.h"
#include "softsgx/isa/machine.h"

namespace softsgx {

// 48-bit canonical addresses; SGX enclaves cannot use 57-bit ones anyway on CPUs whose CPUID.12H.EDX says so.
[[nodiscard]] constexpr bool canonical(std::uint64_t address) noexcept {
  const auto sign = static_cast<std::int64_t>(address << 16) >> 16;
  return static_cast<std::uint64_t>(sign) == address;
}

[[nodiscard]] constexpr bool page_aligned(std::uint64_t address) noexcept {
  return address % sgx::kPageSize == 0;
}

// Exclusive use of an EPCM entry for the length of a leaf. While kLocked is set nobody else changes the entry, except
// that a logical processor that leaves the enclave clears kBusy.
class EntryLock {
 public:
  explicit EntryLock(EpcmEntry& entry) noexcept : entry_(entry) {
    state_ = entry_.state.load();
    held_ = (state_ & epcm::kLocked) == 0 && entry_.state.compare_exchange_strong(state_, state_ | epcm::kLocked);
  }
  ~EntryLock() {
    if (held_) entry_.state.fetch_and(~epcm::kLocked);
  }
  EntryLock(const EntryLock&) = delete;
  EntryLock& operator=(const EntryLock&) = delete;

  [[nodiscard]] bool held() const noexcept { return held_; }
  // The entry as it was when it was taken.
  [[nodiscard]] std::uint64_t state() const noexcept { return state_; }
  [[nodiscard]] bool valid() const noexcept { return (state_ & epcm::kValid) != 0; }
  [[nodiscard]] sgx::PageType type() const noexcept { return epcm::type(state_); }
  [[nodiscard]] EpcIndex secs() const noexcept { return epcm::secs(state_); }

  // Replaces the entry and gives it free. If the lock is not there any more, the file's contents were exchanged
  // meanwhile (machine.h, rule 3), and this entry is not the one that was taken.
  void commit(std::uint64_t next) noexcept {
    std::uint64_t seen = entry_.state.load();
    while ((seen & epcm::kLocked) != 0 &&
           !entry_.state.compare_exchange_weak(seen, (next & ~(epcm::kLocked | epcm::kBusy)) | (seen & epcm::kBusy))) {
    }
    held_ = false;
  }

 private:
  EpcmEntry& entry_;
  std::uint64_t state_ = 0;
  bool held_ = false;
};

// The three parts of EpcmEntry::active.
namespace active {
inline constexpr unsigned kEpochShift = 32, kBeforeShift = 16;
inline constexpr std::uint64_t kCountMask = 0xffff;

[[nodiscard]] constexpr std::uint32_t epoch(std::uint64_t a) noexcept {
  return static_cast<std::uint32_t>(a >> kEpochShift);
}
[[nodiscard]] constexpr std::uint64_t before(std::uint64_t a) noexcept {
  return a >> kBeforeShift & kCountMask;
}
[[nodiscard]] constexpr std::uint64_t current(std::uint64_t a) noexcept {
  return a & kCountMask;
}

// Counts a logical processor in; false if 65535 are inside. `entered` gets the epoch, for leave().
[[nodiscard]] inline bool enter(EpcmEntry& secs, std::uint32_t& entered) noexcept {
  std::uint64_t a = secs.active.load();
  do {
    if (current(a) == kCountMask) return false;
  } while (!secs.active.compare_exchange_weak(a, a + 1));
  entered = epoch(a);
  return true;
}

inline void leave(EpcmEntry& secs, std::uint32_t entered) noexcept {
  std::uint64_t a = secs.active.load();
  std::uint64_t next = 0;
  do {
    const bool now = epoch(a) == entered;
    // Nobody to count out: the page has become another SECS since.
    if ((now ? current(a) : before(a)) == 0) return;
    next = now ? a - 1 : a - (std::uint64_t{1} << kBeforeShift);
  } while (!secs.active.compare_exchange_weak(a, next));
}

// Whether everyone who was inside when the page was changed in `changed` has left: the epoch has moved on and those
// from before it are out (two epochs later they must be: ETRACK waits for them).
[[nodiscard]] constexpr bool tracked(std::uint64_t a, std::uint32_t changed) noexcept {
  const std::uint32_t passed = epoch(a) - changed;
  return passed >= 2 || (passed == 1 && before(a) == 0);
}
}  // namespace active

}  // namespace softsgx

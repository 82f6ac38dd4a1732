// Convergence: when pre-copy is near its end, so that the enclaves must begin to checkpoint.
//
// QEMU decides by itself when to pause the guest: as soon as what remains could be sent within the downtime limit. The
// enclaves must stop before that, as late as possible, and while they lay down their records QEMU can go on sending: so
// they begin when what they need is about what QEMU needs. If it gets near its end first, it is held off. QEMU is asked
// every kPollEvery and may answer late (its monitor shares a lock with the guest's CPUs), and pages of zeros go as fast
// as memory is read: so "near" is measured in time, at the fastest speed so far. Of a move with a bandwidth limit only
// zeros can go faster than that, and the speed of this moment is what counts; QEMU sends what a tenth of a second
// allows at once.
//
// Pure; the clock is handed in, in seconds from any origin.
#pragma once

#include <chrono>
#include <cstdint>

namespace sealift::vm {

class Convergence {
 public:
  static constexpr std::chrono::milliseconds kPollEvery{8};

  // `limit`: the move's bandwidth, bytes a second; 0: none.
  explicit Convergence(std::uint64_t limit = 0) : limit_(static_cast<double>(limit)) {}

  // `remaining`: bytes of RAM to be sent; `sent`: so far; `passes`: QEMU's dirty-sync-count.
  // True: it must be held off now, if something is to be done before.
  [[nodiscard]] bool near_end(double now, std::uint64_t remaining, std::uint64_t sent, std::uint64_t passes);
  // It was held off, and that was too early: zeros went by, and much is left that cannot go so fast.
  [[nodiscard]] bool too_early() const;
  // By what near_end() was told: the rest of the first pass takes no longer than this, at the speed that it had so far.
  [[nodiscard]] bool within(double seconds) const;

 private:
  static constexpr double kAheadSeconds = 0.12;       // some polls, one of them late
  static constexpr std::uint64_t kLeast = 24u << 20;  // bytes; also of a VM that has hardly any
  static constexpr double kHalfLife = 0.02;           // seconds, of a speed that is not seen any more

  double limit_;
  bool begun_ = false;
  double first_ = 0, last_ = 0;
  std::uint64_t first_remaining_ = 0, last_remaining_ = 0, last_sent_ = 0, passes_ = 0;
  double speed_ = 0;  // bytes a second
};

}  // namespace sealift::vm

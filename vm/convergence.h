// Convergence: when pre-copy is near its end, so that the enclaves must begin to checkpoint.
//
// QEMU decides by itself when to pause the guest: as soon as what remains could be sent within the downtime limit. The
// enclaves must stop before that, as late as possible, and while they lay down their records QEMU can go on sending: so
// they begin when what they need is about what QEMU needs. If it gets near its end first, it is held off. QEMU is asked
// every kPollEvery and may answer late (its monitor shares a lock with the guest's CPUs), and pages of zeros go as fast
// as memory is read: so "near" is measured in time, at the fastest speed so far. Of a move with a bandwidth limit it is
// zeros that go faster than that, and the speed of this moment is what counts; QEMU sends what a tenth of a second
// allows at once. Pages that a balloon says are free (free-page-hint) go from what remains without being dealt with, by
// the GiB at once: they are no speed. Nor are pages that hold zeros: they lie together, and QEMU is through with
// them when it has hardly begun, so that the rest is predicted without them, as far as the guest tells how many there
// are. As long as no more of them have gone by than that, QEMU is held off, to be safe, but the enclaves go on.
//
// Pure; the clock is handed in, in seconds from any origin.
#pragma once

#include <chrono>
#include <cstdint>

namespace sealift::vm {

// Of QEMU's query-migrate, bytes of RAM.
struct Progress {
  std::uint64_t remaining = 0;  // to be dealt with in this pass
  std::uint64_t dealt = 0;      // pages sent so far, also those of zeros, which take next to nothing
  std::uint64_t zeros = 0;      // these alone
  std::uint64_t sent = 0;       // on the wire
  std::uint64_t passes = 0;     // dirty-sync-count
};

class Convergence {
 public:
  static constexpr std::chrono::milliseconds kPollEvery{8};

  // `limit`: the move's bandwidth, bytes a second; 0: none. `untouched`: bytes of RAM that hold zeros, about; if
  // they do not hold zeros, within() and ending() are true too early.
  explicit Convergence(std::uint64_t limit = 0, std::uint64_t untouched = 0)
      : limit_(static_cast<double>(limit)), untouched_(untouched) {}

  // True: it must be held off now, if something is to be done before.
  [[nodiscard]] bool near_end(double now, const Progress& progress);
  // It may be near its end for all that is known, and nothing says that only zeros are going by which the guest has
  // foretold, with work behind them.
  [[nodiscard]] bool ending() const;
  // If it must be held off: still in the first pass, with so much left that zeros may go by meanwhile.
  [[nodiscard]] bool zeros_may_go() const;
  // It was held off, and that was too early: zeros have gone by, and much is left that cannot go so fast.
  [[nodiscard]] bool too_early() const;
  // By what near_end() was told, as ending(): in no longer than this the first pass is so near its end that it must be
  // held off, at the speed that it had so far.
  [[nodiscard]] bool within(double seconds) const;

 private:
  // So many bytes of the first pass, at this speed, in so many seconds from now.
  [[nodiscard]] static bool over_soon(std::uint64_t left, double speed, double seconds = 0);
  // Of the first pass, in bytes, without what holds zeros.
  [[nodiscard]] std::uint64_t work_left() const;

  static constexpr double kAheadSeconds = 0.12;       // some polls, one of them late
  static constexpr std::uint64_t kLeast = 24u << 20;  // bytes; also of a VM that has hardly any
  static constexpr double kHalfLife = 0.02;           // seconds, of a speed that is not seen any more

  double limit_;
  std::uint64_t untouched_;
  bool begun_ = false;
  bool zeros_ = false;  // what went by last
  double first_at_ = 0, last_at_ = 0;
  Progress first_, last_;
  std::uint64_t stretches_ = 0;  // bytes of zeros that came in stretches, as free memory does
  double speed_ = 0;             // bytes a second
};

// How long the enclaves' checkpoint may take, in seconds. `prepared`: how long it took to prepare it, seconds;
// `last`: how long the checkpoint of an earlier move took, 0: not known. Both are a guest's word, and bounded.
[[nodiscard]] double foreseen_checkpoint(std::uint32_t enclaves, double prepared, double last);

}  // namespace sealift::vm

#include "vm/convergence.h"

#include <algorithm>
#include <cmath>

namespace sealift::vm {

namespace {

// QEMU sends what a tenth of a second allows at once, and a socket takes some MiB in no time: before, a speed is none.
constexpr double kSettled = 0.2;

// Before the first checkpoint only this is known: it and what was done to prepare it are work of the same guest for the
// same enclaves. More than the limits is not believed: then it was something else that took so long, with few enclaves
// the messages' ways.
constexpr double kCheckpointToPrepare = 12;
constexpr double kLongestGuess = 2;
constexpr double kLongestGuessEach = 0.03;
// Later ones go by the one before, with something to spare, if that is more: there are more pages of zeros than a guest
// knows of, and so less time than it seems. Whoever reports too much only has its own enclaves wait.
constexpr double kSpare = 1.25;
constexpr double kLongest = 10;

}  // namespace

bool Convergence::near_end(double now, const Progress& progress) {
  if (progress.passes == 0) return false;  // QEMU has not counted yet what there is to send
  if (begun_ && limit_ > 0) speed_ *= std::exp2((last_at_ - now) / kHalfLife);
  if (begun_ && now > last_at_ && progress.dealt > last_.dealt) {
    const auto gone = static_cast<double>(progress.dealt - last_.dealt);
    zeros_ = gone > 2 * static_cast<double>(progress.sent - std::min(progress.sent, last_.sent));
    const double speed = gone / (now - last_at_);
    speed_ = std::max(speed_, limit_ > 0 && !zeros_ ? std::min(speed, limit_) : speed);
    if (progress.zeros - last_.zeros > (progress.dealt - last_.dealt) / 2) stretches_ += progress.zeros - last_.zeros;
  }
  if (!begun_) {
    first_at_ = now;
    first_ = progress;
  }
  begun_ = true;
  last_at_ = now;
  last_ = progress;
  // From the second pass on only what the guest writes is left: it may be over at any moment.
  if (progress.passes > 1) return true;
  return over_soon(last_.remaining, speed_);
}

bool Convergence::over_soon(std::uint64_t left, double speed, double seconds) {
  return static_cast<double>(left) <= speed * seconds + std::max(static_cast<double>(kLeast), speed * kAheadSeconds);
}

bool Convergence::ending() const {
  if (last_.passes == 0) return false;
  if (last_.passes > 1) return true;
  const bool foreseen = limit_ > 0 && stretches_ < untouched_;
  return foreseen ? over_soon(work_left(), limit_) : over_soon(last_.remaining, speed_);
}

std::uint64_t Convergence::work_left() const {
  const std::uint64_t untouched = untouched_ - std::min(stretches_, untouched_);
  return last_.remaining - std::min(last_.remaining, untouched);
}

bool Convergence::zeros_may_go() const {
  return last_.passes == 1 && last_.remaining > kLeast;
}

bool Convergence::too_early() const {
  if (limit_ <= 0 || last_.passes > 1 || zeros_) return false;
  return static_cast<double>(last_.remaining) > std::max(2.0 * kLeast, 2 * limit_ * kAheadSeconds);
}

bool Convergence::within(double seconds) const {
  const std::uint64_t passed = std::min(stretches_, untouched_);
  const std::uint64_t work = last_.dealt - first_.dealt - passed;
  if (work == 0 || last_at_ - first_at_ < kSettled) return false;  // no speed yet
  double rate = static_cast<double>(work) / (last_at_ - first_at_);
  if (limit_ > 0) rate = std::min(rate, limit_);
  return over_soon(work_left(), rate, seconds);
}

double foreseen_checkpoint(std::uint32_t enclaves, double prepared, double last) {
  const double guess = std::min({kCheckpointToPrepare * prepared, kLongestGuessEach * enclaves, kLongestGuess});
  return std::max(guess, std::min(kSpare * last, kLongest));
}

}  // namespace sealift::vm

#include "vm/convergence.h"

#include <algorithm>
#include <cmath>

namespace sealift::vm {

bool Convergence::near_end(double now, std::uint64_t remaining, std::uint64_t sent, std::uint64_t passes) {
  if (passes == 0) return false;  // QEMU has not counted yet what there is to send
  if (begun_ && now > last_ && remaining < last_remaining_) {
    const auto gone = static_cast<double>(last_remaining_ - remaining);
    const bool zeros = gone > 2 * static_cast<double>(sent - std::min(sent, last_sent_));
    const double speed = gone / (now - last_);
    if (limit_ > 0) speed_ *= std::exp2((last_ - now) / kHalfLife);
    speed_ = std::max(speed_, limit_ > 0 && !zeros ? std::min(speed, limit_) : speed);
  }
  if (!begun_) {
    first_ = now;
    first_remaining_ = remaining;
  }
  begun_ = true;
  last_ = now;
  last_remaining_ = remaining;
  last_sent_ = sent;
  passes_ = passes;
  // From the second pass on only what the guest writes is left: it may be over at any moment.
  if (passes > 1) return true;
  return static_cast<double>(remaining) <= std::max(static_cast<double>(kLeast), speed_ * kAheadSeconds);
}

bool Convergence::too_early() const {
  if (limit_ <= 0 || passes_ > 1) return false;
  return static_cast<double>(last_remaining_) > std::max(2.0 * kLeast, 2 * limit_ * kAheadSeconds);
}

bool Convergence::within(double seconds) const {
  if (last_remaining_ >= first_remaining_) return false;  // no speed yet
  const double rate = static_cast<double>(first_remaining_ - last_remaining_) / (last_ - first_);
  return static_cast<double>(last_remaining_) <= rate * seconds;
}

}  // namespace sealift::vm

#include "vm/convergence.h"

#include <algorithm>

namespace sealift::vm {

bool Convergence::near_end(double now, std::uint64_t remaining, std::uint64_t passes) {
  if (passes == 0) return false;  // QEMU has not counted yet what there is to send
  if (begun_ && now > last_ && remaining < last_remaining_) {
    fastest_ = std::max(fastest_, static_cast<double>(last_remaining_ - remaining) / (now - last_));
  }
  if (!begun_) {
    first_ = now;
    first_remaining_ = remaining;
  }
  begun_ = true;
  last_ = now;
  last_remaining_ = remaining;
  // From the second pass on only what the guest writes is left: it may be over at any moment.
  if (passes > 1) return true;
  return static_cast<double>(remaining) <= std::max(static_cast<double>(kLeast), fastest_ * kAheadSeconds);
}

bool Convergence::within(double seconds) const {
  if (last_remaining_ >= first_remaining_) return false;  // no speed yet
  const double rate = static_cast<double>(first_remaining_ - last_remaining_) / (last_ - first_);
  return static_cast<double>(last_remaining_) <= rate * seconds;
}

}  // namespace sealift::vm

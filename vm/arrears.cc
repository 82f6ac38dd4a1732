#include "vm/arrears.h"

#include <algorithm>

namespace sealift::vm {

namespace {

// In seconds, at the rate before.
constexpr double kWorthwhile = 0.02;
constexpr double kMost = 0.5;

}  // namespace

void Arrears::saw(double now, const Progress& progress, bool held) {
  if (limit_ <= 0 || progress.passes == 0) return;
  if (!begun_) {
    begun_ = true;
    first_at_ = last_at_ = now;
    first_ = last_ = progress;
    return;
  }
  const double time = now - last_at_;
  const auto sent = static_cast<double>(progress.sent - std::min(progress.sent, last_.sent));
  const auto dealt = static_cast<double>(progress.dealt - std::min(progress.dealt, last_.dealt));
  if (held && rate_ == 0 && last_at_ > first_at_) {
    rate_ = std::min(limit_, static_cast<double>(last_.sent - first_.sent) / (last_at_ - first_at_));
  }
  kept_ = held || (kept_ && sent == 0);
  const double missed = rate_ * time - sent;
  // Zeros go by as ever, and nothing was missed as long as they do.
  const bool zeros = dealt > 2 * sent;
  if (kept_ ? !zeros : missed < 0) owed_ = std::clamp(owed_ + missed, 0.0, kMost * rate_);
  last_at_ = now;
  last_ = progress;
}

bool Arrears::any() const {
  return rate_ > 0 && owed_ > kWorthwhile * rate_;
}

}  // namespace sealift::vm

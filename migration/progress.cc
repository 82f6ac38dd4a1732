#include "migration/progress.h"

namespace sealift {

void Progress::begin(double now, std::uint64_t estimate) {
  *this = Progress{};
  total_ = estimate;
  window_.push_back({now, 0});
}

void Progress::add(double now, std::uint64_t bytes) {
  ++records_;
  bytes_ += bytes;
  if (window_.empty()) window_.push_back({now, 0});
  // A sample a record would grow with the record rate: a tenth of a second is fine enough.
  if (window_.size() > 1 && now - window_[window_.size() - 2].when < 0.1) {
    window_.back() = {now, bytes_};
  } else {
    window_.push_back({now, bytes_});
  }
  while (window_.size() > 2 && now - window_[1].when >= kWindow) window_.pop_front();
}

ProgressView Progress::at(double now) const {
  ProgressView view{records_, bytes_, total_, 0, -1};
  if (bytes_ > total_) view.total_bytes = bytes_;  // the estimate was too low
  if (window_.empty()) return view;
  const double elapsed = now - window_.front().when;
  if (elapsed <= 0) return view;
  view.bytes_per_second = static_cast<double>(bytes_ - window_.front().bytes) / elapsed;
  if (total_ == 0) return view;
  const std::uint64_t left = view.total_bytes - bytes_;
  if (left == 0) {
    view.seconds_left = 0;
  } else if (view.bytes_per_second > 0) {
    view.seconds_left = static_cast<double>(left) / view.bytes_per_second;
  }
  return view;
}

}  // namespace sealift

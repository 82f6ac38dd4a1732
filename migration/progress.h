// Progress of one stream: records, bytes, rate, time left. Pure; the clock is handed in, in seconds from any origin.
#pragma once

#include <cstdint>
#include <deque>

namespace sealift {

struct ProgressView {
  std::uint64_t records = 0;
  std::uint64_t bytes = 0;
  std::uint64_t total_bytes = 0;  // an estimate until finish(); 0: unknown
  double bytes_per_second = 0;
  double seconds_left = -1;  // negative: unknown
};

class Progress {
 public:
  // `estimate`: bytes that the stream will have, if known, or 0.
  void begin(double now, std::uint64_t estimate);
  // One record of `bytes` bytes has arrived at its end.
  void add(double now, std::uint64_t bytes);
  // The stream's real size is known.
  void set_total(std::uint64_t bytes) { total_ = bytes; }
  // The rate is over the last two seconds, so that it follows a network that changes.
  [[nodiscard]] ProgressView at(double now) const;

 private:
  struct Sample {
    double when;
    std::uint64_t bytes;  // so far
  };
  static constexpr double kWindow = 2.0;

  std::deque<Sample> window_;
  std::uint64_t records_ = 0;
  std::uint64_t bytes_ = 0;
  std::uint64_t total_ = 0;
};

}  // namespace sealift

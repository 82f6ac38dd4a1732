#include "daemon/frame.h"

#include <algorithm>
#include <cstring>

namespace sealift::daemon {

namespace {

constexpr std::size_t kReadChunk = 16u << 10;  // most messages; of a longer one the rest is read at once

}  // namespace

const char* describe(FrameStatus status) noexcept {
  switch (status) {
    case FrameStatus::kFrame:
      return "frame";
    case FrameStatus::kNeedMore:
      return "incomplete frame";
    case FrameStatus::kEmpty:
      return "empty frame";
    case FrameStatus::kOversized:
      return "frame too large";
    case FrameStatus::kMalformed:
      return "malformed frame";
  }
  return "unknown";
}

std::optional<std::size_t> FrameDecoder::pending_length() const {
  if (end_ - begin_ < kFramePrefix) return std::nullopt;
  std::uint32_t length = 0;
  for (std::size_t i = 0; i < kFramePrefix; ++i) {
    length |= std::to_integer<std::uint32_t>(buffer_[begin_ + i]) << (8 * i);
  }
  return length;
}

std::span<std::byte> FrameDecoder::space() {
  std::size_t want = kReadChunk;
  if (const auto length = pending_length(); length && *length <= kMaxFrame) {
    const std::size_t total = kFramePrefix + *length;
    if (total > end_ - begin_) want = std::max(want, total - (end_ - begin_));
  }
  if (begin_ == end_) begin_ = end_ = 0;
  if (buffer_.size() - end_ < want && begin_ > 0) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  if (buffer_.size() - end_ < want) buffer_.resize(end_ + want);
  return std::span(buffer_).subspan(end_);
}

void FrameDecoder::filled(std::size_t count) {
  end_ += std::min(count, buffer_.size() - end_);
}

FrameStatus FrameDecoder::next(wire::Envelope& out) {
  if (broken_ != FrameStatus::kFrame) return broken_;
  const auto length = pending_length();
  if (!length) return FrameStatus::kNeedMore;
  if (*length == 0) return broken_ = FrameStatus::kEmpty;
  if (*length > kMaxFrame) return broken_ = FrameStatus::kOversized;
  if (end_ - begin_ < kFramePrefix + *length) return FrameStatus::kNeedMore;
  if (!out.ParseFromArray(buffer_.data() + begin_ + kFramePrefix, static_cast<int>(*length))) {
    return broken_ = FrameStatus::kMalformed;
  }
  begin_ += kFramePrefix + *length;
  return FrameStatus::kFrame;
}

std::optional<std::string> encode(const wire::Envelope& envelope) {
  const std::size_t size = envelope.ByteSizeLong();
  if (size == 0 || size > kMaxFrame) return std::nullopt;
  std::string out(kFramePrefix + size, '\0');
  for (std::size_t i = 0; i < kFramePrefix; ++i) out[i] = static_cast<char>((size >> (8 * i)) & 0xff);
  if (!envelope.SerializeToArray(out.data() + kFramePrefix, static_cast<int>(size))) return std::nullopt;
  return out;
}

std::optional<std::uint32_t> negotiate(const wire::Hello& mine, const wire::Hello& theirs) {
  const std::uint32_t low = std::max(mine.version_min(), theirs.version_min());
  const std::uint32_t high = std::min(mine.version_max(), theirs.version_max());
  if (theirs.version_min() == 0 || low > high) return std::nullopt;
  return high;
}

}  // namespace sealift::daemon

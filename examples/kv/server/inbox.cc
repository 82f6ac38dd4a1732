#include "examples/kv/server/inbox.h"

#include <algorithm>

#include "examples/kv/store/resp.h"

namespace kv {
namespace {

constexpr std::size_t kReadBytes = 16 * 1024;

}  // namespace

std::span<char> Inbox::space() {
  // Grows only as far as a client really sends.
  if (buffer_.size() - filled_ < kReadBytes) {
    buffer_.resize(std::min(std::max(2 * buffer_.size(), filled_ + kReadBytes), capacity_));
  }
  return {buffer_.data() + filled_, buffer_.size() - filled_};
}

void Inbox::received(std::size_t bytes) {
  filled_ += bytes;
  scan();
}

Inbox::Item Inbox::next() {
  if (complete_ > 0) return {Kind::kBatch, std::string_view(buffer_).substr(0, complete_)};
  if (malformed_ && skipping_) return {Kind::kBroken, {}};
  if (malformed_) return {Kind::kBatch, std::string_view(buffer_).substr(0, filled_)};
  if (!skipping_ || arguments_left_ > 0 || skip_ > 0) return {};
  skipping_ = false;
  scan();
  return {Kind::kOversized, {}};
}

void Inbox::consumed(std::size_t bytes) {
  complete_ -= std::min(complete_, bytes);
  drop(bytes);
  scan();
}

// What is left behind is most often nothing, else the start of one command.
void Inbox::drop(std::size_t bytes) {
  std::copy(buffer_.data() + bytes, buffer_.data() + filled_, buffer_.data());
  filled_ -= bytes;
  at_ -= std::min(at_, bytes);
}

void Inbox::scan() {
  while (!malformed_ && step()) {
  }
}

bool Inbox::step() {
  const std::size_t now = std::min(skip_, filled_);
  if (now > 0) drop(now);
  skip_ -= now;
  if (skip_ > 0) return false;
  if (arguments_left_ > 0) return take_argument();
  return !skipping_ && begin_command();
}

bool Inbox::begin_command() {
  const std::string_view in = std::string_view(buffer_).substr(at_, filled_ - at_);
  if (in.empty()) return false;
  if (in[0] == '*') {
    const resp::Header count = resp::parse_header(in, '*');
    if (count.status == resp::Status::kNeedMore) return false;
    malformed_ = count.status == resp::Status::kMalformed;
    at_ += count.used;
    arguments_left_ = std::max<std::int64_t>(count.value, 0);
  } else {
    const resp::Line line = resp::parse_line(in);
    if (line.status == resp::Status::kNeedMore) return false;
    malformed_ = line.status == resp::Status::kMalformed;
    at_ += line.used;
  }
  if (!malformed_ && arguments_left_ == 0) complete_ = at_;
  return true;
}

bool Inbox::take_argument() {
  const std::string_view in = std::string_view(buffer_).substr(at_, filled_ - at_);
  const resp::Header length = resp::parse_header(in, '$');
  malformed_ = length.status == resp::Status::kMalformed;
  if (malformed_) return true;
  const bool known = length.status == resp::Status::kOk;
  const std::size_t whole = known ? length.used + static_cast<std::size_t>(length.value) + 2 : in.size() + 1;
  if (!skipping_ && at_ - complete_ + whole > capacity_) {
    if (complete_ > 0) return false;  // the commands before it go first
    start_skipping();
    return true;
  }
  if (!known) return false;
  if (skipping_) {
    skip_ = whole;
  } else {
    if (in.size() < whole) return false;
    at_ += whole;
  }
  if (--arguments_left_ == 0 && !skipping_) complete_ = at_;
  return true;
}

void Inbox::start_skipping() {
  skipping_ = true;
  drop(at_);
}

}  // namespace kv

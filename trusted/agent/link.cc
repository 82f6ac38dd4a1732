#include "trusted/agent/link.h"

#include <cstring>

namespace sealift::agent {

namespace {

// The one length that each kind has; nothing for numbers that are no kind.
std::optional<std::size_t> body_size(std::uint32_t kind) {
  switch (static_cast<messages::LinkKind>(kind)) {
    case messages::LinkKind::kOffer:
      return sizeof(messages::LinkOffer);
    case messages::LinkKind::kReady:
    case messages::LinkKind::kGrantRequest:
      return sizeof(messages::LinkReady);
    case messages::LinkKind::kGrant:
      return sizeof(messages::Grant);
    case messages::LinkKind::kOfferAck:
    case messages::LinkKind::kReadyAck:
    case messages::LinkKind::kGrantRefused:
    case messages::LinkKind::kForget:
      return sizeof(messages::LinkResult);
  }
  return std::nullopt;
}

void wipe_bytes(Bytes& bytes) {
  if (!bytes.empty()) wipe(bytes.data(), bytes.size());
}

// Appends without leaving a copy of the old bytes behind in memory that a reallocation frees.
void append(Bytes& to, const Bytes& from) {
  Bytes whole;
  whole.reserve(to.size() + from.size());
  whole.insert(whole.end(), to.begin(), to.end());
  whole.insert(whole.end(), from.begin(), from.end());
  wipe_bytes(to);
  to.swap(whole);
}

}  // namespace

Link::~Link() {
  wipe_bytes(received_);
}

LinkPhase Link::phase() const {
  return failed_ == Errc::kOk ? channel_->phase() : LinkPhase::kFailed;
}

Errc Link::error() const {
  return failed_ == Errc::kOk ? channel_->error() : failed_;
}

void Link::fail(Errc why) {
  if (failed_ == Errc::kOk) failed_ = why;
  wipe_bytes(received_);
  received_.clear();
}

void Link::feed(ByteView from_network) {
  if (phase() == LinkPhase::kFailed) return;
  channel_->feed(from_network);
  Bytes plain = channel_->read();
  append(received_, plain);
  wipe_bytes(plain);
}

std::optional<LinkMessage> Link::next() {
  messages::LinkHeader header;
  if (failed_ != Errc::kOk || received_.size() < sizeof(header)) return std::nullopt;
  std::memcpy(&header, received_.data(), sizeof(header));
  const auto expected = body_size(header.kind);
  if (header.version != messages::kVersion || header.reserved != 0 || !expected || header.body_len != *expected) {
    fail(Errc::kBadMessage);
    return std::nullopt;
  }
  const std::size_t size = sizeof(header) + *expected;
  if (received_.size() < size) return std::nullopt;
  LinkMessage message;
  message.kind = static_cast<messages::LinkKind>(header.kind);
  std::memcpy(message.body.data(), received_.data() + sizeof(header), *expected);
  Bytes rest(received_.begin() + static_cast<std::ptrdiff_t>(size), received_.end());
  wipe_bytes(received_);
  received_.swap(rest);
  return message;
}

Errc Link::send_bytes(messages::LinkKind kind, ByteView body) {
  if (phase() != LinkPhase::kReady) return Errc::kNotReady;
  messages::LinkHeader header{};
  header.version = messages::kVersion;
  header.kind = static_cast<std::uint32_t>(kind);
  header.body_len = static_cast<std::uint32_t>(body.size());
  Bytes message(sizeof(header) + body.size());
  std::memcpy(message.data(), &header, sizeof(header));
  std::memcpy(message.data() + sizeof(header), body.data(), body.size());
  const Errc error = channel_->write(message);
  wipe_bytes(message);
  return error;
}

}  // namespace sealift::agent

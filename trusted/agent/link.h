// A link: the agent-to-agent messages inside one RA-TLS connection (messages::LinkHeader and one fixed body a kind).
// A message that does not decode ends the link: TLS has already excluded accidents, so the peer is not an agent.
// Threads: none; the agent's mutex covers it. Buffers that may have held a key are wiped.
#pragma once

#include <memory>
#include <optional>

#include "migration/messages.h"
#include "trusted/agent/crypto.h"
#include "trusted/agent/platform.h"

namespace sealift::agent {

inline constexpr std::size_t kMaxLinkBody = sizeof(messages::LinkOffer);

struct LinkMessage {
  messages::LinkKind kind{};
  Secret<kMaxLinkBody> body;  // exactly the kind's structure

  template <typename T>
  void read(T& to) const noexcept {
    static_assert(sizeof(T) <= kMaxLinkBody);
    std::memcpy(&to, body.data(), sizeof(T));
  }
};

class Link {
 public:
  explicit Link(std::unique_ptr<Channel> channel) : channel_(std::move(channel)) {}
  ~Link();
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;

  [[nodiscard]] LinkPhase phase() const;
  [[nodiscard]] Errc error() const;
  // Once the phase has been kReady.
  [[nodiscard]] const PeerVerdict& peer() const { return channel_->peer(); }
  [[nodiscard]] Errc renew(ByteView collateral) { return channel_->renew(collateral); }

  void feed(ByteView from_network);
  [[nodiscard]] Bytes take() { return channel_->take(); }
  // The next whole message; nothing if more bytes are needed, or after one that did not decode. What the peer said
  // before it closed still counts.
  [[nodiscard]] std::optional<LinkMessage> next();
  // kNotReady unless the phase is kReady.
  template <typename T>
  [[nodiscard]] Errc send(messages::LinkKind kind, const T& body) {
    return send_bytes(kind, bytes_of(body));
  }
  // From here on the phase is kFailed.
  void fail(Errc why);

 private:
  [[nodiscard]] Errc send_bytes(messages::LinkKind kind, ByteView body);

  std::unique_ptr<Channel> channel_;
  Bytes received_;
  Errc failed_ = Errc::kOk;
};

}  // namespace sealift::agent

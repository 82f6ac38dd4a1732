// The agent's state, behind trusted/agent/agent.h. Every member function runs under the agent's mutex.
#pragma once

#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <vector>

#include "trusted/agent/agent.h"
#include "trusted/agent/link.h"
#include "trusted/agent/session.h"

namespace sealift::agent {

// Bounds on what a host can make an agent remember. Reaching one refuses new work (kBadSize), never old work.
inline constexpr std::size_t kMaxLinks = 256;
inline constexpr std::size_t kMaxSessions = 8192;
inline constexpr std::size_t kMaxHeld = 8192;
inline constexpr std::size_t kMaxEvents = 8192;

// One local session and what it has reached.
struct SessionState {
  LocalSession channel;
  Bytes confirm;
  // Source: its Prepare was accepted; its Ready, sealed once.
  bool prepared = false;
  Bytes ready;
  // Target: who answered its KeyRequest (nothing: nobody yet), what it has shown, its Grant, sealed once.
  struct Served {
    bool by_self = false;
    AgentInstance peer{};
    friend bool operator==(const Served&, const Served&) = default;
  };
  std::optional<Served> served;
  std::optional<messages::LinkReady> shown;
  Bytes grant;
  Errc lost = Errc::kOk;  // why there will never be a grant
};

// A_t's side of an attempt that one peer offered. Attempts are kept apart by who offered them: a stranger that offers
// under another's number cannot be in its way, as a target takes only from a peer that its own policy accepts.
struct Held {
  PeerVerdict verdict;  // of the peer, when it offered
  messages::EnclaveIdentity source{};
  MigrationPolicy policy{};
  std::array<std::uint8_t, 16> lineage{};
  std::uint64_t epoch = 0;  // of the source
  Secret<record::kKeyBytes> key;
  bool has_key = false;
  LinkId link = kSelf;  // where the offer came last

  void drop_key() {
    key.clear();
    has_key = false;
  }
};
using HeldId = std::pair<Attempt, AgentInstance>;

struct Agent::Impl {
  Impl(Platform& platform_, ChannelFactory& channels_) : platform(platform_), channels(channels_) {}

  std::mutex mutex;
  Platform& platform;
  ChannelFactory& channels;
  Instance self;
  std::uint64_t latest = 0;  // of the host's clock

  ledger::Ledger book;
  std::map<SessionId, SessionState> sessions;
  std::map<Digest, SessionId> by_hello;
  // Sessions that were closed. Opening one again would start its sequence numbers, and so its nonces, anew under the
  // same keys.
  std::set<Digest> closed;
  SessionId next_session = 1;
  std::map<LinkId, std::unique_ptr<Link>> links;
  LinkId next_link = 1;
  std::map<HeldId, Held> held;
  std::deque<Event> events;

  [[nodiscard]] std::uint64_t now();
  void emit(EventKind kind, LinkId link, const Attempt& attempt, Errc error = Errc::kOk);

  // agent_local.cc
  [[nodiscard]] Result<LocalReply> local_hello(ByteView hello);
  [[nodiscard]] Result<Bytes> local_message(SessionState& session, ByteView sealed);
  [[nodiscard]] Result<Bytes> act(SessionState& session, const OpenedMessage& message);
  [[nodiscard]] Errc on_prepare(SessionState& session, const OpenedMessage& message);
  [[nodiscard]] Errc on_ticket(SessionState& session, const OpenedMessage& message);
  [[nodiscard]] Result<Bytes> on_key_request(SessionState& session, const OpenedMessage& message);
  [[nodiscard]] Errc on_ready_notice(SessionState& session, const OpenedMessage& message);
  [[nodiscard]] Result<Bytes> local_poll(SessionState& session);
  [[nodiscard]] Result<Held*> find_held(const SessionState& session, const MigrationPolicy& target_policy);
  void give(SessionState& session, const messages::Grant& grant);
  void mark_lost(const messages::Grant& grant, const SessionState::Served& arbiter);
  [[nodiscard]] Errc announce(SessionState& session, LinkId link);
  [[nodiscard]] Errc request_grant(SessionState& session, LinkId link);

  // agent_link.cc
  [[nodiscard]] Result<Link*> ready_link(LinkId link);
  void pump(LinkId id, Link& link);
  void dispatch(LinkId id, Link& link, const LinkMessage& message);
  void on_offer(LinkId id, Link& link, const LinkMessage& message);
  [[nodiscard]] Errc take_offer(LinkId id, const PeerVerdict& peer, const messages::LinkOffer& offer);
  void on_ready(LinkId id, Link& link, const LinkMessage& message);
  void on_grant_request(LinkId id, Link& link, const LinkMessage& message);
  void on_grant(LinkId id, Link& link, const LinkMessage& message);
  void on_result(LinkId id, const Link& link, const LinkMessage& message);
  void forget(const HeldId& id);
  [[nodiscard]] Errc offer(const Attempt& attempt, LinkId link);
  [[nodiscard]] Errc cancel(const Attempt& attempt);
  // Tells these agents that the attempt is over.
  void send_forget(const Attempt& attempt, const std::vector<AgentInstance>& peers);
};

template <std::size_t N>
[[nodiscard]] inline std::array<std::uint8_t, N> array_of(const std::uint8_t (&from)[N]) {
  std::array<std::uint8_t, N> to;
  std::memcpy(to.data(), from, N);
  return to;
}

[[nodiscard]] inline messages::LinkResult result_of(const Attempt& attempt, Errc error) {
  messages::LinkResult result{};
  std::memcpy(result.attempt, attempt.data(), attempt.size());
  result.errc = static_cast<std::uint32_t>(error);
  return result;
}

}  // namespace sealift::agent

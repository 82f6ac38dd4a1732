// The agent's local sessions: what a source or a target of this machine may say, and when.
#include <algorithm>

#include "trusted/agent/agent_impl.h"

namespace sealift::agent {

using messages::LocalRole;
using messages::SealedKind;

Result<LocalReply> Agent::Impl::local_hello(ByteView hello) {
  const Digest digest = sha256({hello});
  if (const auto it = by_hello.find(digest); it != by_hello.end()) {
    return LocalReply{it->second, sessions.at(it->second).confirm};
  }
  if (closed.contains(digest)) return Errc::kNoSession;
  if (sessions.size() >= kMaxSessions) return Errc::kBadSize;
  auto channel = LocalSession::accept(platform, self, hello);
  if (!channel) return channel.error();
  SessionState state;
  const ByteView confirm = bytes_of(channel->confirm());
  state.confirm.assign(confirm.begin(), confirm.end());
  state.channel = std::move(*channel);
  const SessionId id = next_session++;
  const auto& stored = sessions.emplace(id, std::move(state)).first->second;
  by_hello.emplace(digest, id);
  return LocalReply{id, stored.confirm};
}

Result<Bytes> Agent::Impl::local_message(SessionState& session, ByteView sealed) {
  auto message = session.channel.open(sealed);
  if (!message) return message.error();
  if (message->repeated) return *message->repeated;
  auto reply = act(session, *message);
  if (reply.ok()) session.channel.accept(sealed, *reply);
  return reply;
}

// The only messages there are, by role. Everything else is out of place.
Result<Bytes> Agent::Impl::act(SessionState& session, const OpenedMessage& message) {
  const bool source = session.channel.role() == LocalRole::kSource;
  Errc error = Errc::kBadMessage;
  if (source && message.kind == SealedKind::kPrepare) {
    error = on_prepare(session, message);
  } else if (source && message.kind == SealedKind::kTicket) {
    error = on_ticket(session, message);
  } else if (!source && message.kind == SealedKind::kKeyRequest) {
    return on_key_request(session, message);
  } else if (!source && message.kind == SealedKind::kReadyNotice) {
    error = on_ready_notice(session, message);
  }
  if (error != Errc::kOk) return error;
  return Bytes{};
}

Errc Agent::Impl::on_prepare(SessionState& session, const OpenedMessage& message) {
  messages::Prepare prepare;
  const WipeOnExit wiper(prepare);
  if (const Errc error = message.read(prepare); error != Errc::kOk) return error;
  if (session.prepared) return Errc::kBadMessage;
  if (array_of(prepare.attempt) != session.channel.attempt()) return Errc::kWrongAttempt;
  const auto& identity = session.channel.identity();
  const auto superseded = book.superseded_by(prepare, identity);
  const auto peers = superseded ? book.judged(*superseded) : std::vector<AgentInstance>{};
  if (const Errc error = book.prepare(prepare, identity); error != Errc::kOk) return error;
  session.prepared = true;
  if (superseded) send_forget(*superseded, peers);
  return Errc::kOk;
}

Errc Agent::Impl::on_ticket(SessionState& session, const OpenedMessage& message) {
  messages::Ticket ticket;
  if (const Errc error = message.read(ticket); error != Errc::kOk) return error;
  // Only the instance that prepared the attempt can give it away.
  if (!session.prepared) return Errc::kBadMessage;
  if (array_of(ticket.attempt) != session.channel.attempt()) return Errc::kWrongAttempt;
  return book.ticket(ticket);
}

Result<Bytes> Agent::Impl::on_key_request(SessionState& session, const OpenedMessage& message) {
  messages::KeyRequest request;
  if (const Errc error = message.read(request); error != Errc::kOk) return error;
  if (session.served) return Errc::kBadMessage;
  const Attempt attempt = array_of(request.attempt);
  if (attempt != session.channel.attempt()) return Errc::kWrongAttempt;

  if (book.state(attempt) != ledger::State::kUnknown) {  // this agent is A_s as well
    auto delivery = book.local_key(attempt, session.channel.identity(), request.policy);
    if (!delivery) return delivery.error();
    const WipeOnExit wiper(*delivery);
    session.served = SessionState::Served{true, {}};
    return session.channel.seal(SealedKind::kKeyDelivery, *delivery);
  }
  const auto found = find_held(session, request.policy);
  if (!found) return found.error();
  Held& entry = **found;
  session.served = SessionState::Served{false, entry.verdict.instance};
  // The grant was made before: there is no key any more, but the one instance that it names may still collect it here.
  if (!entry.has_key) return Bytes{};
  messages::KeyDelivery delivery{};
  const WipeOnExit wiper(delivery);
  std::copy(entry.lineage.begin(), entry.lineage.end(), delivery.lineage);
  delivery.epoch = entry.epoch;
  std::copy(attempt.begin(), attempt.end(), delivery.attempt);
  std::copy_n(entry.key.data(), entry.key.size(), delivery.key);
  return session.channel.seal(SealedKind::kKeyDelivery, delivery);
}

// The offer that this target may take: of its own identity, under its own policy, from a peer which that policy
// accepts.
Result<Held*> Agent::Impl::find_held(const SessionState& session, const MigrationPolicy& target_policy) {
  Errc why = Errc::kUnknownAttempt;
  for (auto& [id, entry] : held) {
    if (id.first != session.channel.attempt()) continue;
    why = judge_peer(target_policy, entry.verdict);
    if (why == Errc::kOk && !(entry.source == session.channel.identity())) why = Errc::kWrongEnclave;
    if (why == Errc::kOk && !same_policy(entry.policy, target_policy)) why = Errc::kPolicy;
    if (why == Errc::kOk) return &entry;
  }
  return why;
}

Errc Agent::Impl::on_ready_notice(SessionState& session, const OpenedMessage& message) {
  messages::Ready ready;
  if (const Errc error = message.read(ready); error != Errc::kOk) return error;
  if (!session.served || session.shown) return Errc::kBadMessage;
  if (array_of(ready.attempt) != session.channel.attempt()) return Errc::kWrongAttempt;
  if (array_of(ready.instance_key) != session.channel.enclave_key()) return Errc::kBadBinding;
  messages::LinkReady shown{};
  shown.ready = ready;
  shown.target = session.channel.identity();
  if (session.served->by_self) {
    if (const Errc error = book.ready(shown, nullptr, now()); error != Errc::kOk) return error;
    emit(EventKind::kReadyArrived, kSelf, session.channel.attempt());
  }
  session.shown = shown;
  if (session.served->by_self) return Errc::kOk;
  const auto it = held.find({session.channel.attempt(), session.served->peer});
  // The link may be down; then the host announces on another one.
  if (it != held.end()) (void)announce(session, it->second.link);
  return Errc::kOk;
}

Errc Agent::Impl::announce(SessionState& session, LinkId link) {
  if (!session.shown || !session.served) return Errc::kNotReady;
  if (session.served->by_self != (link == kSelf)) return Errc::kPeerRefused;
  if (link == kSelf) return book.ready(*session.shown, nullptr, now());
  const auto found = ready_link(link);
  if (!found) return found.error();
  if ((*found)->peer().instance != session.served->peer) return Errc::kPeerRefused;
  return (*found)->send(messages::LinkKind::kReady, *session.shown);
}

Errc Agent::Impl::request_grant(SessionState& session, LinkId link) {
  if (session.lost != Errc::kOk) return session.lost;
  if (!session.shown || !session.served) return Errc::kNotReady;
  if (session.served->by_self != (link == kSelf)) return Errc::kPeerRefused;
  if (link == kSelf) {
    const auto grant = book.grant(*session.shown, nullptr, now());
    if (!grant) return grant.error();
    give(session, *grant);
    return Errc::kOk;
  }
  const auto found = ready_link(link);
  if (!found) return found.error();
  if ((*found)->peer().instance != session.served->peer) return Errc::kPeerRefused;
  return (*found)->send(messages::LinkKind::kGrantRequest, *session.shown);
}

// The one grant, for the session that it names.
void Agent::Impl::give(SessionState& session, const messages::Grant& grant) {
  if (!session.grant.empty()) return;
  session.grant = session.channel.seal(SealedKind::kGrant, grant);
  mark_lost(grant, *session.served);
  emit(EventKind::kGranted, kSelf, session.channel.attempt());
}

// Every other instance that hoped for this grant by the same arbiter will never have one. By instance and not by
// session: a target may have said hello twice.
void Agent::Impl::mark_lost(const messages::Grant& grant, const SessionState::Served& arbiter) {
  for (auto& [id, session] : sessions) {
    if (session.served == arbiter && session.channel.attempt() == array_of(grant.attempt) &&
        session.channel.enclave_key() != array_of(grant.instance_key)) {
      session.lost = Errc::kAlreadyGranted;
    }
  }
}

Result<Bytes> Agent::Impl::local_poll(SessionState& session) {
  if (session.channel.role() == LocalRole::kTarget) {
    if (session.grant.empty() && session.lost != Errc::kOk) return session.lost;
    return session.grant;
  }
  const Attempt& attempt = session.channel.attempt();
  if (!session.prepared || !session.ready.empty()) return session.ready;
  const auto ready = book.first_ready(attempt);
  if (ready && book.state(attempt) == ledger::State::kReady) {
    session.ready = session.channel.seal(SealedKind::kReady, *ready);
  }
  return session.ready;
}

}  // namespace sealift::agent

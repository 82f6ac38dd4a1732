// The agent's links: what one agent may ask of another. A_s judges by the source's policy, A_t by the target's.
#include <algorithm>

#include "trusted/agent/agent_impl.h"

namespace sealift::agent {

using messages::LinkKind;

Result<Link*> Agent::Impl::ready_link(LinkId link) {
  const auto it = links.find(link);
  if (it == links.end()) return Errc::kNoSession;
  if (it->second->phase() == LinkPhase::kFailed) return it->second->error();
  if (it->second->phase() != LinkPhase::kReady) return Errc::kNotReady;
  return it->second.get();
}

Errc Agent::Impl::offer(const Attempt& attempt, LinkId link) {
  const auto found = ready_link(link);
  if (!found) return found.error();
  auto offer = book.offer(attempt, (*found)->peer(), now());
  if (!offer) return offer.error();
  const WipeOnExit wiper(*offer);
  return (*found)->send(LinkKind::kOffer, *offer);
}

Errc Agent::Impl::cancel(const Attempt& attempt) {
  const auto peers = book.judged(attempt);
  if (const Errc error = book.cancel(attempt); error != Errc::kOk) return error;
  for (auto& [id, session] : sessions) {
    const bool served_here = session.served && session.served->by_self;
    if (served_here && session.channel.attempt() == attempt) session.lost = Errc::kUnknownAttempt;
  }
  send_forget(attempt, peers);
  return Errc::kOk;
}

void Agent::Impl::send_forget(const Attempt& attempt, const std::vector<AgentInstance>& peers) {
  for (auto& [id, link] : links) {
    if (link->phase() != LinkPhase::kReady) continue;
    if (std::find(peers.begin(), peers.end(), link->peer().instance) == peers.end()) continue;
    // A link that breaks now loses nothing but tidiness: the attempt is dead here, so its key opens nothing.
    (void)link->send(LinkKind::kForget, result_of(attempt, Errc::kUnknownAttempt));
  }
}

void Agent::Impl::pump(LinkId id, Link& link) {
  while (const auto message = link.next()) dispatch(id, link, *message);
}

void Agent::Impl::dispatch(LinkId id, Link& link, const LinkMessage& message) {
  switch (message.kind) {
    case LinkKind::kOffer:
      return on_offer(id, link, message);
    case LinkKind::kReady:
      return on_ready(id, link, message);
    case LinkKind::kGrantRequest:
      return on_grant_request(id, link, message);
    case LinkKind::kGrant:
      return on_grant(id, link, message);
    case LinkKind::kOfferAck:
    case LinkKind::kReadyAck:
    case LinkKind::kGrantRefused:
    case LinkKind::kForget:
      return on_result(id, link, message);
  }
}

// --- A_t ------------------------------------------------------------------------------------------------------------

void Agent::Impl::on_offer(LinkId id, Link& link, const LinkMessage& message) {
  messages::LinkOffer offer;
  const WipeOnExit wiper(offer);
  message.read(offer);
  const Attempt attempt = array_of(offer.prepare.attempt);
  const Errc error = take_offer(id, link.peer(), offer);
  (void)link.send(LinkKind::kOfferAck, result_of(attempt, error));
  if (error == Errc::kOk) emit(EventKind::kOfferArrived, id, attempt);
}

Errc Agent::Impl::take_offer(LinkId id, const PeerVerdict& peer, const messages::LinkOffer& offer) {
  if (now() >= peer.expires) return Errc::kVerdictExpired;
  const HeldId key{array_of(offer.prepare.attempt), peer.instance};
  const bool with_key =
      std::any_of(std::begin(offer.prepare.key), std::end(offer.prepare.key), [](std::uint8_t b) { return b != 0; });
  auto it = held.find(key);
  if (it == held.end()) {
    if (held.size() >= kMaxHeld) return Errc::kBadSize;
    Held fresh;
    fresh.source = offer.source;
    fresh.policy = offer.prepare.policy;
    fresh.lineage = array_of(offer.prepare.lineage);
    fresh.epoch = offer.prepare.epoch;
    fresh.has_key = with_key;
    std::copy(std::begin(offer.prepare.key), std::end(offer.prepare.key), fresh.key.data());
    it = held.emplace(key, std::move(fresh)).first;
  } else {
    const Held& entry = it->second;
    const bool same = entry.source == offer.source && same_policy(entry.policy, offer.prepare.policy) &&
                      entry.lineage == array_of(offer.prepare.lineage) && entry.epoch == offer.prepare.epoch &&
                      (!with_key || !entry.has_key || equal(entry.key.view(), offer.prepare.key));
    if (!same) return Errc::kAttemptUsed;
  }
  it->second.verdict = peer;
  it->second.link = id;
  return Errc::kOk;
}

void Agent::Impl::on_grant(LinkId id, Link& link, const LinkMessage& message) {
  messages::Grant grant;
  message.read(grant);
  const Attempt attempt = array_of(grant.attempt);
  const auto it = held.find({attempt, link.peer().instance});
  if (it == held.end()) return;  // forgotten meanwhile
  Held& entry = it->second;
  const SessionState::Served from{false, link.peer().instance};
  for (auto& [number, session] : sessions) {
    if (session.channel.attempt() != attempt || session.served != from || !session.shown) continue;
    const messages::Ready& shown = session.shown->ready;
    if (array_of(shown.instance_key) != array_of(grant.instance_key)) continue;
    // An honest arbiter grants what it was shown.
    if (array_of(grant.lineage) != entry.lineage || grant.next_epoch != entry.epoch + 1 ||
        array_of(grant.digest) != array_of(shown.digest)) {
      return link.fail(Errc::kBadMessage);
    }
    entry.drop_key();
    return give(session, grant);
  }
  entry.drop_key();
  mark_lost(grant, from);
  emit(EventKind::kGrantRefused, id, attempt, Errc::kNoSession);  // for an instance that is gone
}

void Agent::Impl::forget(const HeldId& id) {
  held.erase(id);
  for (auto& [number, session] : sessions) {
    const bool served = session.served == SessionState::Served{false, id.second};
    if (served && session.channel.attempt() == id.first && session.grant.empty()) session.lost = Errc::kUnknownAttempt;
  }
}

// Results say nothing that anybody's safety depends on: they move hosts on, and end keys that are of no use.
void Agent::Impl::on_result(LinkId id, const Link& link, const LinkMessage& message) {
  messages::LinkResult result;
  message.read(result);
  const Attempt attempt = array_of(result.attempt);
  const auto error = static_cast<Errc>(result.errc);
  if (message.kind == LinkKind::kOfferAck) {
    const auto peers = book.judged(attempt);
    if (std::find(peers.begin(), peers.end(), link.peer().instance) == peers.end()) return;
    return emit(error == Errc::kOk ? EventKind::kOfferAccepted : EventKind::kOfferRefused, id, attempt, error);
  }
  const HeldId key{attempt, link.peer().instance};
  const auto it = held.find(key);
  if (it == held.end()) return;
  if (message.kind == LinkKind::kReadyAck) return emit(EventKind::kReadyAcked, id, attempt, error);
  if (message.kind == LinkKind::kForget) {
    forget(key);
    return emit(EventKind::kForgotten, id, attempt);
  }
  // The grant was made, so the key is of no use. To whom, this does not say: perhaps to another target here whose grant
  // was lost on the way, and who may still ask.
  if (error == Errc::kAlreadyGranted) it->second.drop_key();
  emit(EventKind::kGrantRefused, id, attempt, error);
}

// --- A_s ------------------------------------------------------------------------------------------------------------

void Agent::Impl::on_ready(LinkId id, Link& link, const LinkMessage& message) {
  messages::LinkReady ready;
  message.read(ready);
  const Attempt attempt = array_of(ready.ready.attempt);
  const Errc error = book.ready(ready, &link.peer(), now());
  (void)link.send(LinkKind::kReadyAck, result_of(attempt, error));
  if (error == Errc::kOk) emit(EventKind::kReadyArrived, id, attempt);
}

void Agent::Impl::on_grant_request(LinkId id, Link& link, const LinkMessage& message) {
  messages::LinkReady request;
  message.read(request);
  const Attempt attempt = array_of(request.ready.attempt);
  const auto grant = book.grant(request, &link.peer(), now());
  if (!grant) {
    (void)link.send(LinkKind::kGrantRefused, result_of(attempt, grant.error()));
    return;
  }
  // If the link breaks here, the target asks again and gets the same bytes.
  (void)link.send(LinkKind::kGrant, *grant);
  mark_lost(*grant, {true, {}});
  emit(EventKind::kGranted, id, attempt);
}

}  // namespace sealift::agent

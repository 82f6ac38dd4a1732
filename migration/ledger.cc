#include "migration/ledger.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

namespace sealift::ledger {

namespace {

template <std::size_t N>
std::array<std::uint8_t, N> array_of(const std::uint8_t (&from)[N]) {
  std::array<std::uint8_t, N> to;
  std::memcpy(to.data(), from, N);
  return to;
}

template <std::size_t N>
void put(std::uint8_t (&to)[N], const std::array<std::uint8_t, N>& from) {
  std::memcpy(to, from.data(), N);
}

constexpr Step to(State next) {
  return {Errc::kOk, next};
}
constexpr Step no(Errc why) {
  return {why, State::kUnknown};
}

// Rows: states. Columns: prepare, offer, ready, ticket, grant, cancel.
// After a ticket the source is no more, so its attempt cannot be cancelled: someone must be granted. Offers and readies
// go on until the grant (and for the granted instance beyond it), because an agent or a target may die and be replaced.
constexpr Step kTable[kStates][kEvents] = {
    /* unknown   */ {to(State::kPrepared), no(Errc::kUnknownAttempt), no(Errc::kUnknownAttempt),
                     no(Errc::kUnknownAttempt), no(Errc::kUnknownAttempt), no(Errc::kUnknownAttempt)},
    /* prepared  */
    {no(Errc::kAttemptUsed), to(State::kOffered), to(State::kReady), to(State::kTicketed), no(Errc::kNoTicket),
     to(State::kCancelled)},
    /* offered   */
    {no(Errc::kAttemptUsed), to(State::kOffered), to(State::kReady), to(State::kTicketed), no(Errc::kNoTicket),
     to(State::kCancelled)},
    /* ready     */
    {no(Errc::kAttemptUsed), to(State::kReady), to(State::kReady), to(State::kTicketed), no(Errc::kNoTicket),
     to(State::kCancelled)},
    /* ticketed  */
    {no(Errc::kAttemptUsed), to(State::kTicketed), to(State::kTicketed), to(State::kTicketed), to(State::kGranted),
     no(Errc::kDestroyed)},
    /* granted   */
    {no(Errc::kAttemptUsed), to(State::kGranted), to(State::kGranted), to(State::kGranted), to(State::kGranted),
     no(Errc::kDestroyed)},
    /* cancelled */
    {no(Errc::kAttemptUsed), no(Errc::kAttemptUsed), no(Errc::kAttemptUsed), no(Errc::kAttemptUsed),
     no(Errc::kAttemptUsed), to(State::kCancelled)},
};

bool before_ticket(State state) {
  return state == State::kPrepared || state == State::kOffered || state == State::kReady;
}

template <std::size_t N>
bool all_zero(const std::uint8_t (&bytes)[N]) {
  std::uint8_t any = 0;
  for (const std::uint8_t b : bytes) any = static_cast<std::uint8_t>(any | b);
  return any == 0;
}

}  // namespace

Step step(State state, Event event) noexcept {
  const auto row = static_cast<std::size_t>(state);
  const auto column = static_cast<std::size_t>(event);
  if (row >= kStates || column >= kEvents) return no(Errc::kBadRequest);
  return kTable[row][column];
}

State Ledger::state(const Attempt& attempt) const {
  if (const auto it = entries_.find(attempt); it != entries_.end()) return it->second.state;
  return used_.contains(attempt) ? State::kCancelled : State::kUnknown;
}

std::vector<AgentInstance> Ledger::judged(const Attempt& attempt) const {
  const auto it = entries_.find(attempt);
  return it == entries_.end() ? std::vector<AgentInstance>{} : it->second.judged;
}

Result<Ledger::Found> Ledger::find(const Attempt& attempt, Event event) {
  const Step taken = step(state(attempt), event);
  if (taken.error != Errc::kOk) return taken.error;
  const auto it = entries_.find(attempt);
  return Found{it == entries_.end() ? nullptr : &it->second, taken.next};
}

template <typename Doomed>
void Ledger::retire(const Entry& like, Doomed doomed) {
  for (auto it = entries_.begin(); it != entries_.end();) {
    if (&it->second != &like && it->second.same_lineage(like) && doomed(it->second.state)) {
      used_.insert(it->first);
      it = entries_.erase(it);  // the destructor wipes K
    } else {
      ++it;
    }
  }
}

// A source that prepares epoch e runs at e. So nothing of its lineage can hold a ticket, and nothing newer than e can
// have been seen; if it has, this source is a copy that must not go on.
Errc Ledger::check_epoch(const Entry& fresh) const {
  for (const auto& [attempt, entry] : entries_) {
    if (!entry.same_lineage(fresh)) continue;
    const bool reached =
        entry.state == State::kTicketed || (entry.state == State::kGranted && entry.epoch >= fresh.epoch);
    if (reached || entry.epoch > fresh.epoch) return Errc::kWrongEpoch;
  }
  return Errc::kOk;
}

Errc Ledger::prepare(const messages::Prepare& prepare, const messages::EnclaveIdentity& source) {
  const Attempt attempt = array_of(prepare.attempt);
  const Result<Found> found = find(attempt, Event::kPrepare);
  if (!found) return found.error();
  if ((prepare.policy.flags & policy::kAllowMigration) == 0) return Errc::kPolicy;
  if (all_zero(prepare.lineage)) return Errc::kWrongLineage;
  if (all_zero(prepare.key) || all_zero(prepare.attempt)) return Errc::kBadMessage;
  if (prepare.epoch == std::numeric_limits<std::uint64_t>::max()) return Errc::kWrongEpoch;
  Entry fresh;
  fresh.state = found->next;
  fresh.lineage = array_of(prepare.lineage);
  fresh.epoch = prepare.epoch;
  fresh.policy = prepare.policy;
  fresh.source = source;
  if (const Errc error = check_epoch(fresh); error != Errc::kOk) return error;
  fresh.key = Secret<record::kKeyBytes>(std::span<const std::uint8_t, record::kKeyBytes>(prepare.key));
  retire(fresh, before_ticket);
  entries_.emplace(attempt, std::move(fresh));
  return Errc::kOk;
}

std::optional<Attempt> Ledger::superseded_by(const messages::Prepare& prepare,
                                             const messages::EnclaveIdentity& source) const {
  const auto lineage = array_of(prepare.lineage);
  for (const auto& [attempt, entry] : entries_) {
    if (entry.lineage == lineage && entry.source == source && before_ticket(entry.state)) return attempt;
  }
  return std::nullopt;
}

Result<messages::LinkOffer> Ledger::offer(const Attempt& attempt, const PeerVerdict& peer, std::uint64_t now) {
  const Result<Found> found = find(attempt, Event::kOffer);
  if (!found) return found.error();
  Entry& entry = *found->entry;
  if (const Errc error = judge_peer(entry.policy, peer, now); error != Errc::kOk) return error;
  if (std::find(entry.judged.begin(), entry.judged.end(), peer.instance) == entry.judged.end()) {
    entry.judged.push_back(peer.instance);
  }
  messages::LinkOffer offer{};
  put(offer.prepare.lineage, entry.lineage);
  offer.prepare.epoch = entry.epoch;
  put(offer.prepare.attempt, attempt);
  std::memcpy(offer.prepare.key, entry.key.data(), entry.key.size());  // zeroes once granted
  offer.prepare.policy = entry.policy;
  offer.source = entry.source;
  entry.state = found->next;
  return offer;
}

Result<messages::KeyDelivery> Ledger::local_key(const Attempt& attempt, const messages::EnclaveIdentity& target,
                                                const MigrationPolicy& target_policy) {
  const Result<Found> found = find(attempt, Event::kOffer);
  if (!found) return found.error();
  Entry& entry = *found->entry;
  if (!(entry.source == target)) return Errc::kWrongEnclave;
  if (!same_policy(entry.policy, target_policy)) return Errc::kPolicy;
  if (entry.granted) return Errc::kAlreadyGranted;
  messages::KeyDelivery delivery{};
  put(delivery.lineage, entry.lineage);
  delivery.epoch = entry.epoch;
  put(delivery.attempt, attempt);
  std::memcpy(delivery.key, entry.key.data(), entry.key.size());
  entry.state = found->next;
  return delivery;
}

// Whether this instance, on the word of `peer`, may have a say in the attempt.
Errc Ledger::Entry::admit(const messages::LinkReady& shown, const PeerVerdict* peer, std::uint64_t now) {
  if (!(source == shown.target)) return Errc::kWrongEnclave;
  if (peer != nullptr && std::find(judged.begin(), judged.end(), peer->instance) == judged.end()) {
    // An agent that was not offered the key: it may only relay, and only if it could have been offered it.
    if (const Errc error = judge_peer(policy, *peer, now); error != Errc::kOk) return error;
    judged.push_back(peer->instance);
  }
  if (granted && array_of(granted->instance_key) != array_of(shown.ready.instance_key)) return Errc::kAlreadyGranted;
  const bool ticketed = state == State::kTicketed || state == State::kGranted;
  if (ticketed && digest != array_of(shown.ready.digest)) return Errc::kBadDigest;
  if (!ticketed && ready && array_of(ready->digest) != array_of(shown.ready.digest)) return Errc::kBadDigest;
  return Errc::kOk;
}

Errc Ledger::ready(const messages::LinkReady& ready, const PeerVerdict* peer, std::uint64_t now) {
  const Result<Found> found = find(array_of(ready.ready.attempt), Event::kReady);
  if (!found) return found.error();
  Entry& entry = *found->entry;
  if (const Errc error = entry.admit(ready, peer, now); error != Errc::kOk) return error;
  if (!entry.ready) entry.ready = ready.ready;
  entry.state = found->next;
  return Errc::kOk;
}

std::optional<messages::Ready> Ledger::first_ready(const Attempt& attempt) const {
  const auto it = entries_.find(attempt);
  return it == entries_.end() ? std::nullopt : it->second.ready;
}

Errc Ledger::ticket(const messages::Ticket& ticket) {
  const Result<Found> found = find(array_of(ticket.attempt), Event::kTicket);
  if (!found) return found.error();
  Entry& entry = *found->entry;
  if (entry.lineage != array_of(ticket.lineage)) return Errc::kWrongLineage;
  if (ticket.next_epoch != entry.epoch + 1) return Errc::kWrongEpoch;
  const auto digest = array_of(ticket.digest);
  if (!before_ticket(entry.state)) return entry.digest == digest ? Errc::kOk : Errc::kBadDigest;
  entry.digest = digest;
  entry.state = found->next;
  // What an earlier grant of this lineage said matters to nobody now: its instance has destroyed itself.
  retire(entry, [](State state) { return state == State::kGranted; });
  return Errc::kOk;
}

Result<messages::Grant> Ledger::grant(const messages::LinkReady& request, const PeerVerdict* peer, std::uint64_t now) {
  const Attempt attempt = array_of(request.ready.attempt);
  const Result<Found> found = find(attempt, Event::kGrant);
  if (!found) return found.error();
  Entry& entry = *found->entry;
  if (const Errc error = entry.admit(request, peer, now); error != Errc::kOk) return error;
  if (!entry.granted) {
    messages::Grant grant{};
    put(grant.lineage, entry.lineage);
    grant.next_epoch = entry.epoch + 1;
    put(grant.attempt, attempt);
    put(grant.digest, entry.digest);
    std::memcpy(grant.instance_key, request.ready.instance_key, sizeof(grant.instance_key));
    entry.granted = grant;
    entry.key.clear();
    entry.state = found->next;
  }
  return *entry.granted;
}

Errc Ledger::cancel(const Attempt& attempt) {
  const Result<Found> found = find(attempt, Event::kCancel);
  if (!found) return found.error();
  if (found->entry == nullptr) return Errc::kOk;  // cancelled before
  used_.insert(attempt);
  entries_.erase(attempt);
  return Errc::kOk;
}

}  // namespace sealift::ledger

// The arbiter: A_s's book of attempts, tickets and grants (design §7). Pure: no I/O, no clock, no randomness.
//
// Invariants:
//  1. Of one lineage (of one enclave identity) and one epoch at most one attempt has a ticket.
//  2. A ticket is granted to one instance key, once. Repeats get the same bytes, everybody else kAlreadyGranted.
//  3. An attempt number that was ever prepared is never prepared again.
//  4. An attempt is superseded by a newer one of the same lineage and epoch only while it has no ticket.
//  5. K is wiped when its attempt is cancelled, superseded or granted.
// Threads: none of its own; the caller serialises.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "migration/errc.h"
#include "migration/judge.h"
#include "migration/messages.h"
#include "migration/result.h"
#include "migration/secret.h"

namespace sealift::ledger {

using Attempt = std::array<std::uint8_t, 16>;

enum class State : std::uint32_t {
  kUnknown = 0,    // never prepared
  kPrepared = 1,   // K is here
  kOffered = 2,    // K has been given to at least one judged agent, or to a target on this machine
  kReady = 3,      // a target has shown a digest
  kTicketed = 4,   // the source has destroyed itself
  kGranted = 5,    // one instance may run; K is wiped
  kCancelled = 6,  // given up or superseded before a ticket; K is wiped
};
inline constexpr std::size_t kStates = 7;

enum class Event : std::uint32_t { kPrepare = 0, kOffer = 1, kReady = 2, kTicket = 3, kGrant = 4, kCancel = 5 };
inline constexpr std::size_t kEvents = 6;

// The whole state machine: where (state, event) leads, or why it does not. Conditions on the data come on top.
struct Step {
  Errc error;
  State next;  // if error == kOk
};
[[nodiscard]] Step step(State state, Event event) noexcept;

class Ledger {
 public:
  // `source`: identity from the source's REPORT. kAttemptUsed, kPolicy (migration not allowed), kWrongLineage (zero),
  // kWrongEpoch (this lineage is, or may be, beyond that epoch), kBadMessage (no key).
  [[nodiscard]] Errc prepare(const messages::Prepare& prepare, const messages::EnclaveIdentity& source);

  // What to send to `peer`, who is judged now. After the grant the key in it is zero: a new agent instance on the
  // target's machine may then still relay the grant to the instance that it is bound to. `now`: seconds since 1970 UTC.
  [[nodiscard]] Result<messages::LinkOffer> offer(const Attempt& attempt, const PeerVerdict& peer, std::uint64_t now);

  // K for a target on this very machine. kWrongEnclave, kPolicy, kAlreadyGranted.
  [[nodiscard]] Result<messages::KeyDelivery> local_key(const Attempt& attempt, const messages::EnclaveIdentity& target,
                                                        const MigrationPolicy& target_policy);

  // A target has shown its digest. `peer`: the agent that says so, null if it attested to this agent itself.
  [[nodiscard]] Errc ready(const messages::LinkReady& ready, const PeerVerdict* peer, std::uint64_t now);

  // The first Ready of the attempt: what the source commits on.
  [[nodiscard]] std::optional<messages::Ready> first_ready(const Attempt& attempt) const;

  // From the very source instance that prepared the attempt (the caller's session proves it).
  [[nodiscard]] Errc ticket(const messages::Ticket& ticket);

  // The one grant. kNoTicket before the ticket.
  [[nodiscard]] Result<messages::Grant> grant(const messages::LinkReady& request, const PeerVerdict* peer,
                                              std::uint64_t now);

  // Before the ticket only; a repeat is no error.
  [[nodiscard]] Errc cancel(const Attempt& attempt);

  // kCancelled also for attempts whose lineage has since been ticketed again by this agent.
  [[nodiscard]] State state(const Attempt& attempt) const;

  // The agents that were judged good for this attempt, and may hold its key.
  [[nodiscard]] std::vector<AgentInstance> judged(const Attempt& attempt) const;

  // The attempt that `prepare` would supersede: to be forgotten by those agents.
  [[nodiscard]] std::optional<Attempt> superseded_by(const messages::Prepare& prepare,
                                                     const messages::EnclaveIdentity& source) const;

 private:
  struct Entry {
    State state = State::kPrepared;
    std::array<std::uint8_t, 16> lineage{};
    std::uint64_t epoch = 0;  // of the source
    Secret<record::kKeyBytes> key;
    MigrationPolicy policy{};
    messages::EnclaveIdentity source{};
    std::vector<AgentInstance> judged;
    std::optional<messages::Ready> ready;   // the first
    std::array<std::uint8_t, 32> digest{};  // of the ticket
    std::optional<messages::Grant> granted;

    // Lineages of different enclaves are unrelated, whatever number an attacker's enclave claims for its own.
    [[nodiscard]] bool same_lineage(const Entry& other) const {
      return lineage == other.lineage && source == other.source;
    }
    [[nodiscard]] Errc admit(const messages::LinkReady& ready, const PeerVerdict* peer, std::uint64_t now);
  };
  struct Found {
    Entry* entry = nullptr;
    State next = State::kUnknown;
  };

  [[nodiscard]] Result<Found> find(const Attempt& attempt, Event event);
  [[nodiscard]] Errc check_epoch(const Entry& fresh) const;
  // Drops entries of `like`'s lineage that are in one of the states that `doomed` accepts; their attempts stay used.
  template <typename Doomed>
  void retire(const Entry& like, Doomed doomed);

  std::map<Attempt, Entry> entries_;
  std::set<Attempt> used_;  // attempts whose entry is gone
};

}  // namespace sealift::ledger

// Agent: everything that one agent enclave instance knows and decides. Bytes in, bytes out: no I/O, no threads.
//
// The host (daemon) is untrusted. It calls in any order, any number of times, with any bytes; the worst it can reach is
// that nothing happens. Every call that changes something may be repeated: it then answers with the same bytes.
//
// Threads: every method may be called from any thread; one mutex serialises them.
// Ownership: keeps references to Platform and ChannelFactory, which must outlive it; everything returned is a copy.
// Errors: Errc, never an exception. After an error nothing has changed, except that a link that failed stays failed.
//
// Host-to-host, the daemon's calls in order (docs/protocol.md has the chart):
//   both     quote_report, install_quote, link_open/feed/take until kReady
//   source   local_hello, local_message(Prepare), offer(attempt, link)          -> event kOfferAccepted
//   target   event kOfferArrived; local_hello, local_message(KeyRequest) -> KeyDelivery;
//            local_message(ReadyNotice), announce(session, link)                -> source: event kReadyArrived
//   source   local_poll -> Ready; S commits; local_message(Ticket)
//   target   request_grant(session, link)                                       -> event kGranted; local_poll -> Grant
// Resume on the source's machine after a commit: the target's calls on the source's agent, with link = kSelf.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>

#include "migration/errc.h"
#include "migration/ledger.h"
#include "migration/messages.h"
#include "migration/result.h"
#include "trusted/agent/platform.h"

namespace sealift::agent {

using Attempt = std::array<std::uint8_t, 16>;
using LinkId = std::uint64_t;
using SessionId = std::uint64_t;

inline constexpr LinkId kSelf = 0;  // in place of a link: this agent is both A_s and A_t

struct LocalReply {
  SessionId session = 0;
  Bytes confirm;  // messages::AgentConfirm
};

struct LinkStatus {
  LinkPhase phase = LinkPhase::kHandshaking;
  Errc error = Errc::kOk;             // why it failed
  std::uint64_t verdict_expires = 0;  // seconds since 1970 UTC; 0 while handshaking
  AgentInstance peer{};               // zero while handshaking
};

enum class EventKind : std::uint32_t {
  kOfferArrived = 1,   // A_t: an attempt's key lies here for a target with this attempt
  kOfferAccepted = 2,  // A_s: the peer holds the key
  kOfferRefused = 3,   // A_s: error tells why
  kReadyArrived = 4,   // A_s: local_poll of the source's session now gives Ready
  kReadyAcked = 5,     // A_t: A_s has it (error kOk) or refused it
  kGranted = 6,        // A_t: local_poll of the target's session now gives Grant. A_s: the one grant was given
  kGrantRefused = 7,   // A_t: error tells why (kNoTicket: ask again later; kAlreadyGranted: never)
  kForgotten = 8,      // A_t: cancelled at the source; the key is gone
};

struct Event {
  EventKind kind{};
  Errc error = Errc::kOk;
  LinkId link = kSelf;
  Attempt attempt{};
};

// What this agent knows of an attempt. `as_source`: it is A_s of it.
struct AttemptStatus {
  bool as_source = false;
  ledger::State state{};   // as_source
  bool holds_key = false;  // A_t: K is here
};

class Agent {
 public:
  // Draws the instance's key. Errc::kEntropy or kKeyLeaf: no agent.
  [[nodiscard]] static Result<std::unique_ptr<Agent>> create(Platform& platform, ChannelFactory& channels);
  ~Agent();
  Agent(const Agent&) = delete;
  Agent& operator=(const Agent&) = delete;

  // --- Quote: an enclave cannot reach the quoting enclave; the host carries ------------------------------------------
  // A sgx::Report aimed at the quoting enclave `qe` (sgx::Targetinfo bytes), over this instance's TLS key.
  [[nodiscard]] Result<Bytes> quote_report(ByteView qe);
  // `evidence`: the quote and its collateral in attestation/evidence.h's container. May be repeated with fresher ones.
  [[nodiscard]] Errc install_quote(ByteView evidence);

  // --- Local sessions -----------------------------------------------------------------------------------------------
  // messages::AgentHello; the same bytes for this instance's whole life.
  [[nodiscard]] Bytes hello() const;
  // `enclave_hello`: messages::EnclaveHello. kBadMessage, kWrongRole, kBadReport, kBadBinding. The same hello again
  // gives the same session and the same bytes.
  [[nodiscard]] Result<LocalReply> local_hello(ByteView enclave_hello);
  // One sealed message from the enclave; answers the sealed reply, or nothing if there is none.
  [[nodiscard]] Result<Bytes> local_message(SessionId session, ByteView sealed);
  // The next sealed message for the enclave (source: Ready; target: Grant), empty if there is none yet. The same bytes
  // at every call. A target that lost: kAlreadyGranted or kUnknownAttempt (cancelled).
  [[nodiscard]] Result<Bytes> local_poll(SessionId session);
  // The enclave instance is gone. The attempt, and a ticket, stay.
  void local_close(SessionId session);

  // --- Links: RA-TLS, kept open
  // ---------------------------------------------------------------------------------------
  [[nodiscard]] Result<LinkId> link_open(bool is_server);  // kNoQuote before install_quote
  [[nodiscard]] Errc link_feed(LinkId link, ByteView from_network);
  [[nodiscard]] Result<Bytes> link_take(LinkId link);  // empty: nothing to send
  [[nodiscard]] Result<LinkStatus> link_state(LinkId link);
  // Verifies the peer's quote again, with `collateral` (attestation/collateral.h's container), so that its verdict
  // lasts longer. kNoQuote: it did not verify; the old verdict stays until it expires.
  [[nodiscard]] Errc link_renew(LinkId link, ByteView collateral);
  void link_close(LinkId link);

  // --- Migration, A_s
  // ------------------------------------------------------------------------------------------------- Judges the link's
  // peer by the source's policy, then sends the key. May be repeated, on another link as well, until the grant: what
  // matters is that one instance is granted, not how many judged agents hold the key.
  [[nodiscard]] Errc offer(const Attempt& attempt, LinkId link);
  // Before the ticket only (kDestroyed after it). Call the source's own cancel first: this erases K.
  [[nodiscard]] Errc cancel(const Attempt& attempt);

  // --- Migration, A_t (or A_s itself with kSelf)
  // ------------------------------------------------------------------------ Tells A_s that this session's target is
  // ready (done unasked on the link of the offer while that is up).
  [[nodiscard]] Errc announce(SessionId session, LinkId link);
  // Asks A_s for the one grant for this session's target.
  [[nodiscard]] Errc request_grant(SessionId session, LinkId link);
  // Drops what A_t holds of this attempt, its key above all. For when it is over and A_s cannot say so.
  void forget(const Attempt& attempt);

  [[nodiscard]] std::optional<Event> next_event();
  [[nodiscard]] Result<AttemptStatus> attempt_status(const Attempt& attempt);

 private:
  struct Impl;
  explicit Agent(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace sealift::agent

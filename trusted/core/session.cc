// The enclave's end of the local session with its machine's agent enclave, and the protocol steps that use it (design
// §7, docs/protocol.md). Identity is taken from REPORTs, never from messages; roles are part of what a REPORT binds, as
// S and T are the same program.
#include "trusted/core/area.h"
#include "trusted/core/instance.h"
#include "trusted/core/leaves.h"
#include "trusted/core/memory.h"
#include "trusted/core/report.h"

namespace sealift::core {
namespace {

using messages::LocalRole;
using messages::SealedKind;

// REPORTDATA's first half; the second is zero.
void bind(LocalRole role, const std::uint8_t (&sender)[32], const std::uint8_t (&receiver)[32],
          const std::uint8_t (&attempt)[16], ReportData& out) noexcept {
  const std::uint32_t version = messages::kVersion;
  const auto role_number = static_cast<std::uint32_t>(role);
  std::uint8_t digest[32];
  Sha256 hash;
  hash.add(messages::kBindingLabel, sizeof messages::kBindingLabel - 1);
  hash.add(version);
  hash.add(role_number);
  hash.add(sender);
  hash.add(receiver);
  hash.add(attempt);
  hash.finish(digest);
  fill(out.bytes, 0, sizeof out.bytes);
  copy(out.bytes, digest, sizeof digest);
}

// The agent must be the one that the measured manifest pins, and not under a debugger.
Errc judge_agent(const sgx::ReportBody& agent) noexcept {
  const MigrationPolicy& p = config().policy;
  const bool debug = (agent.attributes.flags & sgx::attribute::kDebug) != 0;
  if (debug && (p.flags & policy::kDevelopment) == 0) return Errc::kDebugAgent;
  switch (static_cast<AgentPin>(p.agent_pin)) {
    case AgentPin::kMrenclave:
      return agent.mrenclave == p.agent ? Errc::kOk : Errc::kBadAgent;
    case AgentPin::kMrsigner:
      return agent.mrsigner == p.agent && agent.isvprodid == p.agent_isvprodid && agent.isvsvn >= p.agent_min_isvsvn
                 ? Errc::kOk
                 : Errc::kBadAgent;
    case AgentPin::kNone:
      break;
  }
  return Errc::kPolicy;
}

// Seals `body` as the session's next message into `out` (SealedHeader ‖ ciphertext ‖ tag).
template <typename Body>
void seal(SealedKind kind, const Body& body, std::uint8_t (&out)[messages::kSealedSize<Body>]) noexcept {
  Session& s = instance().session;
  const messages::SealedHeader h{messages::kVersion, static_cast<std::uint32_t>(kind), s.out_sequence, sizeof body, 0};
  std::uint8_t tag[kTagBytes];
  copy(out, &h, sizeof h);
  gcm_seal(s.out, s.out_sequence++, &h, sizeof h, &body, sizeof body, out + sizeof h, tag);
  copy(out + sizeof h + sizeof body, tag, sizeof tag);
}

template <typename Body>
Errc open(SealedKind kind, const ControlIo& io, Body& body) noexcept {
  Session& s = instance().session;
  if (s.step != SessionStep::kConfirmed) return Errc::kNoSession;
  if (io.in_len != messages::kSealedSize<Body>) return Errc::kBadMessage;
  messages::SealedHeader h;
  copy(&h, io.in, sizeof h);
  if (h.version != messages::kVersion || h.kind != static_cast<std::uint32_t>(kind) || h.body_len != sizeof body ||
      h.sequence != s.in_sequence || h.reserved != 0) {
    return Errc::kBadMessage;
  }
  std::uint8_t tag[kTagBytes];
  copy(tag, io.in + sizeof h + sizeof body, sizeof tag);
  if (!gcm_open(s.in, s.in_sequence, &h, sizeof h, io.in + sizeof h, sizeof body, &body, tag)) return Errc::kBadTag;
  ++s.in_sequence;
  return Errc::kOk;
}

void target_info_of(const sgx::ReportBody& b, sgx::Targetinfo& t) noexcept {
  t = {};
  t.measurement = b.mrenclave;
  t.attributes = b.attributes;
  t.configsvn = b.configsvn;
  t.miscselect = b.miscselect;
  copy(t.configid, b.configid, sizeof t.configid);
}

// What a hello may follow. A source draws a new attempt, and with it new keys. A target that already holds K may turn
// to another agent instance: if A_t dies between the grant and its arrival here, nobody else could bring it (S7). It
// then keeps its X25519 key, as that is what the grant is bound to.
Errc begin_attempt(const messages::AgentHello& hello, bool& keep_instance_key) noexcept {
  Instance& me = instance();
  keep_instance_key = false;
  switch (gate()) {
    case abi::GateState::kOpen:
      if ((config().policy.flags & policy::kAllowMigration) == 0) return Errc::kPolicy;
      forget_attempt();
      return random_bytes(me.attempt, sizeof me.attempt) ? Errc::kOk : Errc::kEntropy;
    case abi::GateState::kRestoring:
      keep_instance_key = me.has_key;
      // The same agent again would derive the same keys, and sequence numbers must never be sealed twice.
      return me.has_key && equal_ct(me.session.agent_key, hello.instance_key, sizeof hello.instance_key)
                 ? Errc::kWrongState
                 : Errc::kOk;
    case abi::GateState::kUnborn:
    case abi::GateState::kQuiescing:
    case abi::GateState::kDestroyed:
      break;
  }
  return Errc::kWrongState;
}

// Fresh keys and sequences; of a target's earlier session only its instance key stays, if asked.
Errc reset_session(bool keep_instance_key) noexcept {
  Session& s = instance().session;
  std::uint8_t secret[32];
  ScopedWipe wipe_secret(secret);
  if (keep_instance_key) {
    copy(secret, s.secret, sizeof secret);
  } else if (!random_bytes(secret, sizeof secret)) {
    return Errc::kEntropy;
  }
  wipe(&s, sizeof s);
  copy(s.secret, secret, sizeof secret);
  x25519_public(s.secret, s.key);
  s.role = gate() == abi::GateState::kOpen ? LocalRole::kSource : LocalRole::kTarget;
  instance().ready_sealed = false;
  return Errc::kOk;
}

}  // namespace

void forget_attempt() noexcept {
  Instance& me = instance();
  wipe(&me.session, sizeof me.session);
  wipe(&me.key, sizeof me.key);
  wipe(me.raw_key, sizeof me.raw_key);
  me.has_key = false;
}

Errc agent_hello(ControlIo& io) noexcept {
  const auto* hello = io.input<messages::AgentHello>();
  if (hello == nullptr || hello->version != messages::kVersion) return Errc::kBadMessage;
  bool keep_instance_key = false;
  const Errc begun = begin_attempt(*hello, keep_instance_key);
  if (begun != Errc::kOk) return begun;
  const Errc reset = reset_session(keep_instance_key);
  if (reset != Errc::kOk) return reset;
  Instance& me = instance();
  Session& s = me.session;
  copy(s.agent_key, hello->instance_key, sizeof s.agent_key);

  alignas(512) sgx::Targetinfo target = hello->target;
  alignas(128) ReportData data;
  alignas(512) AlignedReport report;
  bind(s.role, s.key, s.agent_key, me.attempt, data);
  ereport(target, data, report);

  Sha256 hash;
  hash.add(*hello);
  auto& out = io.output<messages::EnclaveHello>();
  out.version = messages::kVersion;
  out.role = static_cast<std::uint32_t>(s.role);
  copy(out.attempt, me.attempt, sizeof out.attempt);
  copy(out.enclave_key, s.key, sizeof out.enclave_key);
  copy(&out.report, &report.report, sizeof out.report);
  hash.add(out);
  hash.finish(s.transcript);
  s.step = SessionStep::kHelloSent;
  return Errc::kOk;
}

namespace {

Errc derive_keys(const std::uint8_t (&mac)[32]) noexcept {
  Session& s = instance().session;
  std::uint8_t shared[32], prk[32], key[32], expected[32];
  ScopedWipe w1(shared), w2(prk), w3(key);
  if (!x25519(s.secret, s.agent_key, shared)) return Errc::kBadMessage;
  // A target may need it for a session with another agent instance, until its grant (begin_attempt).
  if (s.role == LocalRole::kSource) wipe(s.secret, sizeof s.secret);
  hkdf_extract(s.transcript, shared, prk);
  hkdf_expand(prk, messages::kConfirmLabel, key);
  hmac_sha256(key, s.transcript, sizeof s.transcript, expected);
  if (!equal_ct(expected, mac, sizeof mac)) return Errc::kBadConfirmation;
  hkdf_expand(prk, messages::kEnclaveToAgentLabel, key);
  gcm_expand(s.out, key);
  hkdf_expand(prk, messages::kAgentToEnclaveLabel, key);
  gcm_expand(s.in, key);
  s.step = SessionStep::kConfirmed;
  return Errc::kOk;
}

Errc send_prepare(ControlIo& io) noexcept {
  Instance& me = instance();
  if (!random_bytes(me.raw_key, sizeof me.raw_key)) return Errc::kEntropy;
  gcm_expand(me.key, me.raw_key);
  me.has_key = true;
  messages::Prepare prepare{};
  ScopedWipe wipe_prepare(prepare);
  copy(prepare.lineage, me.lineage, sizeof prepare.lineage);
  prepare.epoch = me.epoch;
  copy(prepare.attempt, me.attempt, sizeof prepare.attempt);
  copy(prepare.key, me.raw_key, sizeof prepare.key);
  prepare.policy = config().policy;
  wipe(me.raw_key, sizeof me.raw_key);
  dump_begin();
  io.out_len = messages::kSealedSize<messages::Prepare>;
  seal(SealedKind::kPrepare, prepare,
       *reinterpret_cast<std::uint8_t(*)[messages::kSealedSize<messages::Prepare>]>(io.out));
  return Errc::kOk;
}

Errc send_key_request(ControlIo& io) noexcept {
  messages::KeyRequest request{};
  copy(request.attempt, instance().attempt, sizeof request.attempt);
  request.policy = config().policy;
  io.out_len = messages::kSealedSize<messages::KeyRequest>;
  seal(SealedKind::kKeyRequest, request,
       *reinterpret_cast<std::uint8_t(*)[messages::kSealedSize<messages::KeyRequest>]>(io.out));
  return Errc::kOk;
}

}  // namespace

Errc agent_confirm(ControlIo& io) noexcept {
  const auto* confirm = io.input<messages::AgentConfirm>();
  if (confirm == nullptr) return Errc::kBadMessage;
  Session& s = instance().session;
  if (s.step != SessionStep::kHelloSent) return Errc::kNoSession;
  if (!verify_report(confirm->report)) return Errc::kBadReport;
  const Errc judged = judge_agent(confirm->report.body);
  if (judged != Errc::kOk) return judged;
  const bool source = s.role == LocalRole::kSource;
  // A session that began at an open gate must still be at one: Prepare is possible from Open alone.
  if (gate() != (source ? abi::GateState::kOpen : abi::GateState::kRestoring)) return Errc::kWrongState;
  ReportData expected;
  bind(source ? LocalRole::kAgentForSource : LocalRole::kAgentForTarget, s.agent_key, s.key, instance().attempt,
       expected);
  if (!equal_ct(expected.bytes, confirm->report.body.reportdata, sizeof expected.bytes)) return Errc::kBadBinding;
  const Errc derived = derive_keys(confirm->mac);
  if (derived != Errc::kOk) {
    // One try. A source's secret is wiped by now: a second confirmation would be checked against X25519 of zero, which
    // the host can compute, and the session, with K in it, would be the host's.
    s.step = SessionStep::kNone;
    return derived;
  }
  target_info_of(confirm->report.body, s.agent);
  return source ? send_prepare(io) : send_key_request(io);
}

namespace {

// The stream is complete and this instance has not committed yet.
bool may_commit() noexcept {
  return gate() == abi::GateState::kQuiescing && instance().dump.done && instance().has_key &&
         instance().session.step == SessionStep::kConfirmed;
}

// Self-destroy first; only then does the ticket exist.
Errc destroy_and_seal_ticket(ControlIo& io) noexcept {
  Instance& me = instance();
  if (!gate_move(abi::GateState::kQuiescing, abi::GateState::kDestroyed)) return Errc::kNotReady;
  wipe(&me.key, sizeof me.key);
  me.has_key = false;
  messages::Ticket ticket{};
  copy(ticket.lineage, me.lineage, sizeof ticket.lineage);
  ticket.next_epoch = me.epoch + 1;
  copy(ticket.attempt, me.attempt, sizeof ticket.attempt);
  copy(ticket.digest, me.digest, sizeof ticket.digest);
  seal(SealedKind::kTicket, ticket, me.ticket);
  me.has_ticket = true;
  return ticket_again(io);
}

}  // namespace

Errc commit(ControlIo& io) noexcept {
  Instance& me = instance();
  if (me.has_ticket) return ticket_again(io);
  if (!may_commit()) return Errc::kNotReady;
  messages::Ready ready;
  const Errc opened = open(SealedKind::kReady, io, ready);
  if (opened != Errc::kOk) return opened;
  if (!equal_ct(ready.attempt, me.attempt, sizeof ready.attempt)) return Errc::kWrongAttempt;
  if (!equal_ct(ready.digest, me.digest, sizeof ready.digest)) return Errc::kBadDigest;
  return destroy_and_seal_ticket(io);
}

// Inside a VM the target does not exist before the switchover, so nobody can have shown a digest yet (design §7). Ready
// protects from losing the enclave to a stream that nobody can restore (S7), and from nothing else: that this instance
// never runs again, that there is one ticket, for this digest, and whom it is granted to are all as after kCommit. So
// whether it is inside a VM need not be known in here: a host that lies can only lose the enclave, as any host can.
Errc commit_held(ControlIo& io) noexcept {
  if (instance().has_ticket) return ticket_again(io);
  if (io.in_len != 0) return Errc::kBadSize;
  return may_commit() ? destroy_and_seal_ticket(io) : Errc::kNotReady;
}

Errc ticket_again(ControlIo& io) noexcept {
  Instance& me = instance();
  if (!me.has_ticket) return Errc::kNoTicket;
  copy(io.out, me.ticket, sizeof me.ticket);
  io.out_len = sizeof me.ticket;
  return Errc::kOk;
}

Errc install_key(ControlIo& io) noexcept {
  Instance& me = instance();
  if (me.role != abi::Role::kRestore || gate() != abi::GateState::kRestoring) return Errc::kNotReady;
  messages::KeyDelivery delivery;
  ScopedWipe wipe_delivery(delivery);
  const Errc opened = open(SealedKind::kKeyDelivery, io, delivery);
  if (opened != Errc::kOk) return opened;
  if (!equal_ct(delivery.attempt, me.attempt, sizeof delivery.attempt)) return Errc::kWrongAttempt;
  // From a second agent instance (begin_attempt): K is here already, but the session counts its messages.
  if (me.has_key) return Errc::kOk;
  copy(me.lineage, delivery.lineage, sizeof me.lineage);
  me.epoch = delivery.epoch;
  gcm_expand(me.key, delivery.key);
  me.has_key = true;
  dump_begin();
  return Errc::kOk;
}

Errc ready(ControlIo& io) noexcept {
  Instance& me = instance();
  if (me.role != abi::Role::kRestore || !me.restored) return Errc::kNotReady;
  if (!me.ready_sealed) {
    if (gate() != abi::GateState::kRestoring) return Errc::kNotReady;
    // Between a hello and its confirmation there are no keys: nothing may be sealed under zeroes.
    if (me.session.step != SessionStep::kConfirmed) return Errc::kNoSession;
    messages::Ready message{};
    copy(message.attempt, me.attempt, sizeof message.attempt);
    copy(message.digest, me.digest, sizeof message.digest);
    copy(message.instance_key, me.session.key, sizeof message.instance_key);
    seal(SealedKind::kReadyNotice, message, me.ready);
    me.ready_sealed = true;
  }
  copy(io.out, me.ready, sizeof me.ready);
  io.out_len = sizeof me.ready;
  return Errc::kOk;
}

Errc grant(ControlIo& io) noexcept {
  Instance& me = instance();
  if (me.role != abi::Role::kRestore || gate() != abi::GateState::kRestoring || !me.restored || !me.ready_sealed) {
    return Errc::kNotReady;
  }
  messages::Grant g;
  const Errc opened = open(SealedKind::kGrant, io, g);
  if (opened != Errc::kOk) return opened;
  if (!equal_ct(g.instance_key, me.session.key, sizeof g.instance_key)) return Errc::kAlreadyGranted;
  if (!equal_ct(g.attempt, me.attempt, sizeof g.attempt)) return Errc::kWrongAttempt;
  if (!equal_ct(g.digest, me.digest, sizeof g.digest)) return Errc::kBadDigest;
  if (!equal_ct(g.lineage, me.lineage, sizeof g.lineage)) return Errc::kWrongLineage;
  if (g.next_epoch != me.epoch + 1) return Errc::kWrongEpoch;
  me.epoch = g.next_epoch;
  forget_attempt();
  return gate_move(abi::GateState::kRestoring, abi::GateState::kOpen) ? Errc::kOk : Errc::kNotReady;
}

}  // namespace sealift::core

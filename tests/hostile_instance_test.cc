// A host that wants two instances, an old one, or one that should be dead (S3, S4; design, section 7).
#include <gtest/gtest.h>

#include "tests/enclaves/counter_calls.h"
#include "tests/lab/expect.h"
#include "tests/lab/keyholder.h"
#include "tests/lab/lab.h"

namespace sealift::lab {
namespace {

using abi::ControlOp;
using abi::Exit;
using abi::GateState;
using abi::Request;
using abi::ThreadState;

constexpr std::uint32_t kTcs = 2, kOtherTcs = 3;

// A source on one machine with a value in it, and another machine.
class HostileInstance : public ::testing::Test {
 protected:
  HostileInstance() : source_(here_) {}
  void SetUp() override {
    ASSERT_EQ(source_.build("tiny"), Errc::kOk) << source_.error;
    ASSERT_EQ(source_.start(), Errc::kOk) << source_.error;
    ASSERT_TRUE(source_.raw_call(kTcs, counter::kPut, "k", "v").ok());
  }
  void stream(Migration& m) {
    ASSERT_EQ(m.prepare(), Errc::kOk);
    ASSERT_EQ(m.offer(), Errc::kOk);
    ASSERT_EQ(m.dump(), Errc::kOk);
  }
  // A target that shows the digest.
  void restore(Migration& m, Peer& target) {
    ASSERT_EQ(target.build("tiny", source_.base), Errc::kOk) << target.error;
    ASSERT_EQ(m.meet(target), Errc::kOk);
    ASSERT_EQ(m.feed(target), Errc::kOk);
    ASSERT_EQ(m.ready(target), Errc::kOk);
  }
  bool runs(Peer& peer) { return peer.raw_call(kTcs, counter::kGet, "k").ok(); }

  LabMachine here_, there_;
  Peer source_;
};

// --- One grant
// ----------------------------------------------------------------------------------------------------------

TEST_F(HostileInstance, TwoTargetsOfOneStreamShareOneGrant) {
  Peer first(there_), second(there_);
  Migration m(here_, source_, there_);
  stream(m);
  restore(m, first);
  const agent::SessionId first_session = m.target_session;
  restore(m, second);
  const agent::SessionId second_session = m.target_session;
  ASSERT_EQ(m.commit(), Errc::kOk);

  m.target_session = second_session;
  ASSERT_EQ(m.fetch_grant(), Errc::kOk);
  const Bytes grant = m.sealed_grant;
  m.target_session = first_session;
  EXPECT_EQ(m.fetch_grant(), Errc::kAlreadyGranted);
  EXPECT_EQ(first.control(ControlOp::kGrant, grant), Errc::kBadTag);
  EXPECT_EQ(gate_of(first), GateState::kRestoring);
  EXPECT_FALSE(runs(first));
  ASSERT_EQ(second.control(ControlOp::kGrant, grant), Errc::kOk);
  EXPECT_TRUE(runs(second));
  // Again and again: the same instance, once.
  EXPECT_EQ(second.control(ControlOp::kGrant, grant), Errc::kNotReady);
  m.target_session = first_session;
  EXPECT_EQ(m.fetch_grant(), Errc::kAlreadyGranted);
  EXPECT_FALSE(runs(first));
  EXPECT_FALSE(runs(source_));
}

// The same on the source's own machine, where A_s serves both.
TEST_F(HostileInstance, AnInstanceOnEachMachineSharesOneGrant) {
  Peer away(there_), home(here_);
  Migration m(here_, source_, there_);
  stream(m);
  restore(m, away);
  ASSERT_EQ(m.commit(), Errc::kOk);
  source_.close();  // its address is needed
  Migration back(here_, source_, here_);
  back.attempt = m.attempt;
  back.records = m.records;
  ASSERT_EQ(home.build("tiny", away.base), Errc::kOk) << home.error;
  ASSERT_EQ(back.meet(home), Errc::kOk);
  ASSERT_EQ(back.feed(home), Errc::kOk);
  Bytes notice;
  ASSERT_EQ(home.control(ControlOp::kReady, {}, notice), Errc::kOk);
  ASSERT_TRUE(here_.agent->local_message(back.target_session, notice).ok());
  ASSERT_EQ(here_.agent->request_grant(back.target_session, agent::kSelf), Errc::kOk);
  const auto grant = here_.agent->local_poll(back.target_session);
  ASSERT_TRUE(grant.ok() && !grant->empty());
  EXPECT_NE(m.fetch_grant(), Errc::kOk);
  Errc refused = Errc::kOk;
  while (const auto event = there_.agent->next_event()) {
    if (event->kind == agent::EventKind::kGrantRefused) refused = event->error;
  }
  EXPECT_EQ(refused, Errc::kAlreadyGranted);
  ASSERT_EQ(home.control(ControlOp::kGrant, *grant), Errc::kOk);
  EXPECT_TRUE(runs(home));
  EXPECT_EQ(away.control(ControlOp::kGrant, *grant), Errc::kBadTag);
  EXPECT_FALSE(runs(away));
}

TEST_F(HostileInstance, AStreamThatWasUsedStartsNothingAgain) {
  Peer target(there_), next(here_), late(there_);
  Migration m(here_, source_, there_);
  stream(m);
  restore(m, target);
  ASSERT_EQ(m.commit(), Errc::kOk);
  ASSERT_EQ(m.grant(target), Errc::kOk);
  ASSERT_TRUE(target.call(counter::kPut, "k", "newer").ok());
  source_.close();
  // The lineage goes on, to a third epoch …
  Migration onward(there_, target, here_);
  ASSERT_EQ(onward.run(next, "tiny"), Errc::kOk) << next.error;
  EXPECT_EQ(*next.call(counter::kIdentity), 3u);
  // … and somebody who kept the first stream wants the second back.
  target.close();
  ASSERT_EQ(late.build("tiny", next.base), Errc::kOk) << late.error;
  Errc e = m.meet(late);
  if (e == Errc::kOk) e = m.feed(late);
  if (e == Errc::kOk) e = m.ready(late);
  if (e == Errc::kOk) e = m.fetch_grant();
  EXPECT_NE(e, Errc::kOk);
  if (!m.sealed_grant.empty()) {
    EXPECT_NE(late.control(ControlOp::kGrant, m.sealed_grant), Errc::kOk);
  }
  EXPECT_FALSE(runs(late));
  EXPECT_EQ(*next.call(counter::kGet, "k"), "newer");
}

// Another instance of the same agent enclave (a clone, or one after a restart) has no session with the source.
TEST_F(HostileInstance, ATicketIsWorthNothingToAnotherAgentInstance) {
  Peer target(there_);
  Migration m(here_, source_, there_);
  stream(m);
  restore(m, target);
  const auto ready = here_.agent->local_poll(m.source_session);
  ASSERT_TRUE(ready.ok());
  Bytes ticket;
  ASSERT_EQ(source_.control(ControlOp::kCommit, *ready, ticket), Errc::kOk);
  auto old = std::move(here_.agent);
  auto old_cpu = std::move(here_.cpu);
  auto old_channels = std::move(here_.channels);
  here_.new_agent();
  for (agent::SessionId id = 0; id < 4; ++id) EXPECT_FALSE(here_.agent->local_message(id, ticket).ok());
  // It cannot even be asked for: the destroyed source says hello to nobody.
  EXPECT_EQ(source_.control(ControlOp::kAgentHello, here_.agent->hello()), Errc::kWrongState);
  // The right one takes it, as often as it comes.
  EXPECT_TRUE(old->local_message(m.source_session, ticket).ok());
  EXPECT_TRUE(old->local_message(m.source_session, ticket).ok());
  old.reset();
}

// --- What a target takes for a grant
// --------------------------------------------------------------------------------------

// Restored by a test that holds K, so that every word of a grant can be wrong under a good seal.
class HostileGrant : public HostileInstance {
 protected:
  HostileGrant() : agent_(here_), target_agent_(there_), target_(there_) {}
  void SetUp() override {
    HostileInstance::SetUp();
    ASSERT_EQ(agent_.meet(source_), Errc::kOk);
    sealed_ = dump_all(source_);
    stream_ = OpenStream::of(agent_.prepare(), sealed_);
    ASSERT_EQ(target_.build("tiny", source_.base), Errc::kOk) << target_.error;
  }
  messages::Grant grant() {
    const messages::KeyDelivery d = stream_.delivery();
    messages::Grant g{};
    std::memcpy(g.lineage, d.lineage, sizeof g.lineage);
    g.next_epoch = d.epoch + 1;
    std::memcpy(g.attempt, d.attempt, sizeof g.attempt);
    const record::Final final = stream_.final_record();
    std::memcpy(g.digest, final.digest, sizeof g.digest);
    const auto key = target_agent_.session.enclave_key();
    std::copy(key.begin(), key.end(), g.instance_key);
    return g;
  }
  Errc give(const messages::Grant& g) {
    return target_.control(ControlOp::kGrant, target_agent_.session.seal(messages::SealedKind::kGrant, g));
  }
  void expect_waiting() {
    EXPECT_EQ(gate_of(target_), GateState::kRestoring);
    EXPECT_FALSE(runs(target_));
  }

  KeyHolder agent_, target_agent_;
  Peer target_;
  std::vector<Bytes> sealed_;
  OpenStream stream_;
};

TEST_F(HostileGrant, EveryWordOfAGrantMustFit) {
  ASSERT_EQ(target_agent_.restore(target_, stream_, sealed_), Errc::kOk);
  ASSERT_EQ(target_.control(ControlOp::kReady), Errc::kOk);
  messages::Grant g = grant();
  g.instance_key[0] ^= 1;
  EXPECT_EQ(give(g), Errc::kAlreadyGranted);
  expect_waiting();
  g = grant();
  g.attempt[15] ^= 1;
  EXPECT_EQ(give(g), Errc::kWrongAttempt);
  expect_waiting();
  g = grant();
  g.digest[0] ^= 1;
  EXPECT_EQ(give(g), Errc::kBadDigest);
  expect_waiting();
  g = grant();
  g.lineage[3] ^= 1;
  EXPECT_EQ(give(g), Errc::kWrongLineage);
  expect_waiting();
  for (const std::uint64_t epoch : {std::uint64_t{0}, stream_.prepare.epoch, stream_.prepare.epoch + 2}) {
    g = grant();
    g.next_epoch = epoch;
    EXPECT_EQ(give(g), Errc::kWrongEpoch);
    expect_waiting();
  }
  // The wrong ones have taken sequence numbers, and the right one still fits.
  EXPECT_EQ(give(grant()), Errc::kOk);
  EXPECT_TRUE(runs(target_));
  EXPECT_EQ(target_.status().epoch, stream_.prepare.epoch + 1);
}

TEST_F(HostileGrant, AGrantBeforeTheLastRecordIsRefused) {
  const messages::KeyDelivery d = stream_.delivery();
  ASSERT_EQ(target_.control(ControlOp::kRestore, Bytes(std::begin(d.attempt), std::end(d.attempt))), Errc::kOk);
  EXPECT_EQ(target_.control(ControlOp::kGrant, Bytes(100)), Errc::kNotReady);
  ASSERT_EQ(target_agent_.meet(target_), Errc::kOk);
  EXPECT_EQ(give(grant()), Errc::kNotReady);
  expect_waiting();
  target_.close();
  ASSERT_EQ(target_.build("tiny", source_.base), Errc::kOk) << target_.error;
  // All but the final record, and the same agent's word: nothing runs.
  ASSERT_EQ(target_agent_.restore(target_, stream_, {sealed_.begin(), sealed_.end() - 1}), Errc::kOk);
  EXPECT_EQ(target_.control(ControlOp::kReady), Errc::kNotReady);
  EXPECT_EQ(give(grant()), Errc::kNotReady);
  expect_waiting();
}

TEST_F(HostileGrant, AGrantBeforeReadyIsRefused) {
  ASSERT_EQ(target_agent_.restore(target_, stream_, sealed_), Errc::kOk);
  EXPECT_EQ(give(grant()), Errc::kNotReady);
  expect_waiting();
}

TEST_F(HostileGrant, AKeyDeliveryOfAnotherAttemptOrSessionIsRefused) {
  messages::KeyDelivery d = stream_.delivery();
  ASSERT_EQ(target_.control(ControlOp::kRestore, Bytes(std::begin(d.attempt), std::end(d.attempt))), Errc::kOk);
  ASSERT_EQ(target_agent_.meet(target_), Errc::kOk);
  const Bytes kept = target_agent_.session.seal(messages::SealedKind::kKeyDelivery, d);
  // The target says hello once more: another session, and another instance.
  const auto first_key = target_agent_.session.enclave_key();
  ASSERT_EQ(target_agent_.meet(target_), Errc::kOk);
  EXPECT_NE(first_key, target_agent_.session.enclave_key());
  EXPECT_EQ(target_.control(ControlOp::kInstallKey, kept), Errc::kBadTag);
  messages::KeyDelivery other = d;
  other.attempt[0] ^= 1;
  EXPECT_EQ(target_agent_.deliver(target_, other), Errc::kWrongAttempt);
  EXPECT_EQ(target_.control(ControlOp::kRecord, sealed_.front()), Errc::kNotReady);
  EXPECT_EQ(target_agent_.deliver(target_, d), Errc::kOk);
  EXPECT_EQ(feed(target_, sealed_), Errc::kOk);
}

// S7: A_t may die between the grant and its arrival. The target turns to its successor with the same instance key; that
// agent may have been offered K, or not.
TEST_F(HostileGrant, ATargetTurnsToAnotherAgentAndIsGrantedThere) {
  ASSERT_EQ(target_agent_.restore(target_, stream_, sealed_), Errc::kOk);
  const auto instance_key = target_agent_.session.enclave_key();
  const Bytes request = target_agent_.first;
  EXPECT_EQ(target_agent_.meet(target_), Errc::kWrongState);  // the same agent: the same keys, the same sequence
  for (const bool offered : {true, false}) {
    KeyHolder successor(there_);
    ASSERT_EQ(successor.meet(target_), Errc::kOk);
    EXPECT_EQ(successor.session.enclave_key(), instance_key);
    if (offered) {
      ASSERT_EQ(successor.deliver(target_, stream_.delivery()), Errc::kOk);
    }
    // And back: what was sealed before is sealed again, byte for byte.
    ASSERT_EQ(target_agent_.meet(target_), Errc::kOk);
    EXPECT_EQ(target_agent_.first, request);
  }
  KeyHolder last(there_);
  ASSERT_EQ(last.meet(target_), Errc::kOk);
  messages::KeyDelivery other_key = stream_.delivery();
  other_key.key[0] ^= 1;
  ASSERT_EQ(last.deliver(target_, other_key), Errc::kOk);  // counted, not installed
  EXPECT_EQ(last.grant(target_, stream_), Errc::kOk);
  EXPECT_TRUE(runs(target_));
}

// A session that was never confirmed (its agent died, or lied) leaves the target able to turn to another.
TEST_F(HostileGrant, AFailedConfirmationDoesNotCostATargetItsInstanceKey) {
  ASSERT_EQ(target_agent_.restore(target_, stream_, sealed_), Errc::kOk);
  const auto instance_key = target_agent_.session.enclave_key();
  KeyHolder liar(there_), honest(there_);
  Bytes hello;
  ASSERT_EQ(target_.control(ControlOp::kAgentHello, liar.hello(), hello), Errc::kOk);
  auto accepted = agent::LocalSession::accept(liar.cpu, liar.self, hello);
  ASSERT_TRUE(accepted.ok());
  messages::AgentConfirm confirm = accepted->confirm();
  confirm.mac[0] ^= 1;
  const auto view = agent::bytes_of(confirm);
  EXPECT_EQ(target_.control(ControlOp::kAgentConfirm, {view.begin(), view.end()}), Errc::kBadConfirmation);
  EXPECT_EQ(target_.control(ControlOp::kReady), Errc::kNoSession);
  ASSERT_EQ(honest.meet(target_), Errc::kOk);
  EXPECT_EQ(honest.session.enclave_key(), instance_key);
  EXPECT_EQ(honest.grant(target_, stream_), Errc::kOk);
  EXPECT_TRUE(runs(target_));
}

// --- The source, after commit
// ----------------------------------------------------------------------------------------------

TEST_F(HostileInstance, TheDestroyedSourceDoesNothingAnyMore) {
  // One of its threads is parked in the middle of a call.
  const std::uint64_t bytes = source_.put_call(kOtherTcs, 13, wire::encode(std::tuple(std::uint64_t{1} << 60)));
  ASSERT_TRUE(interrupted(
      source_.enclu({kEenterLeaf, kOtherTcs, static_cast<std::uint64_t>(Request::kCall), bytes, 0, {}, {}, 2000})));
  Peer target(there_);
  Migration m(here_, source_, there_);
  ASSERT_EQ(m.prepare(), Errc::kOk);
  ASSERT_EQ(m.offer(), Errc::kOk);
  while (close_gate(source_) != 0) {
    if (left_with(source_.handle(kOtherTcs), Exit::kParked)) break;
    ASSERT_TRUE(interrupted(source_.resume(kOtherTcs)));
  }
  ASSERT_EQ(m.dump(), Errc::kOk);
  restore(m, target);
  ASSERT_EQ(m.commit(), Errc::kOk);
  const abi::Status before = source_.status();
  ASSERT_EQ(static_cast<GateState>(before.gate), GateState::kDestroyed);
  for (int i = 0; i < 50; ++i) ASSERT_TRUE(undefined(source_.resume(kOtherTcs)));
  for (std::uint64_t op = 0; op < 20; ++op) {
    const auto control = static_cast<ControlOp>(op);
    Bytes out;
    const Errc e = source_.control(control, control == ControlOp::kCommit ? m.ready_message : Bytes{}, out);
    switch (control) {
      case ControlOp::kStatus:
        EXPECT_EQ(e, Errc::kOk);
        break;
      case ControlOp::kCommit:
      case ControlOp::kTicketAgain:
        EXPECT_EQ(e, Errc::kOk);
        EXPECT_EQ(out, m.ticket_message);  // the same bytes
        break;
      default:
        EXPECT_NE(e, Errc::kOk) << op;
    }
  }
  EXPECT_EQ(source_.control(ControlOp::kAgentHello, here_.agent->hello()), Errc::kWrongState);
  EXPECT_EQ(source_.control(ControlOp::kCancel), Errc::kWrongState);
  EXPECT_EQ(gate_of(source_), GateState::kDestroyed);
  // The ticket is with A_s: cancelling there is too late as well.
  EXPECT_EQ(here_.agent->cancel(m.attempt), Errc::kDestroyed);
  ASSERT_EQ(m.fetch_grant(), Errc::kOk);
  ASSERT_EQ(target.control(ControlOp::kGrant, m.sealed_grant), Errc::kOk);
  EXPECT_TRUE(runs(target));
  EXPECT_FALSE(runs(source_));
}

// --- Control operations where they do not belong
// ----------------------------------------------------------------------------

TEST_F(HostileInstance, ARestoringInstanceTakesOnlyWhatBelongsThere) {
  KeyHolder agent(here_), target_agent(there_);
  ASSERT_EQ(agent.meet(source_), Errc::kOk);
  const std::vector<Bytes> sealed = dump_all(source_);
  const OpenStream stream = OpenStream::of(agent.prepare(), sealed);
  Peer target(there_);
  ASSERT_EQ(target.build("tiny", source_.base), Errc::kOk) << target.error;
  const auto expect_refusals = [&] {
    for (const ControlOp op :
         {ControlOp::kStart, ControlOp::kRestore, ControlOp::kQuiesce, ControlOp::kDump, ControlOp::kCancel,
          ControlOp::kCommit, ControlOp::kTicketAgain, ControlOp::kPrecopyDump}) {
      EXPECT_NE(target.control(op, op == ControlOp::kRestore ? Bytes(16, 1) : Bytes{}), Errc::kOk)
          << static_cast<int>(op);
    }
    EXPECT_EQ(gate_of(target), GateState::kRestoring);
  };
  const messages::KeyDelivery d = stream.delivery();
  ASSERT_EQ(target.control(ControlOp::kRestore, Bytes(std::begin(d.attempt), std::end(d.attempt))), Errc::kOk);
  expect_refusals();
  EXPECT_EQ(target.control(ControlOp::kRecord, sealed.front()), Errc::kNotReady);
  ASSERT_EQ(target_agent.meet(target), Errc::kOk);
  expect_refusals();
  ASSERT_EQ(target_agent.deliver(target, d), Errc::kOk);
  expect_refusals();
  ASSERT_EQ(feed(target, sealed), Errc::kOk);
  expect_refusals();
  ASSERT_EQ(target_agent.grant(target, stream), Errc::kOk);
  // Granted: nothing of the restore is possible any more.
  EXPECT_EQ(target.control(ControlOp::kRecord, sealed.front()), Errc::kNotReady);
  EXPECT_EQ(target.control(ControlOp::kInstallKey, target_agent.first), Errc::kNotReady);
  EXPECT_EQ(target.control(ControlOp::kGrant, target_agent.first), Errc::kNotReady);
  EXPECT_EQ(target.control(ControlOp::kRestore, Bytes(16, 1)), Errc::kWrongRole);
  EXPECT_TRUE(runs(target));
}

}  // namespace
}  // namespace sealift::lab

// A host that wants two instances, an old one, or one that should be dead (S3, S4; design, section 7).
#include <gtest/gtest.h>

#include "tests/lab/two_machines.h"
#include "tests/lab/watching.h"

namespace sealift::lab {
namespace {

using abi::ControlOp;
using abi::Exit;
using abi::GateState;
using abi::Request;
using abi::ThreadState;

class HostileInstance : public TwoMachines {};

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

TEST_F(HostileInstance, TheDestroyedSourceDoesNothingAnyMore) {
  // One of its threads is parked in the middle of a call.
  ASSERT_NO_FATAL_FAILURE(interrupt_watching(source_, kOtherTcs, std::uint64_t{1} << 60));
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
      case ControlOp::kCommitHeld:
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
          ControlOp::kCommit, ControlOp::kCommitHeld, ControlOp::kTicketAgain, ControlOp::kPrecopyDump}) {
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

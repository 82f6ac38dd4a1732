// The host between an enclave and its agent: sessions that fail, are replayed, reflected or mixed up (S1, S5).
//
// The tests use only what a host sees (hellos, REPORTs, sealed bytes), unless they say otherwise.
#include <gtest/gtest.h>

#include "tests/enclaves/counter_calls.h"
#include "tests/lab/keyholder.h"
#include "tests/lab/lab.h"
#include "trusted/agent/crypto.h"

namespace sealift::lab {
namespace {

using abi::ControlOp;

class HostileSession : public ::testing::Test {
 protected:
  HostileSession() : agent_(machine_), peer_(machine_) {}
  void start() {
    ASSERT_EQ(peer_.build("tiny"), Errc::kOk) << peer_.error;
    ASSERT_EQ(peer_.start(), Errc::kOk) << peer_.error;
  }
  // The enclave goes on and can migrate.
  void expect_unharmed() {
    EXPECT_EQ(peer_.control(ControlOp::kCancel), Errc::kOk);
    ASSERT_TRUE(peer_.call(counter::kPut, "k", "v").ok());
    EXPECT_EQ(*peer_.call(counter::kGet, "k"), "v");
    EXPECT_EQ(agent_.meet(peer_), Errc::kOk);
  }
  // The hello's answer and the agent's confirmation, not yet delivered.
  messages::AgentConfirm half_meet() {
    Bytes answer;
    EXPECT_EQ(peer_.control(ControlOp::kAgentHello, agent_.hello(), answer), Errc::kOk);
    enclave_hello_ = answer;
    auto accepted = agent::LocalSession::accept(agent_.cpu, agent_.self, answer);
    EXPECT_TRUE(accepted.ok());
    return accepted.ok() ? accepted->confirm() : messages::AgentConfirm{};
  }
  Errc send(const messages::AgentConfirm& confirm) {
    const auto view = agent::bytes_of(confirm);
    return peer_.control(ControlOp::kAgentConfirm, {view.begin(), view.end()});
  }

  LabMachine machine_;
  KeyHolder agent_;
  Peer peer_;
  Bytes enclave_hello_;
};

// If the enclave wiped its X25519 secret but kept waiting, the next confirmation would be checked against X25519(0,
// agent's public key), which the host can compute: it would own the session, and with it K.
TEST_F(HostileSession, AFailedConfirmationCannotBeFollowedByOneOfTheHostsMaking) {
  start();
  messages::AgentConfirm forged = half_meet();
  forged.mac[0] ^= 1;
  EXPECT_EQ(send(forged), Errc::kBadConfirmation);

  const agent::Key zero;
  agent::Key shared;
  ASSERT_TRUE(agent::x25519(zero, agent_.self.hello.instance_key, shared));
  const auto transcript = agent::sha256({agent::bytes_of(agent_.self.hello), enclave_hello_});
  const agent::Key prk = agent::hkdf_extract(transcript, shared);
  const auto mac = agent::hmac_sha256(agent::hkdf_expand(prk, messages::kConfirmLabel), transcript);
  std::copy(mac.begin(), mac.end(), forged.mac);
  EXPECT_EQ(send(forged), Errc::kNoSession);
  expect_unharmed();
}

TEST_F(HostileSession, AConfirmationOfAnotherSessionIsRefused) {
  start();
  const messages::AgentConfirm first = half_meet();
  const messages::AgentConfirm second = half_meet();
  EXPECT_EQ(send(first), Errc::kBadBinding);
  EXPECT_EQ(send(second), Errc::kOk);
  EXPECT_EQ(send(second), Errc::kNoSession);
  expect_unharmed();
}

TEST_F(HostileSession, AConfirmationWithoutAHelloIsRefused) {
  start();
  EXPECT_EQ(send(messages::AgentConfirm{}), Errc::kNoSession);
  expect_unharmed();
}

TEST_F(HostileSession, AReportFromAnotherMachineIsRefused) {
  start();
  messages::AgentConfirm confirm = half_meet();
  LabMachine elsewhere;
  LabCpu foreign(elsewhere.path);
  agent::ReportData data;
  std::copy(std::begin(confirm.report.body.reportdata), std::end(confirm.report.body.reportdata), data.begin());
  messages::EnclaveHello hello{};
  std::memcpy(&hello, enclave_hello_.data(), sizeof hello);
  sgx::Targetinfo target{};
  target.measurement = hello.report.body.mrenclave;
  target.attributes = hello.report.body.attributes;
  target.miscselect = hello.report.body.miscselect;
  ASSERT_EQ(foreign.make_report(target, data, &confirm.report), Errc::kOk);
  EXPECT_EQ(send(confirm), Errc::kBadReport);
  expect_unharmed();
}

TEST_F(HostileSession, TheEnclavesOwnReportIsNotAnAgents) {
  start();
  messages::AgentConfirm confirm = half_meet();
  messages::EnclaveHello hello{};
  std::memcpy(&hello, enclave_hello_.data(), sizeof hello);
  confirm.report = hello.report;  // aimed at the agent, so it does not even verify here
  EXPECT_EQ(send(confirm), Errc::kBadReport);
  expect_unharmed();
}

// Aimed at itself it verifies, but its identity is the application's.
TEST_F(HostileSession, AReflectedReportIsRefusedByIdentity) {
  start();
  const Bytes hello = agent_.hello();
  messages::AgentHello aimed_at_itself = agent_.self.hello;
  (void)half_meet();
  messages::EnclaveHello seen{};
  std::memcpy(&seen, enclave_hello_.data(), sizeof seen);
  aimed_at_itself.target = {};
  aimed_at_itself.target.measurement = seen.report.body.mrenclave;
  aimed_at_itself.target.attributes = seen.report.body.attributes;
  aimed_at_itself.target.miscselect = seen.report.body.miscselect;
  const auto view = agent::bytes_of(aimed_at_itself);
  Bytes answer;
  ASSERT_EQ(peer_.control(ControlOp::kAgentHello, {view.begin(), view.end()}, answer), Errc::kOk);
  std::memcpy(&seen, answer.data(), sizeof seen);
  messages::AgentConfirm confirm{};
  confirm.report = seen.report;
  EXPECT_EQ(send(confirm), Errc::kBadAgent);
  expect_unharmed();
}

TEST_F(HostileSession, AnAgentOfAnotherIdentityIsRefused) {
  start();
  KeyHolder stranger(machine_, 0x5a);
  EXPECT_EQ(stranger.meet(peer_), Errc::kBadAgent);
  expect_unharmed();
}

TEST_F(HostileSession, ADebugAgentIsRefusedWhereTheManifestWantsProduction) {
  start();
  KeyHolder debug(machine_, kAgentByte, sgx::attribute::kDebug);
  EXPECT_EQ(debug.meet(peer_), Errc::kDebugAgent);
  expect_unharmed();
}

TEST_F(HostileSession, AnAgentKeyOfSmallOrderIsRefused) {
  start();
  std::fill(std::begin(agent_.self.hello.instance_key), std::end(agent_.self.hello.instance_key), std::uint8_t{0});
  messages::AgentConfirm confirm{};
  Bytes answer;
  ASSERT_EQ(peer_.control(ControlOp::kAgentHello, agent_.hello(), answer), Errc::kOk);
  messages::EnclaveHello hello{};
  std::memcpy(&hello, answer.data(), sizeof hello);
  // What the agent's enclave would never say, said by its identity: the key exchange itself must refuse.
  const std::uint32_t version = messages::kVersion;
  const auto role = static_cast<std::uint32_t>(messages::LocalRole::kAgentForSource);
  const std::string_view label = messages::kBindingLabel;
  const auto digest =
      agent::sha256({std::span(reinterpret_cast<const std::uint8_t*>(label.data()), label.size()),
                     agent::bytes_of(version), agent::bytes_of(role), agent::ByteView(agent_.self.hello.instance_key),
                     agent::ByteView(hello.enclave_key), agent::ByteView(hello.attempt)});
  agent::ReportData data{};
  std::copy(digest.begin(), digest.end(), data.begin());
  sgx::Targetinfo target{};
  target.measurement = hello.report.body.mrenclave;
  target.attributes = hello.report.body.attributes;
  target.miscselect = hello.report.body.miscselect;
  ASSERT_EQ(agent_.cpu.make_report(target, data, &confirm.report), Errc::kOk);
  EXPECT_EQ(send(confirm), Errc::kBadMessage);
}

// Every hello of a source is another attempt with other keys: nothing of an earlier one fits.
TEST_F(HostileSession, EveryHelloDrawsANewAttemptAndANewKey) {
  start();
  ASSERT_EQ(agent_.meet(peer_), Errc::kOk);
  const messages::Prepare first = agent_.prepare();
  const auto first_key = agent_.session.enclave_key();
  ASSERT_EQ(agent_.meet(peer_), Errc::kOk);
  const messages::Prepare second = agent_.prepare();
  EXPECT_NE(std::memcmp(first.attempt, second.attempt, sizeof first.attempt), 0);
  EXPECT_NE(std::memcmp(first.key, second.key, sizeof first.key), 0);
  EXPECT_NE(first_key, agent_.session.enclave_key());
  EXPECT_EQ(std::memcmp(first.lineage, second.lineage, sizeof first.lineage), 0);
}

TEST_F(HostileSession, ACancelledAttemptSealsNothingMore) {
  start();
  ASSERT_EQ(agent_.meet(peer_), Errc::kOk);
  const messages::Prepare first = agent_.prepare();
  const std::vector<Bytes> records = dump_all(peer_);
  Bytes out;
  EXPECT_EQ(peer_.control(ControlOp::kDump, {}, out), Errc::kNotReady);
  ASSERT_EQ(peer_.control(ControlOp::kCancel), Errc::kOk);
  EXPECT_EQ(peer_.control(ControlOp::kDump, {}, out), Errc::kNotReady);
  EXPECT_EQ(peer_.control(ControlOp::kQuiesce, {}, out), Errc::kNoSession);
  Bytes none;
  ASSERT_EQ(peer_.request(Op::kResumed, {}, none), Errc::kOk);

  // The second attempt's records: the same sequence numbers, never under the first's key.
  ASSERT_EQ(agent_.meet(peer_), Errc::kOk);
  const messages::Prepare second = agent_.prepare();
  const std::vector<Bytes> again = dump_all(peer_);
  ASSERT_NE(std::memcmp(first.key, second.key, sizeof first.key), 0);
  EXPECT_EQ(OpenStream::of(second, again).records.size(), again.size());
  EXPECT_NE(records.front(), again.front());
  ASSERT_EQ(peer_.control(ControlOp::kCancel), Errc::kOk);
  ASSERT_EQ(peer_.request(Op::kResumed, {}, none), Errc::kOk);
  expect_unharmed();
}

// With a session and its key there is a moment at which records could be sealed of an enclave that runs.
TEST_F(HostileSession, ARecordBeforeTheGateIsClosedIsRefused) {
  start();
  ASSERT_EQ(agent_.meet(peer_), Errc::kOk);
  Bytes out;
  EXPECT_EQ(peer_.control(ControlOp::kDump, {}, out), Errc::kNotReady);
  EXPECT_TRUE(out.empty());
  EXPECT_EQ(peer_.status().records, 0u);
  expect_unharmed();
}

// Ready is for one session: a host that kept it cannot make the source commit later.
TEST_F(HostileSession, ReadyOfACancelledAttemptCommitsNothing) {
  LabMachine elsewhere;
  start();
  Peer target(elsewhere);
  Migration m(machine_, peer_, elsewhere);
  ASSERT_EQ(m.prepare(), Errc::kOk);
  ASSERT_EQ(m.offer(), Errc::kOk);
  ASSERT_EQ(m.dump(), Errc::kOk);
  ASSERT_EQ(target.build("tiny", peer_.base), Errc::kOk) << target.error;
  ASSERT_EQ(m.meet(target), Errc::kOk);
  ASSERT_EQ(m.feed(target), Errc::kOk);
  ASSERT_EQ(m.ready(target), Errc::kOk);
  const auto ready = machine_.agent->local_poll(m.source_session);
  ASSERT_TRUE(ready.ok() && !ready->empty());
  // Everything is there but the source's own word, and it changes its mind.
  ASSERT_EQ(peer_.control(ControlOp::kCancel), Errc::kOk);
  EXPECT_EQ(peer_.control(ControlOp::kCommit, *ready), Errc::kNotReady);
  Bytes none;
  ASSERT_EQ(peer_.request(Op::kResumed, {}, none), Errc::kOk);
  ASSERT_TRUE(peer_.call(counter::kPut, "k", "later").ok());

  Migration second(machine_, peer_, elsewhere);
  ASSERT_EQ(second.prepare(), Errc::kOk);
  ASSERT_EQ(second.dump(), Errc::kOk);
  EXPECT_EQ(peer_.control(ControlOp::kCommit, *ready), Errc::kBadTag);
  EXPECT_EQ(peer_.status().gate, static_cast<std::uint32_t>(abi::GateState::kQuiescing));
  // And the target of the first attempt never gets a grant: its ticket does not exist.
  EXPECT_NE(m.fetch_grant(), Errc::kOk);
  ASSERT_EQ(peer_.control(ControlOp::kCancel), Errc::kOk);
  ASSERT_EQ(peer_.request(Op::kResumed, {}, none), Errc::kOk);
  EXPECT_EQ(*peer_.call(counter::kGet, "k"), "later");
}

TEST_F(HostileSession, CommitBeforeTheFinalRecordIsRefused) {
  LabMachine elsewhere;
  start();
  ASSERT_EQ(agent_.meet(peer_), Errc::kOk);
  ASSERT_EQ(peer_.quiesce(), Errc::kOk);
  Bytes record;
  ASSERT_EQ(peer_.control(ControlOp::kDump, {}, record), Errc::kOk);
  messages::Ready ready{};
  const Bytes sealed = agent_.session.seal(messages::SealedKind::kReady, ready);
  EXPECT_EQ(peer_.control(ControlOp::kCommit, sealed), Errc::kNotReady);
  EXPECT_EQ(peer_.status().gate, static_cast<std::uint32_t>(abi::GateState::kQuiescing));
  ASSERT_EQ(peer_.control(ControlOp::kCancel), Errc::kOk);
  Bytes none;
  ASSERT_EQ(peer_.request(Op::kResumed, {}, none), Errc::kOk);
  expect_unharmed();
}

// An agent that errs (or a target that restored something else) must not destroy the source.
TEST_F(HostileSession, CommitWithAnotherDigestOrAttemptIsRefused) {
  start();
  ASSERT_EQ(agent_.meet(peer_), Errc::kOk);
  const messages::Prepare prepare = agent_.prepare();
  const OpenStream stream = OpenStream::of(prepare, dump_all(peer_));
  messages::Ready ready{};
  std::memcpy(ready.attempt, prepare.attempt, sizeof ready.attempt);
  std::memcpy(ready.digest, stream.final_record().digest, sizeof ready.digest);
  ready.digest[31] ^= 1;
  EXPECT_EQ(peer_.control(ControlOp::kCommit, agent_.session.seal(messages::SealedKind::kReady, ready)),
            Errc::kBadDigest);
  ready.digest[31] ^= 1;
  ready.attempt[0] ^= 1;
  EXPECT_EQ(peer_.control(ControlOp::kCommit, agent_.session.seal(messages::SealedKind::kReady, ready)),
            Errc::kWrongAttempt);
  EXPECT_EQ(peer_.status().gate, static_cast<std::uint32_t>(abi::GateState::kQuiescing));
  ready.attempt[0] ^= 1;
  EXPECT_EQ(peer_.control(ControlOp::kCommit, agent_.session.seal(messages::SealedKind::kReady, ready)), Errc::kOk);
  EXPECT_EQ(peer_.status().gate, static_cast<std::uint32_t>(abi::GateState::kDestroyed));
}

// A message of one kind, or of one's own making, in another's place.
TEST_F(HostileSession, MessagesOutOfPlaceAreRefused) {
  start();
  ASSERT_EQ(agent_.meet(peer_), Errc::kOk);
  const messages::Prepare prepare = agent_.prepare();
  (void)dump_all(peer_);
  // The enclave's own Prepare, reflected: another direction's key.
  EXPECT_EQ(peer_.control(ControlOp::kCommit, agent_.first), Errc::kBadMessage);
  messages::Ready ready{};
  std::memcpy(ready.attempt, prepare.attempt, sizeof ready.attempt);
  // The right size under another kind.
  EXPECT_EQ(peer_.control(ControlOp::kCommit, agent_.session.seal(messages::SealedKind::kReadyNotice, ready)),
            Errc::kBadMessage);
  // A gap in the sequence: the message above took number 0.
  EXPECT_EQ(peer_.control(ControlOp::kCommit, agent_.session.seal(messages::SealedKind::kReady, ready)),
            Errc::kBadMessage);
  EXPECT_EQ(peer_.control(ControlOp::kCommit, {}), Errc::kBadMessage);
  // What only a target does.
  EXPECT_EQ(peer_.control(ControlOp::kInstallKey, agent_.first), Errc::kNotReady);
  EXPECT_EQ(peer_.control(ControlOp::kReady), Errc::kNotReady);
  EXPECT_EQ(peer_.control(ControlOp::kGrant, agent_.first), Errc::kNotReady);
  EXPECT_EQ(peer_.control(ControlOp::kRecord, agent_.first), Errc::kNotReady);
  EXPECT_EQ(peer_.control(ControlOp::kAgentHello, agent_.hello()), Errc::kWrongState);
  EXPECT_EQ(peer_.control(ControlOp::kTicketAgain), Errc::kNoTicket);
  Bytes none;
  ASSERT_EQ(peer_.control(ControlOp::kCancel), Errc::kOk);
  ASSERT_EQ(peer_.request(Op::kResumed, {}, none), Errc::kOk);
  expect_unharmed();
}

TEST_F(HostileSession, TheRoleIsLatchedForEver) {
  ASSERT_EQ(peer_.build("tiny"), Errc::kOk) << peer_.error;
  EXPECT_EQ(peer_.control(ControlOp::kQuiesce), Errc::kNoSession);
  EXPECT_EQ(peer_.control(ControlOp::kAgentHello, agent_.hello()), Errc::kWrongState);
  EXPECT_EQ(peer_.control(ControlOp::kCancel), Errc::kWrongState);
  EXPECT_EQ(peer_.control(ControlOp::kRestore, Bytes(15)), Errc::kBadSize);
  ASSERT_EQ(peer_.control(ControlOp::kRestore, Bytes(16, 7)), Errc::kOk);
  EXPECT_EQ(peer_.control(ControlOp::kStart), Errc::kWrongRole);
  EXPECT_EQ(peer_.control(ControlOp::kRestore, Bytes(16, 8)), Errc::kWrongRole);
  EXPECT_EQ(peer_.control(ControlOp::kCancel), Errc::kWrongState);
  EXPECT_EQ(peer_.status().gate, static_cast<std::uint32_t>(abi::GateState::kRestoring));
  peer_.close();
  start();
  EXPECT_EQ(peer_.control(ControlOp::kStart), Errc::kWrongRole);
  EXPECT_EQ(peer_.control(ControlOp::kRestore, Bytes(16, 7)), Errc::kWrongRole);
}

// Arguments are the host's, and are copied onto main's stack, which is smaller than the control slot.
TEST_F(HostileSession, ArgumentsLargerThanMainsStackAreRefused) {
  ASSERT_EQ(peer_.build("tiny"), Errc::kOk) << peer_.error;
  EXPECT_EQ(peer_.control(ControlOp::kStart, Bytes(200'000, 'a')), Errc::kBadSize);
  EXPECT_EQ(peer_.control(ControlOp::kStart, Bytes(65'500, 'a')), Errc::kBadSize) << peer_.error;
  EXPECT_EQ(peer_.control(ControlOp::kStart, Bytes(16'000, 0)), Errc::kOk);
  EXPECT_EQ(peer_.status().gate, static_cast<std::uint32_t>(abi::GateState::kOpen));
}

}  // namespace
}  // namespace sealift::lab

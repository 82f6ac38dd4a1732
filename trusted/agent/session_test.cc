// The local session, both ends: the agent's in session.cc, the enclave's in testing/enclave.cc (independent code).
#include "trusted/agent/session.h"

#include <gtest/gtest.h>

#include "trusted/agent/testing/enclave.h"
#include "trusted/agent/testing/wire.h"

namespace sealift::agent {
namespace {

using messages::LocalRole;
using messages::SealedKind;
using testing::TestAgent;
using testing::TestCpu;
using testing::TestEnclave;

const Attempt kAttempt = {0xa1, 1};

struct Session : ::testing::Test {
  TestCpu cpu{1}, other_cpu{2};
  TestAgent agent{cpu, 1};
  TestEnclave source{cpu, LocalRole::kSource, kAttempt, 0x21};
  TestEnclave target{cpu, LocalRole::kTarget, kAttempt, 0x22};

  SessionId open(TestEnclave& enclave) {
    const auto reply = agent->local_hello(enclave.hello(agent->hello()));
    EXPECT_TRUE(reply.ok()) << errc_name(reply.error());
    EXPECT_TRUE(enclave.confirm(reply->confirm));
    return reply->session;
  }
  Errc error_of(const Bytes& hello) { return agent->local_hello(hello).error(); }
};

TEST_F(Session, BothEndsDeriveTheSameKeysForBothRoles) {
  const SessionId s = open(source);
  EXPECT_TRUE(agent->local_message(s, source.prepare()).ok());
  const SessionId t = open(target);
  const auto delivered = agent->local_message(t, target.key_request());
  ASSERT_TRUE(delivered.ok());
  const auto key = target.expect<messages::KeyDelivery>(SealedKind::kKeyDelivery, *delivered);
  ASSERT_TRUE(key);
  EXPECT_EQ(key->key[0], 0x4b);
  EXPECT_EQ(key->lineage[0], 1);
  EXPECT_EQ(key->epoch, 5u);
}

TEST_F(Session, TheSameHelloAgainGivesTheSameSessionAndBytes) {
  const Bytes hello = source.hello(agent->hello());
  const auto first = agent->local_hello(hello);
  const auto again = agent->local_hello(hello);
  ASSERT_TRUE(first.ok() && again.ok());
  EXPECT_EQ(first->session, again->session);
  EXPECT_EQ(first->confirm, again->confirm);
}

TEST_F(Session, AClosedSessionIsNeverOpenedAgainUnderTheSameKeys) {
  const Bytes hello = source.hello(agent->hello());
  agent->local_close(agent->local_hello(hello)->session);
  EXPECT_EQ(error_of(hello), Errc::kNoSession);
  agent->local_close(12345);  // unknown: nothing happens
}

TEST_F(Session, HelloOfAnotherSizeIsRefused) {
  Bytes hello = source.hello(agent->hello());
  hello.pop_back();
  EXPECT_EQ(error_of(hello), Errc::kBadMessage);
  hello.resize(hello.size() + 2);
  EXPECT_EQ(error_of(hello), Errc::kBadMessage);
  EXPECT_EQ(error_of({}), Errc::kBadMessage);
}

TEST_F(Session, HelloOfAnotherVersionIsRefused) {
  Bytes hello = source.hello(agent->hello());
  hello[0] = 2;
  EXPECT_EQ(error_of(hello), Errc::kBadMessage);
}

TEST_F(Session, RolesOfAgentsAreNotForEnclaves) {
  for (const LocalRole role : {LocalRole::kAgentForSource, LocalRole::kAgentForTarget, LocalRole(0), LocalRole(5)}) {
    TestEnclave enclave{cpu, role, kAttempt, 0x23};
    EXPECT_EQ(error_of(enclave.hello(agent->hello())), Errc::kWrongRole);
  }
}

TEST_F(Session, ZeroIsNoAttempt) {
  TestEnclave enclave{cpu, LocalRole::kSource, Attempt{}, 0x23};
  EXPECT_EQ(error_of(enclave.hello(agent->hello())), Errc::kWrongAttempt);
}

TEST_F(Session, ReportOfAnotherMachineIsRefused) {
  TestEnclave stranger{other_cpu, LocalRole::kSource, kAttempt, 0x24};
  EXPECT_EQ(error_of(stranger.hello(agent->hello())), Errc::kBadReport);
}

TEST_F(Session, ReportAimedAtAnotherEnclaveIsRefused) {
  messages::AgentHello aimed_elsewhere;
  const Bytes own = agent->hello();
  std::memcpy(&aimed_elsewhere, own.data(), sizeof(aimed_elsewhere));
  aimed_elsewhere.target.measurement.bytes[0] ^= 1;
  const ByteView bytes = bytes_of(aimed_elsewhere);
  EXPECT_EQ(error_of(source.hello({bytes.begin(), bytes.end()})), Errc::kBadReport);
}

// The source's hello replayed as a target's: only the role number has to change, and REPORTDATA binds it.
TEST_F(Session, ReflectionOfASourceAsATargetIsRefused) {
  Bytes hello = source.hello(agent->hello());
  const auto role = static_cast<std::uint32_t>(LocalRole::kTarget);
  std::memcpy(hello.data() + offsetof(messages::EnclaveHello, role), &role, sizeof(role));
  EXPECT_EQ(error_of(hello), Errc::kBadBinding);
}

TEST_F(Session, AnotherAttemptUnderTheSameReportIsRefused) {
  Bytes hello = source.hello(agent->hello());
  hello[offsetof(messages::EnclaveHello, attempt)] ^= 1;
  EXPECT_EQ(error_of(hello), Errc::kBadBinding);
}

TEST_F(Session, AnotherKeyUnderTheSameReportIsRefused) {
  Bytes hello = source.hello(agent->hello());
  hello[offsetof(messages::EnclaveHello, enclave_key)] ^= 1;
  EXPECT_EQ(error_of(hello), Errc::kBadBinding);
}

TEST_F(Session, AHelloForAnotherAgentInstanceIsRefused) {
  TestAgent clone{cpu, 2};  // the same enclave on the same machine: the REPORT verifies at both
  EXPECT_EQ(clone->local_hello(source.hello(agent->hello())).error(), Errc::kBadBinding);
}

TEST_F(Session, SomethingBehindTheBindingIsRefused) {
  // REPORTDATA's second half must be zero, or one REPORT could be made to serve two protocols.
  const Bytes hello = source.hello(agent->hello());
  messages::EnclaveHello parsed;
  std::memcpy(&parsed, hello.data(), sizeof(parsed));
  ReportData data;
  std::memcpy(data.data(), parsed.report.body.reportdata, data.size());
  data[40] = 1;
  messages::AgentHello own;
  const Bytes own_bytes = agent->hello();
  std::memcpy(&own, own_bytes.data(), sizeof(own));
  parsed.report = cpu.ereport(source.body, own.target, data);
  const ByteView bytes = bytes_of(parsed);
  EXPECT_EQ(error_of({bytes.begin(), bytes.end()}), Errc::kBadBinding);
}

TEST_F(Session, AKeyOfSmallOrderIsRefused) {
  messages::AgentHello own;
  const Bytes own_bytes = agent->hello();
  std::memcpy(&own, own_bytes.data(), sizeof(own));
  messages::EnclaveHello hello{};  // key: zero, the point that X25519 maps everything to zero with
  hello.version = 1;
  hello.role = 1;
  hello.attempt[0] = 1;
  const std::string_view label = messages::kBindingLabel;
  const std::uint32_t role = 1;
  const Digest digest = sha256({{reinterpret_cast<const std::uint8_t*>(label.data()), label.size()},
                                bytes_of(messages::kVersion),
                                bytes_of(role),
                                hello.enclave_key,
                                own.instance_key,
                                hello.attempt});
  ReportData data{};
  std::memcpy(data.data(), digest.data(), digest.size());
  hello.report = cpu.ereport(source.body, own.target, data);
  const ByteView bytes = bytes_of(hello);
  EXPECT_EQ(error_of({bytes.begin(), bytes.end()}), Errc::kBadBinding);
}

TEST_F(Session, TheEnclaveNoticesATamperedConfirmation) {
  const auto reply = agent->local_hello(source.hello(agent->hello()));
  ASSERT_TRUE(reply.ok());
  for (const std::size_t at : {std::size_t{0}, sizeof(sgx::ReportBody) - 60, sizeof(sgx::Report) - 1,
                               sizeof(sgx::Report), sizeof(messages::AgentConfirm) - 1}) {
    Bytes confirm = reply->confirm;
    confirm[at] ^= 1;
    EXPECT_FALSE(source.confirm(confirm)) << at;
  }
  EXPECT_TRUE(source.confirm(reply->confirm));
}

TEST_F(Session, TheEnclaveNoticesATamperedAgentHello) {
  Bytes agent_hello = agent->hello();
  agent_hello[offsetof(messages::AgentHello, reserved2) + 7] = 1;
  const auto reply = agent->local_hello(source.hello(agent_hello));
  ASSERT_TRUE(reply.ok());
  EXPECT_FALSE(source.confirm(reply->confirm));  // the transcripts differ
}

TEST_F(Session, EveryFlippedByteOfASealedMessageIsRefused) {
  const SessionId s = open(source);
  const Bytes prepare = source.prepare();
  for (std::size_t i = 0; i < prepare.size(); ++i) {
    Bytes bad = prepare;
    bad[i] ^= 0x80;
    const Errc error = agent->local_message(s, bad).error();
    EXPECT_TRUE(error == Errc::kBadTag || error == Errc::kBadMessage || error == Errc::kBadSequence) << i;
  }
  EXPECT_EQ(agent->attempt_status(kAttempt).error(), Errc::kUnknownAttempt);
  EXPECT_TRUE(agent->local_message(s, prepare).ok());
}

TEST_F(Session, TruncatedAndSurplusBytesAreRefused) {
  const SessionId s = open(source);
  Bytes prepare = source.prepare();
  for (std::size_t size = 0; size < prepare.size(); ++size) {
    EXPECT_EQ(agent->local_message(s, {prepare.data(), size}).error(), Errc::kBadMessage);
  }
  prepare.push_back(0);
  EXPECT_EQ(agent->local_message(s, prepare).error(), Errc::kBadMessage);
}

TEST_F(Session, ARepeatAnswersWithTheSameBytes) {
  const SessionId s = open(source);
  ASSERT_TRUE(agent->local_message(s, source.prepare()).ok());
  const SessionId t = open(target);
  const Bytes request = target.key_request();
  const auto first = agent->local_message(t, request);
  const auto again = agent->local_message(t, request);
  ASSERT_TRUE(first.ok() && again.ok());
  EXPECT_EQ(*first, *again);
}

TEST_F(Session, AnotherMessageUnderAUsedSequenceNumberIsRefused) {
  const SessionId s = open(source);
  TestEnclave twin{cpu, LocalRole::kSource, kAttempt, 0x21};  // the same keys: an enclave that seals a number twice
  (void)twin.hello(agent->hello());
  ASSERT_TRUE(agent->local_message(s, source.prepare()).ok());
  EXPECT_EQ(agent->local_message(s, twin.prepare(2)).error(), Errc::kBadSequence);
}

TEST_F(Session, ASkippedSequenceNumberIsRefused) {
  const SessionId s = open(source);
  (void)source.prepare();
  EXPECT_EQ(agent->local_message(s, source.ticket()).error(), Errc::kBadSequence);
}

TEST_F(Session, AMessageOfAnotherSessionIsRefused) {
  const SessionId s = open(source);
  TestEnclave other{cpu, LocalRole::kSource, {0xa2}, 0x25};
  (void)open(other);
  EXPECT_EQ(agent->local_message(s, other.prepare()).error(), Errc::kBadTag);
}

TEST_F(Session, AnAgentsOwnMessageReflectedIsRefused) {
  const SessionId s = open(source);
  ASSERT_TRUE(agent->local_message(s, source.prepare()).ok());
  const SessionId t = open(target);
  const auto delivery = agent->local_message(t, target.key_request());
  ASSERT_TRUE(delivery.ok());
  TestEnclave fresh{cpu, LocalRole::kTarget, kAttempt, 0x26};
  EXPECT_EQ(agent->local_message(open(fresh), *delivery).error(), Errc::kBadTag);
  EXPECT_EQ(agent->local_message(t, *delivery).error(), Errc::kBadSequence);
}

TEST_F(Session, MessagesOutOfPlaceAreRefused) {
  const SessionId s = open(source);
  EXPECT_EQ(agent->local_message(s, source.ticket()).error(), Errc::kBadMessage);  // nothing was prepared
  for (const auto kind : {SealedKind::kReady, SealedKind::kKeyRequest, SealedKind::kKeyDelivery, SealedKind::kGrant,
                          SealedKind::kReadyNotice, SealedKind(0), SealedKind(8)}) {
    TestEnclave fresh{cpu, LocalRole::kSource, {0xb0, static_cast<std::uint8_t>(kind)}, 0x27};
    const SessionId id = open(fresh);
    EXPECT_EQ(agent->local_message(id, fresh.seal(kind, messages::Prepare{})).error(), Errc::kBadMessage);
  }
  for (const auto kind : {SealedKind::kPrepare, SealedKind::kTicket, SealedKind::kReady, SealedKind::kGrant}) {
    TestEnclave fresh{cpu, LocalRole::kTarget, {0xb1, static_cast<std::uint8_t>(kind)}, 0x28};
    const SessionId id = open(fresh);
    EXPECT_EQ(agent->local_message(id, fresh.seal(kind, messages::KeyRequest{})).error(), Errc::kBadMessage);
  }
}

TEST_F(Session, ABodyOfAnotherSizeIsRefused) {
  const SessionId s = open(source);
  EXPECT_EQ(agent->local_message(s, source.seal(SealedKind::kPrepare, messages::Ticket{})).error(), Errc::kBadMessage);
}

TEST_F(Session, APrepareForAnotherAttemptThanTheSessionsIsRefused) {
  const SessionId s = open(source);
  TestEnclave other{cpu, LocalRole::kSource, {0xee}, 0x21};
  messages::Prepare prepare{};
  prepare.attempt[0] = 0xee;
  EXPECT_EQ(agent->local_message(s, source.seal(SealedKind::kPrepare, prepare)).error(), Errc::kWrongAttempt);
}

TEST_F(Session, UnknownSessionsAreRefused) {
  EXPECT_EQ(agent->local_message(99, {}).error(), Errc::kNoSession);
  EXPECT_EQ(agent->local_poll(99).error(), Errc::kNoSession);
  EXPECT_EQ(agent->request_grant(99, kSelf), Errc::kNoSession);
  EXPECT_EQ(agent->announce(99, kSelf), Errc::kNoSession);
}

TEST_F(Session, NoAgentWithoutEntropy) {
  testing::TestPlatform platform(cpu, testing::agent_body(), 1);
  platform.entropy_fails = true;
  testing::TestChannels channels(1);
  EXPECT_EQ(Agent::create(platform, channels).error(), Errc::kEntropy);
}

TEST_F(Session, QuoteReportIsAimedAtWhomTheHostSaysAndBindsTheChannelsKey) {
  const sgx::Targetinfo qe = testing::targetinfo_of(testing::app_body(0x77));
  const auto report = agent->quote_report(bytes_of(qe));
  ASSERT_TRUE(report.ok());
  sgx::Report parsed;
  ASSERT_EQ(report->size(), sizeof(parsed));
  std::memcpy(&parsed, report->data(), sizeof(parsed));
  EXPECT_TRUE(cpu.verify(testing::app_body(0x77), parsed));
  EXPECT_EQ(parsed.body.reportdata[0], 1);
  EXPECT_EQ(agent->quote_report({}).error(), Errc::kBadSize);
}

}  // namespace
}  // namespace sealift::agent

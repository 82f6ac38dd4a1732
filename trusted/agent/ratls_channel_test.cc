// Two agents over RA-TLS itself: quotes of two platforms of one certification service, policies that judge them.
#include "trusted/agent/ratls_channel.h"

#include <gtest/gtest.h>

#include <cstring>

#include "attestation/test_platform.h"
#include "trusted/agent/agent.h"
#include "trusted/agent/crypto.h"
#include "trusted/agent/testing/enclave.h"

namespace sealift::agent {
namespace {

namespace att = sealift::attestation;
using messages::LocalRole;
using messages::SealedKind;
using testing::TestCpu;
using testing::TestEnclave;

constexpr Attempt kAttempt = {0xa1};

// A machine: its CPU, its platform's certificates and quoting enclave, and an agent.
struct Machine {
  explicit Machine(std::uint8_t secret, const sgx::ReportBody& body = testing::agent_body())
      : cpu(secret), enclave(cpu, body, secret) {
    enclave.time = static_cast<std::uint64_t>(att::testing::kNow);
  }
  void start(const att::TrustAnchors& anchors) {
    channels = std::move(*RatlsChannels::create(enclave, anchors));
    agent = std::move(*Agent::create(enclave, *channels));
  }
  // As the host does: REPORT from the agent, quote of the platform's quoting enclave, back to the agent.
  Errc certify() {
    const sgx::Targetinfo qe{};
    const auto bytes = agent->quote_report(bytes_of(qe));
    sgx::Report report;
    std::memcpy(&report, bytes->data(), sizeof(report));
    platform.enclave = report.body;
    return agent->install_quote(evidence());
  }
  [[nodiscard]] att::Bytes evidence() const {
    return att::serialize_evidence({platform.quote(), att::serialize_collateral(platform.collateral())});
  }

  TestCpu cpu;
  testing::TestPlatform enclave;
  att::testing::TestPlatform platform;
  std::unique_ptr<RatlsChannels> channels;
  std::unique_ptr<Agent> agent;
};

struct Ratls : ::testing::Test {
  Machine a{1};
  std::optional<Machine> b{std::in_place, 2};
  LinkId at_a = 0, at_b = 0;

  void up() {
    for (Machine* machine : {&a, &*b}) {
      if (!machine->agent) machine->start(machine->platform.anchors());
      ASSERT_EQ(machine->certify(), Errc::kOk);
    }
    connect();
  }
  void connect() {
    at_a = *a.agent->link_open(false);
    at_b = *b->agent->link_open(true);
    carry();
  }
  void carry() {
    for (;;) {
      const Bytes to_b = *a.agent->link_take(at_a), to_a = *b->agent->link_take(at_b);
      if (to_a.empty() && to_b.empty()) return;
      (void)b->agent->link_feed(at_b, to_b);
      (void)a.agent->link_feed(at_a, to_a);
    }
  }
  Errc prepare_and_offer(const MigrationPolicy& policy = testing::test_policy()) {
    TestEnclave source(a.cpu, LocalRole::kSource, kAttempt, 0x21);
    source.policy = policy;
    const auto reply = a.agent->local_hello(source.hello(a.agent->hello()));
    EXPECT_EQ(a.agent->local_message(reply->session, source.prepare()).error(), Errc::kOk);
    return a.agent->offer(kAttempt, at_a);
  }
  std::optional<Event> wait(Machine& machine, EventKind kind) {
    carry();
    while (const auto event = machine.agent->next_event()) {
      if (event->kind == kind) return event;
    }
    return std::nullopt;
  }
};

TEST_F(Ratls, AMigrationFromEndToEnd) {
  up();
  ASSERT_EQ(a.agent->link_state(at_a)->phase, LinkPhase::kReady);
  ASSERT_EQ(b->agent->link_state(at_b)->phase, LinkPhase::kReady);
  EXPECT_EQ(a.agent->link_state(at_a)->verdict_expires, static_cast<std::uint64_t>(att::testing::kNextUpdate));

  TestEnclave source(a.cpu, LocalRole::kSource, kAttempt, 0x21);
  TestEnclave target(b->cpu, LocalRole::kTarget, kAttempt, 0x31);
  const auto s = a.agent->local_hello(source.hello(a.agent->hello()));
  ASSERT_TRUE(source.confirm(s->confirm));
  ASSERT_TRUE(a.agent->local_message(s->session, source.prepare()).ok());
  ASSERT_EQ(a.agent->offer(kAttempt, at_a), Errc::kOk);
  ASSERT_TRUE(wait(*b, EventKind::kOfferArrived));

  const auto t = b->agent->local_hello(target.hello(b->agent->hello()));
  ASSERT_TRUE(target.confirm(t->confirm));
  const auto key = b->agent->local_message(t->session, target.key_request());
  ASSERT_TRUE(target.expect<messages::KeyDelivery>(SealedKind::kKeyDelivery, *key));
  ASSERT_TRUE(b->agent->local_message(t->session, target.ready_notice()).ok());
  ASSERT_TRUE(wait(a, EventKind::kReadyArrived));
  ASSERT_TRUE(source.expect<messages::Ready>(SealedKind::kReady, *a.agent->local_poll(s->session)));
  ASSERT_TRUE(a.agent->local_message(s->session, source.ticket()).ok());
  ASSERT_EQ(b->agent->request_grant(t->session, at_b), Errc::kOk);
  ASSERT_TRUE(wait(*b, EventKind::kGranted));
  EXPECT_TRUE(target.expect<messages::Grant>(SealedKind::kGrant, *b->agent->local_poll(t->session)));
}

TEST_F(Ratls, AnOutdatedPlatformConnectsButGetsNoKey) {
  auto old = b->platform.platform;
  old.components.fill(4);
  b->platform.change_platform(old);
  up();
  ASSERT_EQ(a.agent->link_state(at_a)->phase, LinkPhase::kReady);
  EXPECT_EQ(prepare_and_offer(), Errc::kPeerRefused);
}

TEST_F(Ratls, AnOutdatedPlatformThatTheOwnerAcceptsGetsIt) {
  auto old = b->platform.platform;
  old.components.fill(4);
  b->platform.change_platform(old);
  up();
  MigrationPolicy policy = testing::test_policy();
  policy.tcb_accepted |= tcb::kOutOfDate;
  EXPECT_EQ(prepare_and_offer(policy), Errc::kOk);
}

TEST_F(Ratls, ARevokedPlatformDoesNotConnect) {
  auto revoked = b->platform.platform;
  revoked.components.fill(3);
  b->platform.change_platform(revoked);
  up();
  EXPECT_EQ(a.agent->link_state(at_a)->phase, LinkPhase::kFailed);
  EXPECT_EQ(a.agent->link_state(at_a)->error, Errc::kNoQuote);
}

TEST_F(Ratls, ADebugAgentGetsNoKey) {
  sgx::ReportBody debug = testing::agent_body();
  debug.attributes.flags |= sgx::attribute::kDebug;
  b.emplace(2, debug);
  up();
  EXPECT_EQ(prepare_and_offer(), Errc::kDebugAgent);
}

TEST_F(Ratls, AnotherEnclaveConnectsButGetsNoKey) {
  b.emplace(2, testing::app_body(0x66));
  up();
  EXPECT_EQ(prepare_and_offer(), Errc::kBadAgent);
}

TEST_F(Ratls, TheDevelopmentRootIsSeenAndRefusedInProduction) {
  att::TrustAnchors anchors = a.platform.anchors();
  anchors.roots[0].development = true;
  a.start(anchors);
  up();
  EXPECT_EQ(prepare_and_offer(), Errc::kDebugAgent);
}

TEST_F(Ratls, ARootThatIsNotCompiledInDoesNotConnect) {
  a.start({});
  up();
  EXPECT_EQ(a.agent->link_state(at_a)->phase, LinkPhase::kFailed);
  EXPECT_EQ(a.agent->link_state(at_a)->error, Errc::kNoQuote);
  EXPECT_EQ(prepare_and_offer(), Errc::kNoQuote);
}

TEST_F(Ratls, AQuoteForAnotherKeyIsNotInstalled) {
  up();
  EXPECT_EQ(a.agent->install_quote(b->evidence()), Errc::kNoQuote);
  EXPECT_EQ(a.agent->install_quote({}), Errc::kNoQuote);
}

TEST_F(Ratls, AByteChangedOnTheWireEndsTheLink) {
  up();
  ASSERT_EQ(prepare_and_offer(), Errc::kOk);
  Bytes bytes = *a.agent->link_take(at_a);
  ASSERT_FALSE(bytes.empty());
  bytes.back() ^= 1;
  EXPECT_EQ(b->agent->link_feed(at_b, bytes), Errc::kBadMessage);
  EXPECT_EQ(b->agent->attempt_status(kAttempt).error(), Errc::kUnknownAttempt);
}

TEST_F(Ratls, AnExpiredVerdictIsRenewedByFreshCollateral) {
  up();
  a.enclave.time = static_cast<std::uint64_t>(att::testing::kNextUpdate) + 1;
  EXPECT_EQ(prepare_and_offer(), Errc::kVerdictExpired);
  EXPECT_EQ(a.agent->link_renew(at_a, att::serialize_collateral(b->platform.collateral())), Errc::kNoQuote);
  EXPECT_EQ(a.agent->link_renew(99, {}), Errc::kNoSession);
  for (att::UnixTime* next : {&b->platform.tcb.next_update, &b->platform.qe_identity.next_update,
                              &b->platform.pck_crl_spec.next_update, &b->platform.root_crl_spec.next_update}) {
    *next += 30 * att::testing::kDay;
  }
  EXPECT_EQ(a.agent->link_renew(at_a, att::serialize_collateral(b->platform.collateral())), Errc::kOk);
  EXPECT_EQ(a.agent->offer(kAttempt, at_a), Errc::kOk);
}

TEST_F(Ratls, AnAgentIsKnownAgainOnAnotherLink) {
  up();
  const AgentInstance first = a.agent->link_state(at_a)->peer;
  connect();
  EXPECT_EQ(a.agent->link_state(at_a)->peer, first);
  b->start(b->platform.anchors());  // a restart is another instance
  ASSERT_EQ(b->certify(), Errc::kOk);
  connect();
  EXPECT_NE(a.agent->link_state(at_a)->peer, first);
}

}  // namespace
}  // namespace sealift::agent

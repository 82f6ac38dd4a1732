// Whole migrations through two agents, and what is refused on the way.
#include "trusted/agent/agent.h"

#include <gtest/gtest.h>

#include <thread>

#include "trusted/agent/testing/scene.h"

namespace sealift::agent {
namespace {

using messages::SealedKind;
using testing::event_of;
using testing::TestAgent;
using testing::TestEnclave;
using testing::TestLink;
using Migration = testing::Scene;

TEST_F(Migration, HostToHost) {
  prepare();
  EXPECT_TRUE(a->local_poll(source.session)->empty());
  offer();
  restore();
  ASSERT_TRUE(event_of(a, EventKind::kReadyArrived));
  EXPECT_EQ(event_of(b, EventKind::kReadyAcked)->error, Errc::kOk);

  const auto sealed = a->local_poll(source.session);
  ASSERT_TRUE(sealed.ok());
  EXPECT_EQ(*a->local_poll(source.session), *sealed);  // the same bytes, however often
  const auto ready = source.enclave.expect<messages::Ready>(SealedKind::kReady, *sealed);
  ASSERT_TRUE(ready);
  EXPECT_EQ(ready->digest[0], 0xd1);
  EXPECT_EQ(std::memcmp(ready->instance_key, target.enclave.public_key().data(), 32), 0);

  commit();
  ASSERT_EQ(b->request_grant(target.session, link.at_server), Errc::kOk);
  link.carry();
  ASSERT_TRUE(event_of(b, EventKind::kGranted));
  ASSERT_TRUE(event_of(a, EventKind::kGranted));
  EXPECT_FALSE(b->attempt_status(kAttempt)->holds_key);
  const auto bytes = b->local_poll(target.session);
  EXPECT_EQ(*b->local_poll(target.session), *bytes);
  const auto grant = grant_of(target, b);
  ASSERT_TRUE(grant);
  EXPECT_EQ(grant->next_epoch, 6u);
  EXPECT_EQ(grant->lineage[0], 1);
  EXPECT_EQ(grant->digest[0], 0xd1);
  EXPECT_EQ(std::memcmp(grant->instance_key, target.enclave.public_key().data(), 32), 0);
}

// Inside a VM the source commits before any target exists.
TEST_F(Migration, TicketBeforeAnyOffer) {
  prepare();
  commit();
  offer();
  restore();
  ASSERT_EQ(b->request_grant(target.session, link.at_server), Errc::kOk);
  link.carry();
  EXPECT_TRUE(grant_of(target, b));
}

TEST_F(Migration, ResumeOnTheSourcesMachineAfterTheCommit) {
  until_ticket();
  Player second{{cpu_a, Role::kTarget, kAttempt, 0x32}};
  meet(second, a);
  ASSERT_TRUE(take_key(second, a));
  ASSERT_EQ(say(second, a, second.enclave.ready_notice()), Errc::kOk);
  EXPECT_EQ(a->request_grant(second.session, link.at_client), Errc::kPeerRefused);  // its arbiter is here
  ASSERT_EQ(a->request_grant(second.session, kSelf), Errc::kOk);
  const auto grant = grant_of(second, a);
  ASSERT_TRUE(grant);
  EXPECT_EQ(std::memcmp(grant->instance_key, second.enclave.public_key().data(), 32), 0);

  // The target that was meant has lost for ever.
  ASSERT_EQ(b->request_grant(target.session, link.at_server), Errc::kOk);
  link.carry();
  EXPECT_EQ(event_of(b, EventKind::kGrantRefused)->error, Errc::kAlreadyGranted);
  EXPECT_FALSE(grant_of(target, b));

  // And so has a third on the source's machine.
  Player third{{cpu_a, Role::kTarget, kAttempt, 0x33}};
  meet(third, a);
  EXPECT_EQ(say(third, a, third.enclave.key_request()), Errc::kAlreadyGranted);
}

TEST_F(Migration, TwoTargetsOnOneMachineOneGrant) {
  until_ticket();
  Player second{{cpu_b, Role::kTarget, kAttempt, 0x32}};
  meet(second, b);
  ASSERT_TRUE(take_key(second, b));
  ASSERT_EQ(say(second, b, second.enclave.ready_notice()), Errc::kOk);
  link.carry();
  ASSERT_EQ(b->request_grant(second.session, link.at_server), Errc::kOk);
  link.carry();
  EXPECT_TRUE(grant_of(second, b));
  EXPECT_EQ(b->request_grant(target.session, link.at_server), Errc::kAlreadyGranted);
  EXPECT_EQ(b->local_poll(target.session).error(), Errc::kAlreadyGranted);
}

TEST_F(Migration, NoGrantBeforeTheTicket) {
  prepare();
  offer();
  restore();
  ASSERT_EQ(b->request_grant(target.session, link.at_server), Errc::kOk);
  link.carry();
  EXPECT_EQ(event_of(b, EventKind::kGrantRefused)->error, Errc::kNoTicket);
  commit();
  ASSERT_EQ(b->request_grant(target.session, link.at_server), Errc::kOk);
  link.carry();
  EXPECT_TRUE(grant_of(target, b));
}

TEST_F(Migration, NoGrantForATargetThatHasNotShownItsDigest) {
  prepare();
  offer();
  meet(target, b);
  EXPECT_EQ(b->request_grant(target.session, link.at_server), Errc::kNotReady);
  EXPECT_EQ(say(target, b, target.enclave.ready_notice()), Errc::kBadMessage);
  EXPECT_EQ(b->announce(target.session, link.at_server), Errc::kNotReady);
}

TEST_F(Migration, ADigestThatTheSourceDidNotCommitToIsRefused) {
  prepare();
  offer();
  meet(target, b);
  ASSERT_TRUE(take_key(target, b));
  ASSERT_EQ(say(target, b, target.enclave.ready_notice(0xd2)), Errc::kOk);
  link.carry();
  commit();
  ASSERT_EQ(b->request_grant(target.session, link.at_server), Errc::kOk);
  link.carry();
  EXPECT_EQ(event_of(b, EventKind::kGrantRefused)->error, Errc::kBadDigest);
}

TEST_F(Migration, ATargetCannotSpeakForAnotherInstance) {
  prepare();
  offer();
  meet(target, b);
  ASSERT_TRUE(take_key(target, b));
  messages::Ready forged{};
  std::memcpy(forged.attempt, kAttempt.data(), kAttempt.size());
  forged.instance_key[0] = 1;
  EXPECT_EQ(say(target, b, target.enclave.seal(SealedKind::kReadyNotice, forged)), Errc::kBadBinding);
}

TEST_F(Migration, ATargetOfAnotherProgramGetsNoKey) {
  prepare();
  offer();
  Player stranger{{cpu_b, Role::kTarget, kAttempt, 0x34, 0x99}};
  meet(stranger, b);
  EXPECT_EQ(say(stranger, b, stranger.enclave.key_request()), Errc::kWrongEnclave);
}

TEST_F(Migration, ADebugTargetOfTheSameProgramGetsNoKey) {
  prepare();
  offer();
  target.enclave.body.attributes.flags |= sgx::attribute::kDebug;  // MRENCLAVE is the same
  meet(target, b);
  EXPECT_EQ(say(target, b, target.enclave.key_request()), Errc::kWrongEnclave);
}

TEST_F(Migration, AKeyRequestForAnotherAttemptIsRefused) {
  prepare();
  offer();
  Player other{{cpu_b, Role::kTarget, {0xa2}, 0x35}};
  meet(other, b);
  EXPECT_EQ(say(other, b, other.enclave.key_request()), Errc::kUnknownAttempt);
  messages::KeyRequest request{};
  std::memcpy(request.attempt, kAttempt.data(), kAttempt.size());
  Player liar{{cpu_b, Role::kTarget, {0xa3}, 0x36}};
  meet(liar, b);
  EXPECT_EQ(say(liar, b, liar.enclave.seal(SealedKind::kKeyRequest, request)), Errc::kWrongAttempt);
}

TEST_F(Migration, TheSourcesPolicyJudgesTheTargetsAgent) {
  b.channels.declared.tcb_status = tcb::kOutOfDate;
  TestLink poor{a, b};
  prepare();
  EXPECT_EQ(a->offer(kAttempt, poor.at_client), Errc::kPeerRefused);
  b.channels.declared.tcb_status = tcb::kUpToDate;
  b.channels.declared.report.mrenclave.bytes[0] ^= 1;
  TestLink stranger{a, b};
  EXPECT_EQ(a->offer(kAttempt, stranger.at_client), Errc::kBadAgent);
  EXPECT_TRUE(a->link_take(stranger.at_client)->empty());  // nothing was sent
  EXPECT_EQ(a->offer(kAttempt, link.at_client), Errc::kOk);
}

// An attacker's enclave with a genuine quote offers a state of its own making to a genuine target.
TEST_F(Migration, TheTargetsPolicyJudgesTheSourcesAgent) {
  a.channels.declared.report.mrenclave.bytes[0] ^= 1;  // to B, A is not the agent that the target pins
  TestLink forged{a, b};
  prepare();
  ASSERT_EQ(a->offer(kAttempt, forged.at_client), Errc::kOk);
  forged.carry();
  meet(target, b);
  EXPECT_EQ(say(target, b, target.enclave.key_request()), Errc::kBadAgent);
  // It is in nobody's way: an honest agent's offer of the same attempt is served.
  TestAgent honest{cpu_a, 3};
  TestLink good{honest, b};
  Player true_source{{cpu_a, Role::kSource, kAttempt, 0x2f}};
  meet(true_source, honest);
  ASSERT_EQ(say(true_source, honest, true_source.enclave.prepare()), Errc::kOk);
  ASSERT_EQ(honest->offer(kAttempt, good.at_client), Errc::kOk);
  good.carry();
  meet(target, b);
  EXPECT_TRUE(take_key(target, b));
}

TEST_F(Migration, AnOfferUnderAnotherPolicyThanTheTargetsOwnIsRefused) {
  source.enclave.policy.tcb_accepted |= tcb::kOutOfDate;
  prepare();
  offer();
  meet(target, b);
  EXPECT_EQ(say(target, b, target.enclave.key_request()), Errc::kPolicy);
}

TEST_F(Migration, AnExpiredVerdictStopsOffersUntilItIsRenewed) {
  prepare();
  a.platform.time = 2'000'000;
  EXPECT_EQ(a->offer(kAttempt, link.at_client), Errc::kVerdictExpired);
  b.channels.declared.expires = 3'000'000;  // a new quote, seen by a new link
  TestLink renewed{a, b};
  EXPECT_EQ(a->offer(kAttempt, renewed.at_client), Errc::kOk);
}

TEST_F(Migration, TheHostCannotTurnTheClockBack) {
  prepare();
  a.platform.time = 2'000'000;
  EXPECT_EQ(a->offer(kAttempt, link.at_client), Errc::kVerdictExpired);
  a.platform.time = 1'000'000;
  EXPECT_EQ(a->offer(kAttempt, link.at_client), Errc::kVerdictExpired);
}

TEST_F(Migration, AnOfferByAnAgentWhoseVerdictHasExpiredIsRefused) {
  prepare();
  b.platform.time = 2'000'000;
  ASSERT_EQ(a->offer(kAttempt, link.at_client), Errc::kOk);
  link.carry();
  EXPECT_EQ(event_of(a, EventKind::kOfferRefused)->error, Errc::kVerdictExpired);
  EXPECT_EQ(b->attempt_status(kAttempt).error(), Errc::kUnknownAttempt);
}

TEST_F(Migration, CancelBeforeTheTicketMakesTheKeyForgotten) {
  prepare();
  offer();
  restore();
  EXPECT_EQ(a->cancel(kAttempt), Errc::kOk);
  EXPECT_EQ(a->cancel(kAttempt), Errc::kOk);
  link.carry();
  EXPECT_TRUE(event_of(b, EventKind::kForgotten));
  EXPECT_EQ(b->attempt_status(kAttempt).error(), Errc::kUnknownAttempt);
  EXPECT_EQ(b->local_poll(target.session).error(), Errc::kUnknownAttempt);
  EXPECT_EQ(say(source, a, source.enclave.ticket()), Errc::kAttemptUsed);
  EXPECT_EQ(a->offer(kAttempt, link.at_client), Errc::kAttemptUsed);
}

TEST_F(Migration, NoCancelAfterTheTicket) {
  until_ticket();
  EXPECT_EQ(a->cancel(kAttempt), Errc::kDestroyed);
  EXPECT_EQ(a->cancel({0xff}), Errc::kUnknownAttempt);
}

TEST_F(Migration, ANewAttemptSupersedesAndTheOldKeyIsForgotten) {
  prepare();
  offer();
  Player again{{cpu_a, Role::kSource, {0xa2}, 0x22}};
  meet(again, a);
  ASSERT_EQ(say(again, a, again.enclave.prepare()), Errc::kOk);
  link.carry();
  EXPECT_TRUE(event_of(b, EventKind::kForgotten));
  EXPECT_EQ(say(source, a, source.enclave.ticket()), Errc::kAttemptUsed);
}

TEST_F(Migration, NothingSupersedesATicket) {
  until_ticket();
  Player again{{cpu_a, Role::kSource, {0xa2}, 0x22}};
  meet(again, a);
  EXPECT_EQ(say(again, a, again.enclave.prepare()), Errc::kWrongEpoch);
}

TEST_F(Migration, AnotherSourceInstanceCannotTakeOverAnAttempt) {
  prepare();
  Player twin{{cpu_a, Role::kSource, kAttempt, 0x23}};
  meet(twin, a);
  EXPECT_EQ(say(twin, a, twin.enclave.prepare()), Errc::kAttemptUsed);
  Player thief{{cpu_a, Role::kSource, kAttempt, 0x24}};
  meet(thief, a);
  EXPECT_EQ(say(thief, a, thief.enclave.ticket()), Errc::kBadMessage);
}

// The key to one attempt is no right to another's ticket.
TEST_F(Migration, ATicketForAnotherAttemptThanTheSessionsIsRefused) {
  prepare();
  Player other{{cpu_a, Role::kSource, {0xa2}, 0x25}};
  meet(other, a);
  ASSERT_EQ(say(other, a, other.enclave.prepare(2)), Errc::kOk);
  messages::Ticket forged{};
  forged.lineage[0] = 1;
  forged.next_epoch = 6;
  std::memcpy(forged.attempt, kAttempt.data(), kAttempt.size());
  EXPECT_EQ(say(other, a, other.enclave.seal(SealedKind::kTicket, forged)), Errc::kWrongAttempt);
  EXPECT_EQ(a->attempt_status(kAttempt)->state, ledger::State::kPrepared);
}

// What A_t checks of a Grant before it seals it for the target: an arbiter that grants what it was not shown is none.
TEST_F(Migration, AGrantOfAnythingButWhatWasShownEndsTheLink) {
  const auto lie = [](messages::Grant grant, int which) {
    if (which == 0) grant.digest[0] ^= 1;
    if (which == 1) grant.lineage[0] ^= 1;
    if (which == 2) grant.next_epoch += 1;
    return grant;
  };
  until_ticket();
  messages::Grant right{};
  right.lineage[0] = 1;
  right.next_epoch = 6;
  std::memcpy(right.attempt, kAttempt.data(), kAttempt.size());
  right.digest[0] = 0xd1;
  std::memcpy(right.instance_key, target.enclave.public_key().data(), 32);
  const auto feed = [&](LinkId at, const messages::Grant& grant) {
    const messages::LinkHeader header{messages::kVersion, std::uint32_t(messages::LinkKind::kGrant), sizeof(grant), 0};
    const auto* head = reinterpret_cast<const std::uint8_t*>(&header);
    const auto* body = reinterpret_cast<const std::uint8_t*>(&grant);
    Bytes bytes(head, head + sizeof(header));
    bytes.insert(bytes.end(), body, body + sizeof(grant));
    return b->link_feed(at, bytes);
  };
  for (int which = 0; which < 3; ++which) {
    TestLink again{a, b};
    EXPECT_EQ(feed(again.at_server, lie(right, which)), Errc::kBadMessage) << which;
    EXPECT_FALSE(grant_of(target, b));
  }
  EXPECT_EQ(feed(link.at_server, right), Errc::kOk);
  EXPECT_TRUE(grant_of(target, b));
}

TEST_F(Migration, AMachineCanBeItsOwnTarget) {
  prepare();
  Player local{{cpu_a, Role::kTarget, kAttempt, 0x37}};
  meet(local, a);
  ASSERT_TRUE(take_key(local, a));
  ASSERT_EQ(say(local, a, local.enclave.ready_notice()), Errc::kOk);
  ASSERT_TRUE(event_of(a, EventKind::kReadyArrived));
  EXPECT_FALSE(a->local_poll(source.session)->empty());
  EXPECT_EQ(a->request_grant(local.session, kSelf), Errc::kNoTicket);
  commit();
  EXPECT_EQ(a->request_grant(local.session, kSelf), Errc::kOk);
  EXPECT_TRUE(grant_of(local, a));
}

TEST_F(Migration, LinksNeedAQuoteAndAreKnownByNumber) {
  testing::TestPlatform platform(cpu_a, testing::agent_body(), 9);
  testing::TestChannels channels(9);
  const auto bare = Agent::create(platform, channels);
  EXPECT_EQ((*bare)->link_open(false).error(), Errc::kNoQuote);
  EXPECT_EQ((*bare)->install_quote({}), Errc::kNoQuote);
  EXPECT_EQ((*bare)->link_feed(7, {}), Errc::kNoSession);
  EXPECT_EQ((*bare)->link_take(7).error(), Errc::kNoSession);
  EXPECT_EQ((*bare)->link_state(7).error(), Errc::kNoSession);
  EXPECT_EQ((*bare)->offer(kAttempt, 7), Errc::kNoSession);
}

TEST_F(Migration, LinkStateTellsPeerAndExpiry) {
  const auto status = a->link_state(link.at_client);
  ASSERT_TRUE(status.ok());
  EXPECT_EQ(status->phase, LinkPhase::kReady);
  EXPECT_EQ(status->verdict_expires, 2'000'000u);
  EXPECT_EQ(status->peer, b.channels.declared.instance);
  const auto fresh = a->link_open(false);
  EXPECT_EQ(a->link_state(*fresh)->phase, LinkPhase::kHandshaking);
  EXPECT_EQ(a->offer(kAttempt, *fresh), Errc::kNotReady);
}

TEST_F(Migration, ManyThreadsMayCall) {
  prepare();
  const auto hammer = [&](std::uint8_t seed) {
    for (std::uint8_t i = 1; i < 40; ++i) {
      TestEnclave enclave{cpu_a, Role::kSource, {0xc0, seed, i}, seed};
      const auto reply = a->local_hello(enclave.hello(a->hello()));
      ASSERT_TRUE(reply.ok());
      ASSERT_TRUE(a->local_message(reply->session, enclave.prepare(seed, i)).ok());
      (void)a->offer({0xc0, seed, i}, link.at_client);
      (void)a->link_take(link.at_client);
      while (a->next_event()) {
      }
      a->local_close(reply->session);
    }
  };
  std::vector<std::jthread> threads;
  for (std::uint8_t seed = 0x51; seed < 0x55; ++seed) threads.emplace_back(hammer, seed);
  threads.clear();
  EXPECT_EQ(a->attempt_status({0xc0, 0x51, 39})->state, ledger::State::kOffered);
}

}  // namespace
}  // namespace sealift::agent

// What dies, and what is left: losses, repeats and replacements at every step (docs/protocol.md, failure analysis).
#include <gtest/gtest.h>

#include "trusted/agent/testing/scene.h"

namespace sealift::agent {
namespace {

using messages::SealedKind;
using testing::event_of;
using testing::TestAgent;
using testing::TestLink;
using Failure = testing::Scene;

TEST_F(Failure, TheGrantIsLostOnTheWayAndAskedForAgain) {
  until_ticket();
  ASSERT_EQ(b->request_grant(target.session, link.at_server), Errc::kOk);
  (void)a->link_feed(link.at_client, *b->link_take(link.at_server));  // A_s grants …
  link.cut();                                                         // … and nobody hears of it
  EXPECT_FALSE(grant_of(target, b));
  TestLink again{a, b};
  ASSERT_EQ(b->request_grant(target.session, again.at_server), Errc::kOk);
  again.carry();
  EXPECT_TRUE(grant_of(target, b));
}

// The refusal of one target must not be taken for the refusal of all: it does not say whom the grant names.
TEST_F(Failure, ALostGrantIsStillThereAfterAnotherTargetWasRefused) {
  until_ticket();
  Player second{{cpu_b, Role::kTarget, kAttempt, 0x32}};
  meet(second, b);
  ASSERT_TRUE(take_key(second, b));
  ASSERT_EQ(say(second, b, second.enclave.ready_notice()), Errc::kOk);
  ASSERT_EQ(b->request_grant(target.session, link.at_server), Errc::kOk);
  (void)a->link_feed(link.at_client, *b->link_take(link.at_server));
  link.cut();
  TestLink again{a, b};
  ASSERT_EQ(b->request_grant(second.session, again.at_server), Errc::kOk);
  again.carry();
  EXPECT_EQ(event_of(b, EventKind::kGrantRefused)->error, Errc::kAlreadyGranted);
  ASSERT_EQ(b->request_grant(target.session, again.at_server), Errc::kOk);
  again.carry();
  EXPECT_TRUE(grant_of(target, b));
}

TEST_F(Failure, EveryRequestMayBeRepeatedAndTheGrantComesOnce) {
  prepare();
  offer();
  offer();
  restore();
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(b->announce(target.session, link.at_server), Errc::kOk);
    link.carry();
    EXPECT_EQ(event_of(b, EventKind::kReadyAcked)->error, Errc::kOk);
  }
  const Bytes ticket = source.enclave.ticket();
  for (int i = 0; i < 3; ++i) EXPECT_EQ(say(source, a, ticket), Errc::kOk);
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(b->request_grant(target.session, link.at_server), Errc::kOk);
    link.carry();
  }
  const auto bytes = b->local_poll(target.session);
  EXPECT_TRUE(grant_of(target, b));
  EXPECT_EQ(*b->local_poll(target.session), *bytes);
}

TEST_F(Failure, TheOfferIsLostWithItsLink) {
  prepare();
  ASSERT_EQ(a->offer(kAttempt, link.at_client), Errc::kOk);
  link.cut();
  TestLink again{a, b};
  ASSERT_EQ(a->offer(kAttempt, again.at_client), Errc::kOk);
  again.carry();
  EXPECT_TRUE(event_of(b, EventKind::kOfferArrived));
}

TEST_F(Failure, TheLinkIsDownWhenTheTargetIsReady) {
  prepare();
  offer();
  meet(target, b);
  ASSERT_TRUE(take_key(target, b));
  link.cut();
  ASSERT_EQ(say(target, b, target.enclave.ready_notice()), Errc::kOk);
  TestLink again{a, b};
  ASSERT_EQ(b->announce(target.session, again.at_server), Errc::kOk);
  again.carry();
  EXPECT_TRUE(event_of(a, EventKind::kReadyArrived));
}

TEST_F(Failure, TheTargetDiesBeforeTheGrantAndAnotherTakesItsPlace) {
  until_ticket();
  b->local_close(target.session);
  Player second{{cpu_b, Role::kTarget, kAttempt, 0x32}};
  meet(second, b);
  ASSERT_TRUE(take_key(second, b));
  ASSERT_EQ(say(second, b, second.enclave.ready_notice()), Errc::kOk);
  ASSERT_EQ(b->request_grant(second.session, link.at_server), Errc::kOk);
  link.carry();
  EXPECT_TRUE(grant_of(second, b));
}

TEST_F(Failure, TheTargetsAgentDiesAfterTheTicketAndItsSuccessorServesANewTarget) {
  until_ticket();
  link.cut();
  TestAgent successor{cpu_b, 3};
  TestLink again{a, successor};
  ASSERT_EQ(a->offer(kAttempt, again.at_client), Errc::kOk);
  again.carry();
  Player second{{cpu_b, Role::kTarget, kAttempt, 0x32}};
  meet(second, successor);
  ASSERT_TRUE(take_key(second, successor));
  ASSERT_EQ(say(second, successor, second.enclave.ready_notice()), Errc::kOk);
  ASSERT_EQ(successor->request_grant(second.session, again.at_server), Errc::kOk);
  again.carry();
  EXPECT_TRUE(grant_of(second, successor));
}

// The grant names an instance that lives; only the agent that carried it is gone. Its successor relays the same grant.
TEST_F(Failure, TheTargetsAgentDiesWithTheGrantAndItsSuccessorRelaysIt) {
  until_ticket();
  ASSERT_EQ(b->request_grant(target.session, link.at_server), Errc::kOk);
  (void)a->link_feed(link.at_client, *b->link_take(link.at_server));
  link.cut();
  TestAgent successor{cpu_b, 3};
  TestLink again{a, successor};
  ASSERT_EQ(a->offer(kAttempt, again.at_client), Errc::kOk);
  again.carry();
  meet(target, successor);  // the same instance key, a new session
  const auto no_key = successor->local_message(target.session, target.enclave.key_request());
  ASSERT_TRUE(no_key.ok());
  EXPECT_TRUE(no_key->empty());
  ASSERT_EQ(say(target, successor, target.enclave.ready_notice()), Errc::kOk);
  ASSERT_EQ(successor->request_grant(target.session, again.at_server), Errc::kOk);
  again.carry();
  EXPECT_TRUE(grant_of(target, successor));

  // Nobody else profits: another instance there is refused.
  Player second{{cpu_b, Role::kTarget, kAttempt, 0x32}};
  meet(second, successor);
  ASSERT_EQ(say(second, successor, second.enclave.key_request()), Errc::kOk);
  ASSERT_EQ(say(second, successor, second.enclave.ready_notice()), Errc::kOk);
  ASSERT_EQ(successor->request_grant(second.session, again.at_server), Errc::kOk);
  again.carry();
  EXPECT_EQ(event_of(successor, EventKind::kGrantRefused)->error, Errc::kAlreadyGranted);
}

TEST_F(Failure, ACloneOfTheArbiterHasNoTicket) {
  until_ticket();
  TestAgent clone{cpu_a, 9};
  EXPECT_EQ(say(source, clone, source.enclave.ticket()), Errc::kNoSession);
  TestLink to_clone{clone, b};
  EXPECT_EQ(b->request_grant(target.session, to_clone.at_server), Errc::kPeerRefused);
  Player local{{cpu_a, Role::kTarget, kAttempt, 0x33}};
  meet(local, clone);
  EXPECT_EQ(say(local, clone, local.enclave.key_request()), Errc::kUnknownAttempt);
}

TEST_F(Failure, ALinkThatSpeaksNonsenseEndsAndTheAttemptLives) {
  prepare();
  offer();
  const Bytes nonsense(64, 0xff);
  EXPECT_EQ(a->link_feed(link.at_client, nonsense), Errc::kBadMessage);
  EXPECT_EQ(a->link_state(link.at_client)->phase, LinkPhase::kFailed);
  EXPECT_EQ(a->link_state(link.at_client)->error, Errc::kBadMessage);
  EXPECT_EQ(a->offer(kAttempt, link.at_client), Errc::kBadMessage);
  TestLink again{a, b};
  ASSERT_EQ(a->offer(kAttempt, again.at_client), Errc::kOk);
  again.carry();
  EXPECT_TRUE(event_of(b, EventKind::kOfferArrived));
}

TEST_F(Failure, AnOfferOfAnotherStateUnderAHeldAttemptIsRefused) {
  prepare();
  offer();
  // The same agent instance would have to lie: played by a second agent that declares the first one's instance.
  TestAgent liar{cpu_a, 1};
  Player other{{cpu_a, Role::kSource, kAttempt, 0x25}};
  meet(other, liar);
  ASSERT_EQ(say(other, liar, other.enclave.prepare(2)), Errc::kOk);
  TestLink lying{liar, b};
  ASSERT_EQ(liar->offer(kAttempt, lying.at_client), Errc::kOk);
  lying.carry();
  EXPECT_EQ(event_of(liar, EventKind::kOfferRefused)->error, Errc::kAttemptUsed);
}

TEST_F(Failure, ForgetDropsTheKeyWhenTheSourcesAgentIsGone) {
  prepare();
  offer();
  EXPECT_TRUE(b->attempt_status(kAttempt)->holds_key);
  b->forget(kAttempt);
  EXPECT_EQ(b->attempt_status(kAttempt).error(), Errc::kUnknownAttempt);
}

TEST_F(Failure, AHostThatNeverListensLosesEventsOnly) {
  prepare();
  for (int i = 0; i < 9000; ++i) {
    ASSERT_EQ(a->offer(kAttempt, link.at_client), Errc::kOk);
    link.carry();
  }
  EXPECT_TRUE(b->attempt_status(kAttempt)->holds_key);
  EXPECT_TRUE(event_of(b, EventKind::kOfferArrived));
}

}  // namespace
}  // namespace sealift::agent

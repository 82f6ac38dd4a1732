#include "migration/ledger.h"

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <random>
#include <tuple>

namespace sealift::ledger {
namespace {

constexpr std::uint64_t kNow = 1000;

Attempt attempt_of(std::uint8_t n) {
  Attempt a{};
  a[0] = n;
  return a;
}

MigrationPolicy test_policy() {
  MigrationPolicy p{};
  p.flags = policy::kAllowMigration;
  p.tcb_accepted = tcb::kUpToDate;
  p.agent_pin = std::uint32_t(AgentPin::kMrenclave);
  p.agent.bytes[0] = 0xa9;
  return p;
}

messages::EnclaveIdentity enclave(std::uint8_t n = 1) {
  messages::EnclaveIdentity id{};
  id.mrenclave.bytes[0] = n;
  return id;
}

messages::Prepare prepare_of(std::uint8_t attempt, std::uint8_t lineage = 1, std::uint64_t epoch = 5) {
  messages::Prepare p{};
  p.lineage[0] = lineage;
  p.epoch = epoch;
  p.attempt[0] = attempt;
  p.key[0] = attempt;
  p.policy = test_policy();
  return p;
}

messages::Ticket ticket_of(std::uint8_t attempt, std::uint8_t lineage = 1, std::uint64_t epoch = 5) {
  messages::Ticket t{};
  t.lineage[0] = lineage;
  t.next_epoch = epoch + 1;
  t.attempt[0] = attempt;
  t.digest[0] = attempt;
  return t;
}

messages::LinkReady ready_of(std::uint8_t attempt, std::uint8_t instance = 1) {
  messages::LinkReady r{};
  r.ready.attempt[0] = attempt;
  r.ready.digest[0] = attempt;
  r.ready.instance_key[0] = instance;
  r.target = enclave();
  return r;
}

PeerVerdict peer_of(std::uint8_t n = 1) {
  PeerVerdict v;
  v.report.mrenclave.bytes[0] = 0xa9;
  v.tcb_status = tcb::kUpToDate;
  v.expires = kNow + 1;
  v.instance[0] = n;
  return v;
}

Errc apply(Ledger& ledger, Event event, std::uint8_t attempt = 1) {
  switch (event) {
    case Event::kPrepare:
      return ledger.prepare(prepare_of(attempt), enclave());
    case Event::kOffer:
      return ledger.offer(attempt_of(attempt), peer_of(), kNow).error();
    case Event::kReady:
      return ledger.ready(ready_of(attempt), nullptr, kNow);
    case Event::kTicket:
      return ledger.ticket(ticket_of(attempt));
    case Event::kGrant:
      return ledger.grant(ready_of(attempt), nullptr, kNow).error();
    case Event::kCancel:
      return ledger.cancel(attempt_of(attempt));
  }
  return Errc::kBadRequest;
}

void reach(Ledger& ledger, State state) {
  const std::map<State, std::vector<Event>> paths = {
      {State::kUnknown, {}},
      {State::kPrepared, {Event::kPrepare}},
      {State::kOffered, {Event::kPrepare, Event::kOffer}},
      {State::kReady, {Event::kPrepare, Event::kOffer, Event::kReady}},
      {State::kTicketed, {Event::kPrepare, Event::kOffer, Event::kReady, Event::kTicket}},
      {State::kGranted, {Event::kPrepare, Event::kOffer, Event::kReady, Event::kTicket, Event::kGrant}},
      {State::kCancelled, {Event::kPrepare, Event::kCancel}},
  };
  for (const Event event : paths.at(state)) ASSERT_EQ(apply(ledger, event), Errc::kOk);
  ASSERT_EQ(ledger.state(attempt_of(1)), state);
}

// Written from design §7, not from the table: every listed transition; each other pair must be refused with this error.
TEST(Ledger, EveryPairOfStateAndEvent) {
  using enum State;
  const std::map<std::pair<State, Event>, State> listed = {
      {{kUnknown, Event::kPrepare}, kPrepared},  {{kPrepared, Event::kOffer}, kOffered},
      {{kPrepared, Event::kReady}, kReady},      {{kPrepared, Event::kTicket}, kTicketed},
      {{kPrepared, Event::kCancel}, kCancelled}, {{kOffered, Event::kOffer}, kOffered},
      {{kOffered, Event::kReady}, kReady},       {{kOffered, Event::kTicket}, kTicketed},
      {{kOffered, Event::kCancel}, kCancelled},  {{kReady, Event::kOffer}, kReady},
      {{kReady, Event::kReady}, kReady},         {{kReady, Event::kTicket}, kTicketed},
      {{kReady, Event::kCancel}, kCancelled},    {{kTicketed, Event::kOffer}, kTicketed},
      {{kTicketed, Event::kReady}, kTicketed},   {{kTicketed, Event::kTicket}, kTicketed},
      {{kTicketed, Event::kGrant}, kGranted},    {{kGranted, Event::kOffer}, kGranted},
      {{kGranted, Event::kReady}, kGranted},     {{kGranted, Event::kTicket}, kGranted},
      {{kGranted, Event::kGrant}, kGranted},     {{kCancelled, Event::kCancel}, kCancelled},
  };
  const auto why_not = [](State state, Event event) {
    if (state == kUnknown) return Errc::kUnknownAttempt;
    if (event == Event::kPrepare || state == kCancelled) return Errc::kAttemptUsed;
    if (event == Event::kGrant) return Errc::kNoTicket;
    return Errc::kDestroyed;  // cancel after the ticket
  };
  for (std::uint32_t s = 0; s < kStates; ++s) {
    for (std::uint32_t e = 0; e < kEvents; ++e) {
      SCOPED_TRACE(testing::Message() << "state " << s << " event " << e);
      Ledger ledger;
      reach(ledger, State(s));
      const auto it = listed.find({State(s), Event(e)});
      const Errc expected = it == listed.end() ? why_not(State(s), Event(e)) : Errc::kOk;
      EXPECT_EQ(apply(ledger, Event(e)), expected);
      EXPECT_EQ(ledger.state(attempt_of(1)), it == listed.end() ? State(s) : it->second);
      EXPECT_EQ(step(State(s), Event(e)).error, expected);
    }
  }
}

TEST(Ledger, NumbersOutsideTheTableAreRefused) {
  EXPECT_EQ(step(State(kStates), Event::kPrepare).error, Errc::kBadRequest);
  EXPECT_EQ(step(State::kPrepared, Event(kEvents)).error, Errc::kBadRequest);
}

TEST(Ledger, GrantsOneInstanceAndRepeatsTheSameBytes) {
  Ledger ledger;
  reach(ledger, State::kTicketed);
  const auto first = ledger.grant(ready_of(1, 1), nullptr, kNow);
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(first->next_epoch, 6u);
  EXPECT_EQ(first->instance_key[0], 1);
  const auto again = ledger.grant(ready_of(1, 1), nullptr, kNow);
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(std::memcmp(&*first, &*again, sizeof(*first)), 0);
  EXPECT_EQ(ledger.grant(ready_of(1, 2), nullptr, kNow).error(), Errc::kAlreadyGranted);
  EXPECT_EQ(ledger.ready(ready_of(1, 2), nullptr, kNow), Errc::kAlreadyGranted);
  EXPECT_EQ(ledger.ready(ready_of(1, 1), nullptr, kNow), Errc::kOk);
}

TEST(Ledger, GrantsAnInstanceThatNeverSaidReadyIfItShowsTheDigest) {
  Ledger ledger;
  reach(ledger, State::kTicketed);
  messages::LinkReady other = ready_of(1, 9);
  other.ready.digest[5] = 1;
  EXPECT_EQ(ledger.grant(other, nullptr, kNow).error(), Errc::kBadDigest);
  EXPECT_TRUE(ledger.grant(ready_of(1, 9), nullptr, kNow).ok());
}

TEST(Ledger, AReadyOfAnotherDigestIsRefused) {
  Ledger ledger;
  reach(ledger, State::kReady);
  messages::LinkReady other = ready_of(1, 2);
  other.ready.digest[0] ^= 1;
  EXPECT_EQ(ledger.ready(other, nullptr, kNow), Errc::kBadDigest);
  EXPECT_EQ(ledger.first_ready(attempt_of(1))->instance_key[0], 1);
}

TEST(Ledger, RefusesATargetThatIsAnotherEnclave) {
  Ledger ledger;
  reach(ledger, State::kTicketed);
  messages::LinkReady other = ready_of(1);
  other.target = enclave(2);
  EXPECT_EQ(ledger.ready(other, nullptr, kNow), Errc::kWrongEnclave);
  EXPECT_EQ(ledger.grant(other, nullptr, kNow).error(), Errc::kWrongEnclave);
  EXPECT_EQ(ledger.local_key(attempt_of(1), enclave(2), test_policy()).error(), Errc::kWrongEnclave);
}

TEST(Ledger, RefusesATargetOfAnotherPolicy) {
  Ledger ledger;
  reach(ledger, State::kPrepared);
  MigrationPolicy other = test_policy();
  other.tcb_accepted |= tcb::kOutOfDate;
  EXPECT_EQ(ledger.local_key(attempt_of(1), enclave(), other).error(), Errc::kPolicy);
}

TEST(Ledger, JudgesThePeerBeforeTheKeyLeaves) {
  Ledger ledger;
  reach(ledger, State::kPrepared);
  PeerVerdict bad = peer_of();
  bad.report.mrenclave.bytes[0] = 0;
  EXPECT_EQ(ledger.offer(attempt_of(1), bad, kNow).error(), Errc::kBadAgent);
  EXPECT_EQ(ledger.offer(attempt_of(1), peer_of(), kNow + 1).error(), Errc::kVerdictExpired);
  EXPECT_EQ(ledger.state(attempt_of(1)), State::kPrepared);
  EXPECT_TRUE(ledger.judged(attempt_of(1)).empty());
}

TEST(Ledger, AnAgentThatCouldNotBeOfferedTheKeyHasNoSay) {
  Ledger ledger;
  reach(ledger, State::kTicketed);
  PeerVerdict bad = peer_of(7);
  bad.report.mrenclave.bytes[0] = 0;
  EXPECT_EQ(ledger.ready(ready_of(1), &bad, kNow), Errc::kBadAgent);
  EXPECT_EQ(ledger.grant(ready_of(1), &bad, kNow).error(), Errc::kBadAgent);
}

TEST(Ledger, AJudgedAgentMayFinishAfterItsVerdictExpires) {
  Ledger ledger;
  reach(ledger, State::kTicketed);
  const PeerVerdict old = peer_of();
  EXPECT_TRUE(ledger.grant(ready_of(1), &old, kNow + 100).ok());
  const PeerVerdict stranger = peer_of(2);
  EXPECT_EQ(ledger.grant(ready_of(1), &stranger, kNow + 100).error(), Errc::kVerdictExpired);
}

TEST(Ledger, TheKeyIsGoneOnceGranted) {
  Ledger ledger;
  reach(ledger, State::kTicketed);
  EXPECT_EQ(ledger.offer(attempt_of(1), peer_of(), kNow)->prepare.key[0], 1);
  ASSERT_TRUE(ledger.grant(ready_of(1), nullptr, kNow).ok());
  EXPECT_EQ(ledger.local_key(attempt_of(1), enclave(), test_policy()).error(), Errc::kAlreadyGranted);
  const auto offer = ledger.offer(attempt_of(1), peer_of(2), kNow);
  ASSERT_TRUE(offer.ok());
  for (const std::uint8_t byte : offer->prepare.key) EXPECT_EQ(byte, 0);
}

TEST(Ledger, PrepareRefusesNonsense) {
  Ledger ledger;
  messages::Prepare p = prepare_of(1);
  p.policy.flags = 0;
  EXPECT_EQ(ledger.prepare(p, enclave()), Errc::kPolicy);
  EXPECT_EQ(ledger.prepare(prepare_of(1, 0), enclave()), Errc::kWrongLineage);
  p = prepare_of(1);
  p.key[0] = 0;
  EXPECT_EQ(ledger.prepare(p, enclave()), Errc::kBadMessage);
  EXPECT_EQ(ledger.prepare(prepare_of(0), enclave()), Errc::kBadMessage);
  EXPECT_EQ(ledger.prepare(prepare_of(1, 1, std::numeric_limits<std::uint64_t>::max()), enclave()), Errc::kWrongEpoch);
  EXPECT_EQ(ledger.state(attempt_of(1)), State::kUnknown);
}

TEST(Ledger, ANewAttemptSupersedesBeforeTheTicketOnly) {
  Ledger ledger;
  reach(ledger, State::kReady);
  EXPECT_EQ(ledger.superseded_by(prepare_of(2), enclave()), attempt_of(1));
  EXPECT_EQ(ledger.prepare(prepare_of(2), enclave()), Errc::kOk);
  EXPECT_EQ(ledger.state(attempt_of(1)), State::kCancelled);
  EXPECT_EQ(ledger.ticket(ticket_of(1)), Errc::kAttemptUsed);
  EXPECT_EQ(ledger.prepare(prepare_of(1), enclave()), Errc::kAttemptUsed);
  EXPECT_EQ(ledger.ticket(ticket_of(2)), Errc::kOk);
  EXPECT_EQ(ledger.superseded_by(prepare_of(3), enclave()), std::nullopt);
  EXPECT_EQ(ledger.prepare(prepare_of(3), enclave()), Errc::kWrongEpoch);
  EXPECT_EQ(ledger.prepare(prepare_of(3, 1, 6), enclave()), Errc::kWrongEpoch);  // nobody was granted epoch 6 yet
}

TEST(Ledger, AfterTheGrantOnlyLaterEpochsPrepare) {
  Ledger ledger;
  reach(ledger, State::kGranted);
  EXPECT_EQ(ledger.prepare(prepare_of(2, 1, 5), enclave()), Errc::kWrongEpoch);
  EXPECT_EQ(ledger.prepare(prepare_of(2, 1, 4), enclave()), Errc::kWrongEpoch);
  EXPECT_EQ(ledger.prepare(prepare_of(2, 1, 6), enclave()), Errc::kOk);
  EXPECT_EQ(ledger.ticket(ticket_of(2, 1, 6)), Errc::kOk);
  EXPECT_EQ(ledger.state(attempt_of(1)), State::kCancelled);  // its grant is history
  EXPECT_EQ(ledger.grant(ready_of(1), nullptr, kNow).error(), Errc::kAttemptUsed);
  EXPECT_EQ(ledger.prepare(prepare_of(3, 1, 5), enclave()), Errc::kWrongEpoch);
}

TEST(Ledger, AnOlderEpochThanOnePreparedIsRefused) {
  Ledger ledger;
  ASSERT_EQ(ledger.prepare(prepare_of(1, 1, 5), enclave()), Errc::kOk);
  EXPECT_EQ(ledger.prepare(prepare_of(2, 1, 4), enclave()), Errc::kWrongEpoch);
}

TEST(Ledger, AnotherEnclaveCannotTouchALineageByClaimingItsNumber) {
  Ledger ledger;
  reach(ledger, State::kReady);
  ASSERT_EQ(ledger.prepare(prepare_of(2, 1, 9), enclave(2)), Errc::kOk);
  ASSERT_EQ(ledger.ticket(ticket_of(2, 1, 9)), Errc::kOk);
  EXPECT_EQ(ledger.state(attempt_of(1)), State::kReady);
  EXPECT_EQ(ledger.ticket(ticket_of(1)), Errc::kOk);
}

TEST(Ledger, TicketMustNameItsAttemptsLineageAndEpoch) {
  Ledger ledger;
  reach(ledger, State::kReady);
  EXPECT_EQ(ledger.ticket(ticket_of(1, 2)), Errc::kWrongLineage);
  EXPECT_EQ(ledger.ticket(ticket_of(1, 1, 6)), Errc::kWrongEpoch);
  EXPECT_EQ(ledger.ticket(ticket_of(1)), Errc::kOk);
  messages::Ticket other = ticket_of(1);
  other.digest[3] = 1;
  EXPECT_EQ(ledger.ticket(other), Errc::kBadDigest);
}

// Random histories: whatever is asked in whatever order, of one (lineage, epoch) one instance at most is granted.
TEST(Ledger, NoHistoryGrantsTwice) {
  std::mt19937 random(20170626);
  const auto below = [&](unsigned n) { return static_cast<std::uint8_t>(random() % n); };
  std::size_t grants = 0;
  for (int run = 0; run < 2000; ++run) {
    Ledger ledger;
    std::map<std::pair<std::uint8_t, std::uint64_t>, messages::Grant> granted;
    for (int i = 0; i < 60; ++i) {
      const auto attempt = static_cast<std::uint8_t>(1 + below(4));
      const auto lineage = static_cast<std::uint8_t>(1 + attempt % 2);
      const std::uint64_t epoch = below(2);
      const auto instance = static_cast<std::uint8_t>(1 + below(3));
      switch (Event(below(kEvents))) {
        case Event::kPrepare:
          (void)ledger.prepare(prepare_of(attempt, lineage, epoch), enclave());
          break;
        case Event::kOffer:
          (void)ledger.offer(attempt_of(attempt), peer_of(instance), kNow);
          break;
        case Event::kReady:
          (void)ledger.ready(ready_of(attempt, instance), nullptr, kNow);
          break;
        case Event::kTicket:
          (void)ledger.ticket(ticket_of(attempt, lineage, epoch));
          break;
        case Event::kCancel:
          (void)ledger.cancel(attempt_of(attempt));
          break;
        case Event::kGrant:
          if (const auto grant = ledger.grant(ready_of(attempt, instance), nullptr, kNow)) {
            ++grants;
            const auto [it, first] = granted.try_emplace({grant->lineage[0], grant->next_epoch}, *grant);
            ASSERT_EQ(std::memcmp(&it->second, &*grant, sizeof(*grant)), 0);
          }
          break;
      }
    }
  }
  EXPECT_GT(grants, 1000u);  // the histories do reach what they are about
}

}  // namespace
}  // namespace sealift::ledger

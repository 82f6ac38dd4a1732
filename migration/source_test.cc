#include "migration/source.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

namespace sealift {
namespace {

using S = SourceState;
using E = SourceEvent;
using A = SourceAction;

constexpr int kStates = static_cast<int>(S::kLost) + 1;
constexpr int kEvents = static_cast<int>(E::kTimeout) + 1;

// The forward path, so that a test can begin anywhere on it.
const std::vector<std::pair<E, S>>& path() {
  static const std::vector<std::pair<E, S>> kPath = {
      {E::kStart, S::kConnect},    {E::kPeerUp, S::kSession},         {E::kPrepared, S::kOffer},
      {E::kOffered, S::kTarget},   {E::kTargetPrepared, S::kQuiesce}, {E::kQuiesced, S::kDump},
      {E::kStreamed, S::kVerify},  {E::kReadyArrived, S::kCommit},    {E::kTicketMade, S::kTicket},
      {E::kTicketHeld, S::kGrant}, {E::kGranted, S::kDone},
  };
  return kPath;
}

SourceMachine at(S state) {
  SourceMachine machine;
  for (const auto& [event, next] : path()) {
    if (machine.state() == state) break;
    EXPECT_TRUE(machine.on(event).listed);
    EXPECT_EQ(machine.state(), next);
  }
  EXPECT_EQ(machine.state(), state);
  return machine;
}

SourceMachine at(S state, std::initializer_list<E> then) {
  SourceMachine machine = at(state);
  for (const E event : then) EXPECT_TRUE(machine.on(event).listed) << name_of(event);
  return machine;
}

std::vector<A> actions(SourceMachine& machine, E event) {
  const Step<A> step = machine.on(event);
  EXPECT_TRUE(step.listed) << name_of(event) << " in " << name_of(machine.state());
  return {step.actions.begin(), step.actions.end()};
}

bool contains(const std::vector<A>& list, A action) {
  return std::find(list.begin(), list.end(), action) != list.end();
}

const std::vector<S> kUndoable = {S::kSession, S::kOffer, S::kTarget, S::kQuiesce, S::kDump, S::kVerify};

TEST(SourceMachine, TheForwardPathDoesEachStepOnce) {
  SourceMachine machine;
  EXPECT_EQ(actions(machine, E::kStart), std::vector{A::kConnectPeer});
  EXPECT_EQ(actions(machine, E::kPeerUp), std::vector{A::kOpenSession});
  EXPECT_EQ(actions(machine, E::kPrepared), std::vector{A::kOffer});
  EXPECT_EQ(actions(machine, E::kOffered), std::vector{A::kStartTarget});
  EXPECT_EQ(actions(machine, E::kTargetPrepared), std::vector{A::kQuiesce});
  EXPECT_EQ(actions(machine, E::kQuiesced), std::vector{A::kDump});
  EXPECT_EQ(actions(machine, E::kStreamed), std::vector<A>{});
  EXPECT_EQ(actions(machine, E::kReadyArrived), std::vector{A::kCommit});
  EXPECT_EQ(actions(machine, E::kTicketMade), std::vector{A::kHandTicket});
  EXPECT_EQ(actions(machine, E::kTicketHeld), std::vector{A::kTellCommitted});
  EXPECT_EQ(actions(machine, E::kGranted), (std::vector{A::kRelease, A::kDropStream}));
  EXPECT_EQ(machine.state(), S::kDone);
  EXPECT_TRUE(machine.finished());
}

TEST(SourceMachine, UnlistedEventsChangeNothing) {
  for (const auto& [event, state] : path()) {
    for (int e = 0; e < kEvents; ++e) {
      SourceMachine machine = at(state);
      const bool listed = find_transition(SourceMachine::table(), state, static_cast<E>(e)) != nullptr;
      const Step<A> step = machine.on(static_cast<E>(e));
      EXPECT_EQ(step.listed, listed);
      if (!listed) {
        EXPECT_EQ(machine.state(), state);
        EXPECT_TRUE(step.actions.empty());
      }
    }
  }
}

TEST(SourceMachine, EveryFailureBeforeCommitLetsTheSourceRunAgain) {
  for (const S state : kUndoable) {
    for (const E failure :
         {E::kSourceError, E::kPeerGone, E::kTargetFailed, E::kAgentError, E::kAgentGone, E::kTimeout}) {
      SourceMachine machine = at(state);
      EXPECT_EQ(actions(machine, failure), (std::vector{A::kCancelSource, A::kCancelAgent, A::kCancelTarget}));
      EXPECT_EQ(machine.state(), S::kAborting);
      EXPECT_EQ(actions(machine, E::kSourceCancelled), std::vector{A::kDropStream});
      EXPECT_EQ(machine.state(), S::kFailed);
    }
  }
}

TEST(SourceMachine, CancelIsPossibleInEveryPhaseBeforeCommit) {
  for (const S state : kUndoable) {
    SourceMachine machine = at(state);
    EXPECT_TRUE(contains(actions(machine, E::kCancelRequest), A::kCancelSource));
    EXPECT_EQ(machine.state(), S::kCancelling);
    actions(machine, E::kSourceCancelled);
    EXPECT_EQ(machine.state(), S::kCancelled);
  }
}

TEST(SourceMachine, CancelBeforeTheSessionNeedsNoEnclave) {
  SourceMachine machine = at(S::kConnect);
  EXPECT_TRUE(actions(machine, E::kCancelRequest).empty());
  EXPECT_EQ(machine.state(), S::kCancelled);
}

TEST(SourceMachine, AnUnreachablePeerFailsAtOnce) {
  for (const E failure : {E::kPeerGone, E::kAgentError, E::kAgentGone, E::kSourceGone, E::kTimeout}) {
    SourceMachine machine = at(S::kConnect);
    EXPECT_TRUE(actions(machine, failure).empty());
    EXPECT_EQ(machine.state(), S::kFailed);
  }
}

TEST(SourceMachine, TheSourceProcessDyingBeforeCommitFreesTheOthers) {
  for (const S state : kUndoable) {
    SourceMachine machine = at(state);
    EXPECT_EQ(actions(machine, E::kSourceGone), (std::vector{A::kCancelAgent, A::kCancelTarget, A::kDropStream}));
    EXPECT_EQ(machine.state(), S::kFailed);
  }
}

TEST(SourceMachine, ACancelThatTheEnclaveRefusesIsAFailureNotASuccess) {
  for (const E answer : {E::kSourceError, E::kSourceGone, E::kTimeout}) {
    SourceMachine machine = at(S::kDump, {E::kCancelRequest});
    actions(machine, answer);
    EXPECT_EQ(machine.state(), S::kFailed);
  }
}

TEST(SourceMachine, NothingCancelsFromCommitOn) {
  for (int s = static_cast<int>(S::kCommit); s <= static_cast<int>(S::kRecover); ++s) {
    EXPECT_EQ(find_transition(SourceMachine::table(), static_cast<S>(s), E::kCancelRequest), nullptr)
        << name_of(static_cast<S>(s));
  }
}

// After commit the source's gate may be destroyed: undoing is only for its own word that it refused, or a gate seen
// open.
TEST(SourceMachine, OnlyTheEnclavesOwnWordLeadsBackFromCommit) {
  for (const SourceTransition& row : SourceMachine::table()) {
    if (row.from < S::kCommit || row.from > S::kRecover) continue;
    if (!contains({row.todo().begin(), row.todo().end()}, A::kCancelSource)) continue;
    EXPECT_TRUE(row.event == E::kSourceError || row.event == E::kSourceAlive) << name_of(row.from);
  }
}

TEST(SourceMachine, TheStreamIsKeptUntilSomebodyRunsOrNobodyCan) {
  for (const SourceTransition& row : SourceMachine::table()) {
    const bool drops = contains({row.todo().begin(), row.todo().end()}, A::kDropStream);
    if (drops) {
      EXPECT_GE(row.to, S::kDone) << name_of(row.from) << " / " << name_of(row.event);
    }
  }
}

TEST(SourceMachine, TargetLostDuringCommitIsRedialledOnceTheTicketIsSafe) {
  for (const E loss : {E::kPeerGone, E::kTargetFailed}) {
    SourceMachine machine = at(S::kCommit, {loss});
    EXPECT_EQ(machine.state(), S::kCommitOrphan);
    EXPECT_EQ(actions(machine, E::kTicketMade), std::vector{A::kHandTicket});
    EXPECT_EQ(actions(machine, E::kTicketHeld), std::vector{A::kConnectPeer});
    EXPECT_EQ(machine.state(), S::kRedial);

    SourceMachine later = at(S::kTicket, {loss});
    EXPECT_EQ(later.state(), S::kTicketOrphan);
    actions(later, E::kTicketHeld);
    EXPECT_EQ(later.state(), S::kRedial);
  }
}

TEST(SourceMachine, ARefusedCommitLeavesTheSourceRunning) {
  for (SourceMachine machine : {at(S::kCommit), at(S::kCommit, {E::kPeerGone})}) {
    EXPECT_TRUE(contains(actions(machine, E::kSourceError), A::kCancelSource));
    EXPECT_EQ(machine.state(), S::kAborting);
  }
}

TEST(SourceMachine, LosingTheProcessDuringCommitAsksTheAgent) {
  for (SourceMachine machine : {at(S::kCommit), at(S::kCommit, {E::kPeerGone})}) {
    EXPECT_EQ(actions(machine, E::kSourceGone), std::vector{A::kAskAgent});
    EXPECT_EQ(machine.state(), S::kRecover);
  }
}

TEST(SourceMachine, TheTicketIsHandedOverAgainWhenTheSameAgentIsBack) {
  for (SourceMachine machine : {at(S::kTicket), at(S::kTicket, {E::kPeerGone})}) {
    const S before = machine.state();
    EXPECT_EQ(actions(machine, E::kAgentBack), std::vector{A::kHandTicket});
    EXPECT_EQ(machine.state(), before);
  }
}

TEST(SourceMachine, AnotherAgentInstanceMeansTheTicketIsLost) {
  for (SourceMachine machine : {at(S::kTicket), at(S::kTicket, {E::kPeerGone}), at(S::kCommit, {E::kSourceGone})}) {
    actions(machine, E::kAgentReplaced);
    EXPECT_EQ(machine.state(), S::kLost);
  }
}

// The ticket went with the agent, but a grant may have left before: the target is asked, and believed.
TEST(SourceMachine, ATicketThatDiesWithItsAgentLeavesThoseAloneThatWereGrantedBefore) {
  SourceMachine granting = at(S::kGrant);
  EXPECT_EQ(actions(granting, E::kAgentReplaced), std::vector{A::kAttach});
  SourceMachine redialling = at(S::kGrant, {E::kPeerGone});
  EXPECT_EQ(actions(redialling, E::kAgentReplaced), std::vector{A::kConnectPeer});
  for (const SourceMachine& forsaken : {granting, redialling}) {
    EXPECT_EQ(forsaken.state(), S::kForsaken);
    SourceMachine machine = forsaken;
    EXPECT_EQ(actions(machine, E::kPeerGone), std::vector{A::kConnectPeer});
    EXPECT_EQ(actions(machine, E::kPeerUp), std::vector{A::kAttach});
    EXPECT_EQ(actions(machine, E::kTargetWaiting), std::vector{A::kTellCommitted});
    EXPECT_EQ(machine.state(), S::kForsaken);
    SourceMachine granted = machine;
    EXPECT_EQ(actions(granted, E::kGranted), (std::vector{A::kRelease, A::kDropStream}));
    EXPECT_EQ(granted.state(), S::kDone);
    for (const E end : {E::kTargetFailed, E::kTimeout}) {
      SourceMachine lost = machine;
      EXPECT_EQ(actions(lost, end), (std::vector{A::kRelease, A::kDropStream}));
      EXPECT_EQ(lost.state(), S::kLost);
    }
  }
}

TEST(SourceMachine, AResumeWhoseAgentDiesIsTheLastOne) {
  for (const E failure : {E::kTargetFailed, E::kTimeout}) {
    const SourceMachine last = at(S::kGrant, {failure, E::kAgentReplaced});
    EXPECT_EQ(last.state(), S::kLastResume);
    SourceMachine granted = last;
    EXPECT_EQ(actions(granted, E::kResumeGranted), (std::vector{A::kCancelTarget, A::kRelease, A::kDropStream}));
    EXPECT_EQ(granted.state(), S::kResumed);
    SourceMachine failed = last;
    EXPECT_EQ(actions(failed, E::kResumeFailed), (std::vector{A::kStopLocal, A::kConnectPeer}));
    EXPECT_EQ(failed.state(), S::kForsaken) << "not stranded: there is nothing to be tried again";
    SourceMachine bound = last;
    actions(bound, E::kAlreadyGranted);
    EXPECT_EQ(bound.state(), S::kSettle);
    SourceMachine elsewhere = last;
    EXPECT_TRUE(contains(actions(elsewhere, E::kGranted), A::kStopLocal));
    EXPECT_EQ(elsewhere.state(), S::kDone);
  }
}

// With the ticket gone, no path leads to a state that promises a resume.
TEST(SourceMachine, NothingIsStrandedWithoutTheAgentThatHeldTheTicket) {
  std::set<S> reached;
  std::vector<S> next;
  for (const SourceTransition& row : SourceMachine::table()) {
    if (row.event == E::kAgentReplaced) next.push_back(row.to);
  }
  while (!next.empty()) {
    const S state = next.back();
    next.pop_back();
    if (!reached.insert(state).second) continue;
    for (const SourceTransition& row : SourceMachine::table()) {
      if (row.from == state) next.push_back(row.to);
    }
  }
  EXPECT_FALSE(reached.contains(S::kStranded));
  EXPECT_FALSE(reached.contains(S::kResume));
  EXPECT_TRUE(reached.contains(S::kLost));
}

TEST(SourceMachine, AnAgentThatRefusesTheTicketIsTheEnd) {
  for (SourceMachine machine : {at(S::kTicket), at(S::kTicket, {E::kPeerGone})}) {
    actions(machine, E::kAgentError);
    EXPECT_EQ(machine.state(), S::kLost);
  }
}

TEST(SourceMachine, AFailedTargetAfterCommitIsResumedOnTheSource) {
  for (const E failure : {E::kTargetFailed, E::kTimeout}) {
    for (SourceMachine machine : {at(S::kGrant), at(S::kGrant, {E::kPeerGone})}) {
      EXPECT_EQ(actions(machine, failure), std::vector{A::kResumeLocal});
      EXPECT_EQ(actions(machine, E::kResumeGranted), (std::vector{A::kCancelTarget, A::kRelease, A::kDropStream}));
      EXPECT_EQ(machine.state(), S::kResumed);
    }
  }
}

TEST(SourceMachine, ALostPeerAfterCommitIsRedialledAndAsked) {
  SourceMachine machine = at(S::kGrant);
  EXPECT_EQ(actions(machine, E::kPeerGone), std::vector{A::kConnectPeer});
  EXPECT_EQ(actions(machine, E::kPeerGone), std::vector{A::kConnectPeer});
  EXPECT_EQ(actions(machine, E::kPeerUp), std::vector{A::kAttach});
  EXPECT_EQ(actions(machine, E::kTargetWaiting), std::vector{A::kTellCommitted});
  EXPECT_EQ(machine.state(), S::kGrant);
}

TEST(SourceMachine, AReconnectMayFindTheTargetRunning) {
  SourceMachine machine = at(S::kGrant, {E::kPeerGone, E::kPeerUp, E::kGranted});
  EXPECT_EQ(machine.state(), S::kDone);
}

TEST(SourceMachine, AResumeThatLosesToTheTargetSettlesForIt) {
  SourceMachine machine = at(S::kGrant, {E::kTimeout});
  EXPECT_EQ(actions(machine, E::kAlreadyGranted), (std::vector{A::kStopLocal, A::kConnectPeer}));
  EXPECT_EQ(machine.state(), S::kSettle);
  EXPECT_EQ(actions(machine, E::kPeerGone), std::vector{A::kConnectPeer});
  EXPECT_EQ(actions(machine, E::kPeerUp), std::vector{A::kAttach});
  EXPECT_EQ(actions(machine, E::kTargetWaiting), std::vector{A::kTellCommitted});
  EXPECT_EQ(find_transition(SourceMachine::table(), S::kSettle, E::kTimeout), nullptr) << "it waits for ever";
  actions(machine, E::kGranted);
  EXPECT_EQ(machine.state(), S::kDone);
}

TEST(SourceMachine, ATargetThatRunsAfterAllEndsTheResume) {
  SourceMachine machine = at(S::kGrant, {E::kTimeout});
  EXPECT_TRUE(contains(actions(machine, E::kGranted), A::kStopLocal));
  EXPECT_EQ(machine.state(), S::kDone);
}

TEST(SourceMachine, AFailedResumeIsKeptAndCanBeRetried) {
  SourceMachine machine = at(S::kGrant, {E::kTargetFailed});
  EXPECT_EQ(actions(machine, E::kResumeFailed), std::vector{A::kStopLocal});
  EXPECT_EQ(machine.state(), S::kStranded);
  EXPECT_FALSE(machine.finished());
  EXPECT_EQ(actions(machine, E::kRetry), std::vector{A::kResumeLocal});
  actions(machine, E::kResumeGranted);
  EXPECT_EQ(machine.state(), S::kResumed);
}

TEST(SourceMachine, StrandedEndsWithTheAgentOrWithALateTarget) {
  EXPECT_EQ(at(S::kGrant, {E::kTargetFailed, E::kResumeFailed, E::kAgentReplaced}).state(), S::kLost);
  EXPECT_EQ(at(S::kGrant, {E::kTargetFailed, E::kResumeFailed, E::kGranted}).state(), S::kDone);
}

TEST(SourceMachine, SettleEndsAsLostIfTheGrantedTargetIsGone) {
  EXPECT_EQ(at(S::kGrant, {E::kTimeout, E::kAlreadyGranted, E::kTargetFailed}).state(), S::kLost);
}

SourceMachine recovering(std::initializer_list<E> then) {
  SourceMachine machine;
  EXPECT_EQ(actions(machine, E::kRestarted), std::vector{A::kAskAgent});
  for (const E event : then) EXPECT_TRUE(machine.on(event).listed);
  return machine;
}

TEST(SourceMachine, ARestartedDaemonFindsWhereTheTicketIs) {
  EXPECT_EQ(recovering({E::kTicketHeld}).state(), S::kRedial);
  EXPECT_EQ(recovering({E::kAlreadyGranted}).state(), S::kSettle);
  EXPECT_EQ(recovering({E::kAgentReplaced}).state(), S::kLost);
  EXPECT_EQ(recovering({E::kTimeout}).state(), S::kLost);
  EXPECT_EQ(recovering({E::kSourceAlive, E::kSourceCancelled}).state(), S::kFailed);
}

TEST(SourceMachine, ARestartedDaemonAsksADestroyedSourceForItsTicketAgain) {
  SourceMachine machine = recovering({});
  EXPECT_EQ(actions(machine, E::kAgentBack), std::vector{A::kAskAgent});
  EXPECT_EQ(actions(machine, E::kSourceDestroyed), std::vector{A::kAskTicket});
  EXPECT_EQ(actions(machine, E::kTicketMade), std::vector{A::kHandTicket});
  EXPECT_EQ(machine.state(), S::kTicketOrphan);
}

TEST(SourceMachine, FinalStatesAreFinal) {
  for (const SourceTransition& row : SourceMachine::table()) EXPECT_LT(row.from, S::kDone);
}

TEST(SourceMachine, EveryStateButIdleIsReached) {
  std::set<S> reached;
  for (const SourceTransition& row : SourceMachine::table()) reached.insert(row.to);
  EXPECT_EQ(static_cast<int>(reached.size()), kStates - 1);
}

TEST(SourceMachine, EveryStateHasAPhaseAndAName) {
  std::set<std::string> names;
  for (int s = 0; s < kStates; ++s) names.insert(name_of(static_cast<S>(s)));
  EXPECT_EQ(static_cast<int>(names.size()), kStates);
  EXPECT_EQ(phase_of(S::kOffer), SourcePhase::kPrepare);
  EXPECT_EQ(phase_of(S::kDump), SourcePhase::kStream);
  EXPECT_EQ(phase_of(S::kTicketOrphan), SourcePhase::kCommit);
  EXPECT_EQ(phase_of(S::kSettle), SourcePhase::kGrant);
  EXPECT_EQ(phase_of(S::kForsaken), SourcePhase::kGrant);
  EXPECT_EQ(phase_of(S::kLastResume), SourcePhase::kResume);
}

}  // namespace
}  // namespace sealift

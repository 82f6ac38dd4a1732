#include "migration/target.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

namespace sealift {
namespace {

using S = TargetState;
using E = TargetEvent;
using A = TargetAction;

constexpr int kStates = static_cast<int>(S::kCancelled) + 1;
constexpr int kEvents = static_cast<int>(E::kTimeout) + 1;

const std::vector<std::pair<E, S>>& path() {
  static const std::vector<std::pair<E, S>> kPath = {
      {E::kStart, S::kSpawn},          {E::kBuilt, S::kSession},    {E::kKeyed, S::kStream},
      {E::kRestored, S::kVerify},      {E::kNoticed, S::kReady},    {E::kCommitted, S::kGrant},
      {E::kGrantArrived, S::kInstall}, {E::kGateOpen, S::kGranted},
  };
  return kPath;
}

TargetMachine at(S state, std::initializer_list<E> then = {}) {
  TargetMachine machine;
  for (const auto& [event, next] : path()) {
    if (machine.state() == state) break;
    EXPECT_TRUE(machine.on(event).listed);
    EXPECT_EQ(machine.state(), next);
  }
  EXPECT_EQ(machine.state(), state);
  for (const E event : then) EXPECT_TRUE(machine.on(event).listed) << name_of(event);
  return machine;
}

std::vector<A> actions(TargetMachine& machine, E event) {
  const Step<A> step = machine.on(event);
  EXPECT_TRUE(step.listed) << name_of(event) << " in " << name_of(machine.state());
  return {step.actions.begin(), step.actions.end()};
}

const std::vector<S> kFragile = {S::kSpawn, S::kSession, S::kStream, S::kVerify};

TEST(TargetMachine, TheForwardPathDoesEachStepOnce) {
  TargetMachine machine;
  EXPECT_EQ(actions(machine, E::kStart), std::vector{A::kSpawn});
  EXPECT_EQ(actions(machine, E::kBuilt), std::vector{A::kOpenSession});
  EXPECT_EQ(actions(machine, E::kKeyed), std::vector{A::kTellPrepared});
  EXPECT_EQ(actions(machine, E::kRestored), std::vector{A::kTakeNotice});
  EXPECT_EQ(actions(machine, E::kNoticed), std::vector{A::kTellReady});
  EXPECT_EQ(actions(machine, E::kCommitted), std::vector{A::kRequestGrant});
  EXPECT_EQ(actions(machine, E::kGrantArrived), std::vector{A::kGiveGrant});
  EXPECT_EQ(actions(machine, E::kGateOpen), std::vector{A::kTellGranted});
  EXPECT_TRUE(machine.finished());
}

TEST(TargetMachine, UnlistedEventsChangeNothing) {
  for (const auto& [event, state] : path()) {
    for (int e = 0; e < kEvents; ++e) {
      TargetMachine machine = at(state);
      const bool listed = find_transition(TargetMachine::table(), state, static_cast<E>(e)) != nullptr;
      EXPECT_EQ(machine.on(static_cast<E>(e)).listed, listed);
      if (!listed) {
        EXPECT_EQ(machine.state(), state);
      }
    }
  }
}

TEST(TargetMachine, AnUnrestoredInstanceEndsAtAnyFailure) {
  for (const S state : kFragile) {
    for (const E failure :
         {E::kProcessGone, E::kProcessError, E::kAgentError, E::kAgentGone, E::kPeerGone, E::kTimeout}) {
      TargetMachine machine = at(state);
      EXPECT_EQ(actions(machine, failure), (std::vector{A::kStopProcess, A::kTellFailed}));
      EXPECT_EQ(machine.state(), S::kFailed);
    }
  }
}

TEST(TargetMachine, CancelEndsEveryStateBeforeTheGrantIsInstalled) {
  std::vector<S> states = kFragile;
  states.insert(states.end(), {S::kReady, S::kGrant});
  for (const S state : states) {
    TargetMachine machine = at(state);
    EXPECT_EQ(actions(machine, E::kCancelRequest), std::vector{A::kStopProcess});
    EXPECT_EQ(machine.state(), S::kCancelled);
  }
  EXPECT_EQ(at(S::kReady, {E::kPeerGone, E::kCancelRequest}).state(), S::kCancelled);
  EXPECT_EQ(at(S::kGrant, {E::kPeerGone, E::kCancelRequest}).state(), S::kCancelled);
  EXPECT_EQ(find_transition(TargetMachine::table(), S::kInstall, E::kCancelRequest), nullptr);
}

TEST(TargetMachine, AReadyInstanceWaitsForItsSourceToComeBack) {
  TargetMachine machine = at(S::kReady, {E::kPeerGone});
  EXPECT_EQ(machine.state(), S::kReadyOrphan);
  EXPECT_EQ(actions(machine, E::kPeerBack), std::vector{A::kTellWaiting});
  EXPECT_EQ(machine.state(), S::kReady);
}

TEST(TargetMachine, AReadyInstanceMayBeDroppedAsNothingIsBoundToIt) {
  EXPECT_EQ(at(S::kReady, {E::kTimeout}).state(), S::kFailed);
  EXPECT_EQ(at(S::kReady, {E::kAgentReplaced}).state(), S::kFailed);
  EXPECT_EQ(at(S::kReady, {E::kProcessGone}).state(), S::kFailed);
  EXPECT_EQ(at(S::kReady, {E::kPeerGone, E::kTimeout}).state(), S::kFailed);
  EXPECT_EQ(at(S::kReady, {E::kPeerGone, E::kAgentReplaced}).state(), S::kFailed);
  EXPECT_EQ(at(S::kReady, {E::kPeerGone, E::kProcessGone}).state(), S::kFailed);
}

// The agent may have bound the grant to this instance: stopping it would lose the lineage.
TEST(TargetMachine, OnceTheGrantIsRequestedOnlyDefiniteEndsStopTheProcess) {
  for (const TargetTransition& row : TargetMachine::table()) {
    if (row.from < S::kGrant) continue;
    for (const A action : row.todo()) {
      if (action == A::kStopProcess) {
        EXPECT_TRUE(row.event == E::kGrantRefused || row.event == E::kCancelRequest) << name_of(row.event);
      }
    }
    EXPECT_NE(row.event, E::kTimeout);
  }
}

TEST(TargetMachine, ALostSourceDoesNotEndAGrantThatIsUnderWay) {
  TargetMachine machine = at(S::kGrant, {E::kPeerGone});
  EXPECT_EQ(machine.state(), S::kGrantOrphan);
  EXPECT_EQ(actions(machine, E::kPeerBack), std::vector{A::kTellWaiting});
  EXPECT_EQ(actions(machine, E::kCommitted), std::vector{A::kRequestGrant});
  EXPECT_EQ(machine.state(), S::kGrant);
}

TEST(TargetMachine, AGrantThatArrivesWithoutTheSourceIsTaken) {
  TargetMachine machine = at(S::kGrant, {E::kPeerGone});
  EXPECT_EQ(actions(machine, E::kGrantArrived), std::vector{A::kGiveGrant});
  EXPECT_EQ(at(S::kGrant, {E::kPeerGone, E::kCommitted}).state(), S::kGrant);
}

TEST(TargetMachine, ARequestThatDidNotGetThroughIsRepeatedLater) {
  TargetMachine machine = at(S::kGrant, {E::kAgentError});
  EXPECT_EQ(machine.state(), S::kGrantOrphan);
  EXPECT_EQ(actions(machine, E::kCommitted), std::vector{A::kRequestGrant});
}

TEST(TargetMachine, ANewAgentIsAttestedToAgainDuringTheGrant) {
  for (TargetMachine machine : {at(S::kGrant), at(S::kGrant, {E::kPeerGone})}) {
    EXPECT_EQ(actions(machine, E::kAgentReplaced), std::vector{A::kReopenSession});
    EXPECT_EQ(machine.state(), S::kGrantOrphan);
  }
}

TEST(TargetMachine, ARefusedGrantEndsIt) {
  for (TargetMachine machine : {at(S::kGrant), at(S::kGrant, {E::kPeerGone})}) {
    EXPECT_EQ(actions(machine, E::kGrantRefused), (std::vector{A::kStopProcess, A::kTellFailed}));
    EXPECT_EQ(machine.state(), S::kFailed);
  }
}

TEST(TargetMachine, ItsOwnDeathIsTold) {
  for (TargetMachine machine : {at(S::kGrant), at(S::kGrant, {E::kPeerGone}), at(S::kInstall)}) {
    EXPECT_EQ(actions(machine, E::kProcessGone), std::vector{A::kTellFailed});
    EXPECT_EQ(machine.state(), S::kFailed);
  }
}

TEST(TargetMachine, AnEnclaveThatRefusesItsGrantHasFailed) {
  EXPECT_EQ(at(S::kInstall, {E::kProcessError}).state(), S::kFailed);
}

TEST(TargetMachine, ARestartedDaemonKeepsARestoredInstance) {
  TargetMachine machine;
  EXPECT_EQ(actions(machine, E::kReattached), std::vector{A::kReopenSession});
  EXPECT_EQ(machine.state(), S::kGrantOrphan);
  EXPECT_EQ(actions(machine, E::kPeerBack), std::vector{A::kTellWaiting});
}

TEST(TargetMachine, AGrantedInstanceSaysSoToALateSource) {
  TargetMachine machine = at(S::kGranted);
  EXPECT_EQ(actions(machine, E::kPeerBack), std::vector{A::kTellGranted});
  EXPECT_EQ(actions(machine, E::kCommitted), std::vector{A::kTellGranted});
  EXPECT_EQ(machine.state(), S::kGranted);
}

TEST(TargetMachine, FailedAndCancelledAreFinal) {
  for (const TargetTransition& row : TargetMachine::table()) EXPECT_LT(row.from, S::kFailed);
}

TEST(TargetMachine, EveryStateIsReachedAndNamed) {
  std::set<S> reached;
  std::set<std::string> names;
  for (const TargetTransition& row : TargetMachine::table()) reached.insert(row.to);
  for (int s = 0; s < kStates; ++s) names.insert(name_of(static_cast<S>(s)));
  EXPECT_EQ(static_cast<int>(reached.size()), kStates - 1);
  EXPECT_EQ(static_cast<int>(names.size()), kStates);
}

}  // namespace
}  // namespace sealift

#include "vm/move.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

namespace sealift::vm {
namespace {

using S = MoveState;
using E = MoveEvent;
using A = MoveAction;

constexpr int kStates = static_cast<int>(S::kLost) + 1;
constexpr int kEvents = static_cast<int>(E::kTimeout) + 1;

const std::vector<std::pair<E, S>>& path() {
  static const std::vector<std::pair<E, S>> kPath = {
      {E::kStart, S::kCheck},      {E::kFit, S::kTarget},         {E::kListening, S::kPrepare},
      {E::kPrepared, S::kPrecopy}, {E::kNearEnd, S::kCheckpoint}, {E::kCheckpointed, S::kConverge},
      {E::kPaused, S::kSwitch},    {E::kCompleted, S::kHandOver}, {E::kStarted, S::kActivate},
      {E::kActivated, S::kDone},
  };
  return kPath;
}

MoveMachine at(S state) {
  MoveMachine machine;
  for (const auto& [event, next] : path()) {
    if (machine.state() == state) break;
    EXPECT_TRUE(machine.on(event).listed);
    EXPECT_EQ(machine.state(), next);
  }
  EXPECT_EQ(machine.state(), state);
  return machine;
}

std::vector<A> actions(MoveMachine& machine, E event) {
  const Step<A> step = machine.on(event);
  EXPECT_TRUE(step.listed) << name_of(event) << " in " << name_of(machine.state());
  return {step.actions.begin(), step.actions.end()};
}

bool contains(const std::vector<A>& list, A action) {
  return std::find(list.begin(), list.end(), action) != list.end();
}

const std::vector<E> kFailures = {E::kRefused,  E::kGuestFailed, E::kTargetFailed,  E::kQemuFailed, E::kMonitorLost,
                                  E::kQemuGone, E::kPeerGone,    E::kCancelRequest, E::kTimeout};

TEST(MoveMachine, TheForwardPathDoesEachStepOnce) {
  MoveMachine machine;
  EXPECT_EQ(actions(machine, E::kStart), std::vector{A::kAskSource});
  EXPECT_EQ(actions(machine, E::kFit), std::vector{A::kConnectPeer});
  EXPECT_EQ(actions(machine, E::kPeerUp), std::vector{A::kOpenTarget});
  EXPECT_EQ(actions(machine, E::kListening), std::vector{A::kPrepare});
  EXPECT_EQ(actions(machine, E::kPrepared), std::vector{A::kMigrate});
  EXPECT_EQ(actions(machine, E::kNearEnd), std::vector{A::kCheckpoint});
  EXPECT_EQ(actions(machine, E::kCheckpointed), std::vector{A::kSpeedUp});
  EXPECT_EQ(actions(machine, E::kPaused), std::vector{A::kContinue});
  EXPECT_EQ(actions(machine, E::kCompleted), std::vector{A::kHandOver});
  EXPECT_EQ(actions(machine, E::kStarted), std::vector<A>{});
  EXPECT_EQ(actions(machine, E::kActivated), (std::vector{A::kGone, A::kEndSource}));
  EXPECT_EQ(machine.state(), S::kDone);
}

TEST(MoveMachine, BeforeAnythingIsBegunAFailureEndsIt) {
  for (const S state : {S::kCheck, S::kTarget}) {
    for (const E failure : kFailures) {
      MoveMachine machine = at(state);
      EXPECT_EQ(actions(machine, failure), std::vector{A::kCloseTarget});
      EXPECT_EQ(machine.state(), S::kBack);
    }
  }
}

TEST(MoveMachine, WhatTheGuestHasBegunIsEndedWithoutQemu) {
  for (const E failure : kFailures) {
    MoveMachine machine = at(S::kPrepare);
    EXPECT_EQ(actions(machine, failure), (std::vector{A::kCloseTarget, A::kStay}));
    EXPECT_EQ(machine.state(), S::kStay);
  }
}

TEST(MoveMachine, UntilTheHandOverEveryFailureLeadsBack) {
  for (const S state : {S::kPrecopy, S::kCheckpoint, S::kConverge, S::kSwitch}) {
    for (const E failure : kFailures) {
      MoveMachine machine = at(state);
      EXPECT_EQ(actions(machine, failure), (std::vector{A::kCloseTarget, A::kUndo})) << name_of(failure);
      EXPECT_EQ(machine.state(), S::kUndo);
      EXPECT_EQ(actions(machine, E::kUndone), std::vector{A::kStay});
      EXPECT_EQ(actions(machine, E::kStayed), std::vector<A>{});
      EXPECT_EQ(machine.state(), S::kBack);
    }
  }
}

TEST(MoveMachine, AGuestThatIsPausedTooEarlyGoesOnHere) {
  for (const S state : {S::kPrecopy, S::kCheckpoint}) {
    MoveMachine machine = at(state);
    EXPECT_EQ(actions(machine, E::kPaused), (std::vector{A::kCloseTarget, A::kUndo}));
  }
}

// The rule that keeps the VM from running twice: after the order to start, nothing but the target's own word leads to
// an undo.
TEST(MoveMachine, AfterTheOrderOnlyTheTargetsWordLeadsBack) {
  for (const S state : {S::kHandOver, S::kOrphan, S::kActivate}) {
    for (int e = 0; e < kEvents; ++e) {
      MoveMachine machine = at(S::kHandOver);
      if (state == S::kOrphan) (void)machine.on(E::kPeerGone);
      if (state == S::kActivate) (void)machine.on(E::kStarted);
      ASSERT_EQ(machine.state(), state);
      const auto event = static_cast<E>(e);
      const Step<A> step = machine.on(event);
      const bool undoes = contains({step.actions.begin(), step.actions.end()}, A::kUndo);
      EXPECT_EQ(undoes, event == E::kTargetFailed && state != S::kActivate)
          << name_of(event) << " in " << name_of(state);
      EXPECT_FALSE(contains({step.actions.begin(), step.actions.end()}, A::kCloseTarget));
    }
  }
}

TEST(MoveMachine, ATargetOutOfReachIsAskedUntilItAnswers) {
  MoveMachine machine = at(S::kHandOver);
  EXPECT_EQ(actions(machine, E::kPeerGone), std::vector{A::kConnectPeer});
  EXPECT_EQ(actions(machine, E::kPeerGone), std::vector{A::kConnectPeer});
  EXPECT_EQ(actions(machine, E::kPeerUp), std::vector{A::kAttach});
  EXPECT_FALSE(machine.on(E::kTimeout).listed);
  EXPECT_FALSE(machine.on(E::kCancelRequest).listed);
  EXPECT_EQ(actions(machine, E::kWaiting), std::vector{A::kHandOver});
  EXPECT_EQ(machine.state(), S::kHandOver);
  EXPECT_EQ(actions(machine, E::kPeerGone), std::vector{A::kConnectPeer});
  EXPECT_TRUE(machine.on(E::kStarted).listed);
  EXPECT_EQ(machine.state(), S::kActivate);
}

TEST(MoveMachine, ItsQemusEndIsTheEndOfTheVm) {
  MoveMachine machine = at(S::kSwitch);
  (void)machine.on(E::kMonitorLost);
  EXPECT_EQ(actions(machine, E::kQemuGone), std::vector{A::kGone});
  EXPECT_EQ(machine.state(), S::kLost);
}

TEST(MoveMachine, ARestartedDaemonGoesBackOrAsks) {
  MoveMachine begun;
  EXPECT_EQ(actions(begun, E::kFoundBegun), std::vector{A::kUndo});
  MoveMachine handed_over;
  EXPECT_EQ(actions(handed_over, E::kFoundHandedOver), std::vector{A::kConnectPeer});
  EXPECT_EQ(actions(handed_over, E::kPeerUp), std::vector{A::kAttach});
  EXPECT_EQ(actions(handed_over, E::kTargetFailed), std::vector{A::kUndo});
}

TEST(MoveMachine, FinalStatesAnswerNothing) {
  for (int s = static_cast<int>(S::kDone); s < kStates; ++s) {
    for (const MoveTransition& row : MoveMachine::table()) EXPECT_NE(row.from, static_cast<S>(s));
  }
}

TEST(MoveMachine, EveryStateIsReachedAndEveryStateHasAName) {
  std::set<S> reached = {S::kIdle};
  for (const MoveTransition& row : MoveMachine::table()) reached.insert(row.to);
  EXPECT_EQ(reached.size(), static_cast<std::size_t>(kStates));
  std::set<std::string> names;
  for (int s = 0; s < kStates; ++s) names.insert(name_of(static_cast<S>(s)));
  EXPECT_EQ(names.size(), static_cast<std::size_t>(kStates));
  for (int e = 0; e < kEvents; ++e) EXPECT_STRNE(name_of(static_cast<E>(e)), "");
}

}  // namespace
}  // namespace sealift::vm

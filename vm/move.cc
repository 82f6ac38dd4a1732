#include "vm/move.h"

namespace sealift::vm {

namespace {

using S = MoveState;
using E = MoveEvent;
using A = MoveAction;

constexpr std::array kExplicit = {
    MoveTransition{S::kIdle, E::kStart, S::kCheck, {A::kAskSource}},
    MoveTransition{S::kIdle, E::kFoundBegun, S::kUndo, {A::kUndo}},
    MoveTransition{S::kIdle, E::kFoundHandedOver, S::kOrphan, {A::kConnectPeer}},

    MoveTransition{S::kCheck, E::kFit, S::kTarget, {A::kConnectPeer}},
    MoveTransition{S::kTarget, E::kPeerUp, S::kTarget, {A::kOpenTarget}},
    MoveTransition{S::kTarget, E::kListening, S::kPrepare, {A::kPrepare}},
    MoveTransition{S::kPrepare, E::kPrepared, S::kPrecopy, {A::kMigrate}},
    MoveTransition{S::kPrecopy, E::kNearEnd, S::kCheckpoint, {A::kCheckpoint}},
    MoveTransition{S::kCheckpoint, E::kCheckpointed, S::kConverge, {A::kSpeedUp}},
    MoveTransition{S::kConverge, E::kPaused, S::kSwitch, {A::kContinue}},
    MoveTransition{S::kSwitch, E::kCompleted, S::kHandOver, {A::kHandOver}},
    MoveTransition{S::kHandOver, E::kStarted, S::kActivate, {}},
    MoveTransition{S::kActivate, E::kActivated, S::kDone, {A::kGone, A::kEndSource}},

    // Converged while enclaves still had something to write: a paused guest could not do it.
    MoveTransition{S::kPrecopy, E::kPaused, S::kUndo, {A::kCloseTarget, A::kUndo}},
    MoveTransition{S::kCheckpoint, E::kPaused, S::kUndo, {A::kCloseTarget, A::kUndo}},

    // The order has left: the target alone knows. It is asked for as long as it takes.
    MoveTransition{S::kHandOver, E::kTargetFailed, S::kUndo, {A::kUndo}},
    MoveTransition{S::kHandOver, E::kPeerGone, S::kOrphan, {A::kConnectPeer}},
    MoveTransition{S::kHandOver, E::kTimeout, S::kOrphan, {A::kConnectPeer}},
    MoveTransition{S::kOrphan, E::kPeerUp, S::kOrphan, {A::kAttach}},
    MoveTransition{S::kOrphan, E::kPeerGone, S::kOrphan, {A::kConnectPeer}},
    MoveTransition{S::kOrphan, E::kWaiting, S::kHandOver, {A::kHandOver}},
    MoveTransition{S::kOrphan, E::kStarted, S::kActivate, {}},
    MoveTransition{S::kOrphan, E::kTargetFailed, S::kUndo, {A::kUndo}},

    // The VM runs there, come what may.
    MoveTransition{S::kActivate, E::kPeerGone, S::kActivate, {A::kConnectPeer}},
    MoveTransition{S::kActivate, E::kPeerUp, S::kActivate, {A::kAttach}},
    MoveTransition{S::kActivate, E::kTimeout, S::kDone, {A::kGone, A::kEndSource}},
    MoveTransition{S::kActivate, E::kTargetFailed, S::kLost, {A::kGone}},

    MoveTransition{S::kUndo, E::kUndone, S::kStay, {A::kStay}},
    MoveTransition{S::kUndo, E::kQemuGone, S::kLost, {A::kGone}},
    MoveTransition{S::kUndo, E::kTimeout, S::kBack, {A::kStay}},
    MoveTransition{S::kStay, E::kStayed, S::kBack, {}},
    MoveTransition{S::kStay, E::kGuestFailed, S::kBack, {}},
    MoveTransition{S::kStay, E::kTimeout, S::kBack, {}},
};

// What may go wrong while the VM can simply stay, by how much there is to undo.
constexpr std::array kFailures = {E::kRefused,  E::kGuestFailed, E::kTargetFailed,  E::kQemuFailed, E::kMonitorLost,
                                  E::kQemuGone, E::kPeerGone,    E::kCancelRequest, E::kTimeout};
constexpr std::array kUntouched = {S::kCheck, S::kTarget};
constexpr std::array kGuestTouched = {S::kPrepare};
constexpr std::array kQemuTouched = {S::kPrecopy, S::kCheckpoint, S::kConverge, S::kSwitch};

constexpr auto build_table() {
  constexpr std::size_t kStates = kUntouched.size() + kGuestTouched.size() + kQemuTouched.size();
  std::array<MoveTransition, kExplicit.size() + kFailures.size() * kStates> table{};
  std::size_t n = 0;
  for (const MoveTransition& row : kExplicit) table[n++] = row;
  for (const E failure : kFailures) {
    for (const S state : kUntouched) table[n++] = {state, failure, S::kBack, {A::kCloseTarget}};
    for (const S state : kGuestTouched) table[n++] = {state, failure, S::kStay, {A::kCloseTarget, A::kStay}};
    for (const S state : kQemuTouched) table[n++] = {state, failure, S::kUndo, {A::kCloseTarget, A::kUndo}};
  }
  return table;
}

constexpr auto kTable = build_table();
static_assert(is_deterministic(kTable));

}  // namespace

std::span<const MoveTransition> MoveMachine::table() noexcept {
  return kTable;
}

Step<MoveAction> MoveMachine::on(MoveEvent event) noexcept {
  const MoveTransition* row = find_transition(table(), state_, event);
  if (row == nullptr) return {};
  state_ = row->to;
  return {true, row->todo()};
}

MovePhase phase_of(MoveState state) noexcept {
  switch (state) {
    case S::kIdle:
    case S::kCheck:
    case S::kTarget:
      return MovePhase::kCheck;
    case S::kPrepare:
      return MovePhase::kPrepare;
    case S::kPrecopy:
      return MovePhase::kPrecopy;
    case S::kCheckpoint:
      return MovePhase::kCheckpoint;
    case S::kConverge:
    case S::kSwitch:
    case S::kHandOver:
    case S::kOrphan:
      return MovePhase::kSwitchover;
    case S::kActivate:
      return MovePhase::kActivate;
    case S::kUndo:
    case S::kStay:
      return MovePhase::kUndo;
    case S::kDone:
      return MovePhase::kDone;
    case S::kBack:
      return MovePhase::kBack;
    case S::kLost:
      return MovePhase::kLost;
  }
  return MovePhase::kLost;
}

const char* name_of(MoveState state) noexcept {
  static constexpr std::array kNames = {"idle",       "check",    "target", "prepare",   "precopy",
                                        "checkpoint", "converge", "switch", "hand over", "hand over (target gone)",
                                        "activate",   "undo",     "stay",   "done",      "back",
                                        "lost"};
  static_assert(kNames.size() == static_cast<std::size_t>(S::kLost) + 1);
  return kNames.at(static_cast<std::size_t>(state));
}

const char* name_of(MoveEvent event) noexcept {
  static constexpr std::array kNames = {
      "start",     "found begun",  "found handed over", "fit",           "peer up",     "peer gone",    "listening",
      "prepared",  "near the end", "checkpointed",      "paused",        "completed",   "started",      "waiting",
      "activated", "refused",      "guest failed",      "target failed", "QEMU failed", "monitor lost", "QEMU gone",
      "undone",    "stayed",       "cancel request",    "timeout"};
  static_assert(kNames.size() == static_cast<std::size_t>(E::kTimeout) + 1);
  return kNames.at(static_cast<std::size_t>(event));
}

}  // namespace sealift::vm

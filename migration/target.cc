#include "migration/target.h"

namespace sealift {

namespace {

using S = TargetState;
using E = TargetEvent;
using A = TargetAction;

// Not restored yet: without its source this instance is worth nothing.
constexpr std::array kFragile = {S::kSpawn, S::kSession, S::kStream, S::kVerify};
constexpr std::array kFailures = {E::kProcessGone, E::kProcessError, E::kAgentError,
                                  E::kAgentGone,   E::kPeerGone,     E::kTimeout};

constexpr std::array kExplicit = {
    TargetTransition{S::kIdle, E::kStart, S::kSpawn, {A::kSpawn}},
    // Whether it had asked for the grant is not known: it gets the benefit of the doubt.
    TargetTransition{S::kIdle, E::kReattached, S::kGrantOrphan, {A::kReopenSession}},

    TargetTransition{S::kSpawn, E::kBuilt, S::kSession, {A::kOpenSession}},
    TargetTransition{S::kSession, E::kKeyed, S::kStream, {A::kTellPrepared}},
    TargetTransition{S::kStream, E::kRestored, S::kVerify, {A::kTakeNotice}},
    TargetTransition{S::kVerify, E::kNoticed, S::kReady, {A::kTellReady}},

    TargetTransition{S::kReady, E::kCommitted, S::kGrant, {A::kRequestGrant}},
    TargetTransition{S::kReady, E::kPeerGone, S::kReadyOrphan, {}},
    TargetTransition{S::kReady, E::kPeerBack, S::kReady, {A::kTellWaiting}},
    TargetTransition{S::kReady, E::kProcessGone, S::kFailed, {A::kTellFailed}},
    TargetTransition{S::kReady, E::kAgentReplaced, S::kFailed, {A::kStopProcess, A::kTellFailed}},
    TargetTransition{S::kReady, E::kTimeout, S::kFailed, {A::kStopProcess, A::kTellFailed}},
    TargetTransition{S::kReady, E::kCancelRequest, S::kCancelled, {A::kStopProcess}},
    TargetTransition{S::kReadyOrphan, E::kPeerBack, S::kReady, {A::kTellWaiting}},
    TargetTransition{S::kReadyOrphan, E::kProcessGone, S::kFailed, {}},
    TargetTransition{S::kReadyOrphan, E::kAgentReplaced, S::kFailed, {A::kStopProcess}},
    TargetTransition{S::kReadyOrphan, E::kTimeout, S::kFailed, {A::kStopProcess}},
    TargetTransition{S::kReadyOrphan, E::kCancelRequest, S::kCancelled, {A::kStopProcess}},

    TargetTransition{S::kGrant, E::kGrantArrived, S::kInstall, {A::kGiveGrant}},
    TargetTransition{S::kGrant, E::kGrantRefused, S::kFailed, {A::kStopProcess, A::kTellFailed}},
    TargetTransition{S::kGrant, E::kCommitted, S::kGrant, {A::kRequestGrant}},
    TargetTransition{S::kGrant, E::kPeerGone, S::kGrantOrphan, {}},
    TargetTransition{S::kGrant, E::kPeerBack, S::kGrant, {A::kTellWaiting}},
    // The request did not get through, which does not mean that an earlier one did not.
    TargetTransition{S::kGrant, E::kAgentError, S::kGrantOrphan, {}},
    TargetTransition{S::kGrant, E::kAgentReplaced, S::kGrantOrphan, {A::kReopenSession}},
    TargetTransition{S::kGrant, E::kProcessGone, S::kFailed, {A::kTellFailed}},
    TargetTransition{S::kGrant, E::kCancelRequest, S::kCancelled, {A::kStopProcess}},
    TargetTransition{S::kGrantOrphan, E::kPeerBack, S::kGrant, {A::kTellWaiting}},
    TargetTransition{S::kGrantOrphan, E::kCommitted, S::kGrant, {A::kRequestGrant}},
    TargetTransition{S::kGrantOrphan, E::kGrantArrived, S::kInstall, {A::kGiveGrant}},
    TargetTransition{S::kGrantOrphan, E::kGrantRefused, S::kFailed, {A::kStopProcess, A::kTellFailed}},
    TargetTransition{S::kGrantOrphan, E::kAgentReplaced, S::kGrantOrphan, {A::kReopenSession}},
    TargetTransition{S::kGrantOrphan, E::kProcessGone, S::kFailed, {A::kTellFailed}},
    TargetTransition{S::kGrantOrphan, E::kCancelRequest, S::kCancelled, {A::kStopProcess}},

    TargetTransition{S::kInstall, E::kGateOpen, S::kGranted, {A::kTellGranted}},
    TargetTransition{S::kInstall, E::kProcessError, S::kFailed, {A::kTellFailed}},
    TargetTransition{S::kInstall, E::kProcessGone, S::kFailed, {A::kTellFailed}},

    TargetTransition{S::kGranted, E::kPeerBack, S::kGranted, {A::kTellGranted}},
    TargetTransition{S::kGranted, E::kCommitted, S::kGranted, {A::kTellGranted}},
};

constexpr auto build_table() {
  std::array<TargetTransition, kExplicit.size() + kFragile.size() * (kFailures.size() + 1)> table{};
  std::size_t n = 0;
  for (const TargetTransition& row : kExplicit) table[n++] = row;
  for (const S state : kFragile) {
    for (const E failure : kFailures) table[n++] = {state, failure, S::kFailed, {A::kStopProcess, A::kTellFailed}};
    table[n++] = {state, E::kCancelRequest, S::kCancelled, {A::kStopProcess}};
  }
  return table;
}

constexpr auto kTable = build_table();
static_assert(is_deterministic(kTable));

}  // namespace

std::span<const TargetTransition> TargetMachine::table() noexcept {
  return kTable;
}

Step<TargetAction> TargetMachine::on(TargetEvent event) noexcept {
  const TargetTransition* row = find_transition(table(), state_, event);
  if (row == nullptr) return {};
  state_ = row->to;
  return {true, row->todo()};
}

const char* name_of(TargetState state) noexcept {
  static constexpr std::array kNames = {"idle",
                                        "spawn",
                                        "session",
                                        "stream",
                                        "verify",
                                        "ready",
                                        "ready (source gone)",
                                        "grant",
                                        "grant (source gone)",
                                        "install",
                                        "granted",
                                        "failed",
                                        "cancelled"};
  static_assert(kNames.size() == static_cast<std::size_t>(S::kCancelled) + 1);
  return kNames.at(static_cast<std::size_t>(state));
}

const char* name_of(TargetEvent event) noexcept {
  static constexpr std::array kNames = {
      "start",          "reattached",    "built",     "keyed",          "restored",      "noticed",     "committed",
      "grant arrived",  "grant refused", "gate open", "process gone",   "process error", "agent error", "agent gone",
      "agent replaced", "peer gone",     "peer back", "cancel request", "timeout"};
  static_assert(kNames.size() == static_cast<std::size_t>(E::kTimeout) + 1);
  return kNames.at(static_cast<std::size_t>(event));
}

}  // namespace sealift

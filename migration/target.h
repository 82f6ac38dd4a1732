// TargetMachine: one migration attempt as the target's daemon sees it, also used by the source's daemon for the
// instance that it restores when the target fails after commit. Untrusted orchestration. Its rules for S7:
//
//  1. Until the grant is requested, an instance may be dropped at any failure: it is bound to nothing.
//  2. From the first request on it may be the one that can run. Only a definite refusal, its own death or somebody's
//     order ends it; a lost peer or a restarted daemon does not.
//
// Pure: no I/O, no clock. Threads: none of its own; the caller serialises.
#pragma once

#include <cstdint>
#include <span>

#include "migration/machine.h"

namespace sealift {

enum class TargetState : std::uint8_t {
  kIdle,
  kSpawn,    // the process starts and builds the enclave at the source's addresses
  kSession,  // enclave and agent attest to each other; the key arrives
  kStream,   // records go in
  kVerify,   // everything is in; the notice goes to the agent
  kReady,    // waits for the source's commit
  kReadyOrphan,
  kGrant,  // the grant has been asked for
  kGrantOrphan,
  kInstall,  // the grant is with the enclave
  // Final
  kGranted,
  kFailed,
  kCancelled,
};

enum class TargetEvent : std::uint8_t {
  kStart,
  kReattached,  // a restarted daemon finds a restored instance that waits
  kBuilt,
  kKeyed,
  kRestored,
  kNoticed,
  kCommitted,
  kGrantArrived,
  kGrantRefused,
  kGateOpen,
  kProcessGone,
  kProcessError,
  kAgentError,
  kAgentGone,
  kAgentReplaced,
  kPeerGone,
  kPeerBack,
  kCancelRequest,
  kTimeout,
};

enum class TargetAction : std::uint8_t {
  kNone,
  kSpawn,
  kOpenSession,
  kReopenSession,  // the same enclave with its agent, after a restart of this daemon or of the agent
  kTakeNotice,
  kRequestGrant,
  kGiveGrant,
  kStopProcess,
  kTellPrepared,
  kTellReady,
  kTellWaiting,
  kTellGranted,
  kTellFailed,
};

using TargetTransition = Transition<TargetState, TargetEvent, TargetAction>;

class TargetMachine {
 public:
  [[nodiscard]] TargetState state() const noexcept { return state_; }
  [[nodiscard]] bool finished() const noexcept { return state_ >= TargetState::kGranted; }
  Step<TargetAction> on(TargetEvent event) noexcept;

  [[nodiscard]] static std::span<const TargetTransition> table() noexcept;

 private:
  TargetState state_ = TargetState::kIdle;
};

[[nodiscard]] const char* name_of(TargetState state) noexcept;
[[nodiscard]] const char* name_of(TargetEvent event) noexcept;

}  // namespace sealift

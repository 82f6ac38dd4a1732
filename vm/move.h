// MoveMachine: the steps of moving one VM, as the source's daemon takes them (docs/vm.md has the picture).
//
// Rules that the table keeps:
//  - The VM runs on one side at any time. QEMU on the target never starts the VM by itself; it is told to, once, in
//  kHandOver,
//    when the source's QEMU has paused the VM and has finished. Until that order leaves, the VM can always go on here.
//    From then on only the target's own word that it will never run the VM (kTargetFailed) leads back.
//  - Enclaves checkpoint while the guest runs (kCheckpoint), never when it is paused: a source that converged before
//    (kPaused in kPrecopy or kCheckpoint) gives up.
//  - Whatever was begun with the guest's enclaves is ended with kStay or kGone.
//
// Pure: no I/O, no clock. Threads: none of its own; the caller serialises.
#pragma once

#include <cstdint>
#include <span>

#include "migration/machine.h"

namespace sealift::vm {

enum class MoveState : std::uint8_t {
  kIdle,
  kCheck,       // this QEMU and its guest are asked what they are
  kTarget,      // the other daemon, its agent and its QEMU: fit, and listening
  kPrepare,     // enclaves and agents attest to each other; keys are offered
  kPrecopy,     // QEMU copies RAM, everything runs
  kCheckpoint,  // enclaves stop, lay down their records, commit; QEMU is slowed down if it would be done first
  kConverge,    // QEMU copies the rest at full speed, the guest runs without its enclaves
  kSwitch,      // the guest is paused; QEMU sends the last pages and the devices
  kHandOver,    // QEMU has finished; the target has been ordered to start the VM
  kOrphan,      // the same, target out of reach: it may or may not have started
  kActivate,    // the VM runs on the target; its enclaves are rebuilt
  // Giving up
  kUndo,  // QEMU's migration is cancelled, until the VM runs here
  kStay,  // the enclaves run again: gates reopen, or they are rebuilt here
  // Final
  kDone,
  kBack,  // the VM runs here
  kLost,  // its QEMU is gone
};

enum class MoveEvent : std::uint8_t {
  kStart,
  kFoundBegun,       // after this daemon's restart: a move that had not handed over
  kFoundHandedOver,  // and one that had
  kFit,              // this QEMU and its guest can move
  kPeerUp,
  kPeerGone,
  kListening,  // the target's QEMU fits and waits
  kPrepared,
  kNearEnd,       // what remains to be copied takes no longer than the checkpoint will
  kCheckpointed,  // every enclave has committed
  kPaused,        // QEMU is in pre-switchover
  kCompleted,     // QEMU has sent everything, and heard that it was loaded
  kStarted,       // the target runs the VM
  kWaiting,       // after a reconnect: the target has loaded the VM and has not started it
  kActivated,     // its enclaves run there (or are reported)
  kRefused,       // a check said no
  kGuestFailed,   // broker or enclaves
  kTargetFailed,  // definitely: the target's QEMU will never run this VM
  kQemuFailed,    // this QEMU's migration failed
  kMonitorLost,   // the connection to this QEMU
  kQemuGone,      // this QEMU has ended
  kUndone,        // the VM runs here again
  kStayed,        // its enclaves do
  kCancelRequest,
  kTimeout,
};

enum class MoveAction : std::uint8_t {
  kNone,
  kAskSource,
  kConnectPeer,
  kOpenTarget,
  kPrepare,
  kMigrate,
  kCheckpoint,
  kSpeedUp,
  kContinue,
  kHandOver,
  kAttach,
  kCloseTarget,  // its QEMU ends, unless it runs the VM
  kUndo,
  kStay,
  kGone,
  kEndSource,  // this QEMU ends
};

// What people see.
enum class MovePhase : std::uint8_t {
  kCheck,
  kPrepare,
  kPrecopy,
  kCheckpoint,
  kSwitchover,
  kActivate,
  kUndo,
  kDone,
  kBack,
  kLost,
};

using MoveTransition = Transition<MoveState, MoveEvent, MoveAction>;

class MoveMachine {
 public:
  [[nodiscard]] MoveState state() const noexcept { return state_; }
  [[nodiscard]] bool finished() const noexcept { return state_ >= MoveState::kDone; }
  Step<MoveAction> on(MoveEvent event) noexcept;

  [[nodiscard]] static std::span<const MoveTransition> table() noexcept;

 private:
  MoveState state_ = MoveState::kIdle;
};

[[nodiscard]] MovePhase phase_of(MoveState state) noexcept;
[[nodiscard]] const char* name_of(MoveState state) noexcept;
[[nodiscard]] const char* name_of(MoveEvent event) noexcept;

}  // namespace sealift::vm

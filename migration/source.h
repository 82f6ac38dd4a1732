// SourceMachine: one migration attempt as the source's daemon sees it (design §7). Untrusted orchestration: the worst a
// wrong order here can reach is that an enclave refuses. Its rules keep S7, that nothing is lost by accident:
//
//  1. Before kCommit every failure leads to the source running again (kAborting, kCancelling).
//  2. From kCommit on nothing cancels. The stream is kept until somebody has been granted.
//  3. A peer that is lost after commit is redialled first; then an instance is restored on the source's machine. Which
//     of the two runs is decided by the agent, never here: the other one hears kAlreadyGranted.
//
// Pure: no I/O, no clock. Threads: none of its own; the caller serialises.
#pragma once

#include <cstdint>
#include <span>

#include "migration/machine.h"

namespace sealift {

enum class SourceState : std::uint8_t {
  kIdle,
  // Prepare
  kConnect,  // the other daemon, and the agents' link
  kSession,  // source enclave and agent attest to each other; the agent takes the key
  kOffer,    // the agent judges the other agent and sends the key
  kTarget,   // the target's process starts, attests, gets the key
  // Stream
  kQuiesce,
  kDump,
  // Ready
  kVerify,  // every record is on its way; waiting for the target's Ready at our agent
  // Commit
  kCommit,        // kCommit is with the enclave: from here on it may have destroyed itself
  kCommitOrphan,  // the same, and the target is out of reach
  kTicket,        // the agent is being given the ticket
  kTicketOrphan,
  // Grant
  kGrant,   // the agent holds the ticket; the target asks for it
  kRedial,  // the same, target out of reach
  kSettle,  // the agent has granted the target, which is out of reach: only it can run
  // After a failure behind commit
  kResume,    // an instance is being restored on this machine
  kStranded,  // that failed; the stream is kept and the resume can be tried again
  // The agent that held the ticket is gone: nobody else will be granted
  kLastResume,  // the instance on this machine may have its grant already
  kForsaken,    // and so may the target, which is asked
  kRecover,     // this daemon restarted, or lost the source's process, during commit
  // Giving up before commit
  kCancelling,  // because somebody asked
  kAborting,    // because something failed
  // Final
  kDone,
  kCancelled,
  kFailed,   // the source runs (unless its own process died)
  kResumed,  // an instance runs on the source's machine
  kLost,     // the agent that held the ticket, or the source with its ticket, is gone
};

enum class SourceEvent : std::uint8_t {
  kStart,
  kRestarted,  // a journal was found at the daemon's start
  kPeerUp,
  kPeerGone,
  kPrepared,  // our agent has accepted Prepare
  kOffered,   // the other agent holds the key
  kTargetPrepared,
  kTargetWaiting,  // after a reconnect: restored, not granted
  kTargetFailed,   // definitely: this target instance will never run
  kQuiesced,
  kStreamed,  // the final record was sealed
  kReadyArrived,
  kTicketMade,
  kTicketHeld,
  kGranted,         // the target runs
  kAlreadyGranted,  // the agent says: the grant is bound to the target
  kResumeGranted,
  kResumeFailed,
  kRetry,
  kSourceError,  // the enclave refused, or crashed
  kSourceGone,   // the connection to its process is lost
  kSourceDestroyed,
  kSourceAlive,  // its process is back with the gate open
  kSourceCancelled,
  kAgentError,
  kAgentGone,
  kAgentBack,      // the same instance
  kAgentReplaced,  // another instance: it knows nothing
  kCancelRequest,
  kTimeout,
};

enum class SourceAction : std::uint8_t {
  kNone,
  kConnectPeer,
  kOpenSession,
  kOffer,
  kStartTarget,
  kQuiesce,
  kDump,
  kCommit,  // journal first, then the enclave
  kAskTicket,
  kHandTicket,
  kTellCommitted,
  kAttach,
  kAskAgent,  // what became of the attempt
  kResumeLocal,
  kStopLocal,
  kCancelSource,
  kCancelAgent,
  kCancelTarget,
  kRelease,  // the source's process: its instance is over
  kDropStream,
};

// What people see.
enum class SourcePhase : std::uint8_t {
  kPrepare,
  kStream,
  kReady,
  kCommit,
  kGrant,
  kResume,
  kStranded,
  kCancelling,
  kDone,
  kCancelled,
  kFailed,
  kResumed,
  kLost,
};

using SourceTransition = Transition<SourceState, SourceEvent, SourceAction>;

class SourceMachine {
 public:
  [[nodiscard]] SourceState state() const noexcept { return state_; }
  [[nodiscard]] bool finished() const noexcept { return state_ >= SourceState::kDone; }
  Step<SourceAction> on(SourceEvent event) noexcept;

  [[nodiscard]] static std::span<const SourceTransition> table() noexcept;

 private:
  SourceState state_ = SourceState::kIdle;
};

[[nodiscard]] SourcePhase phase_of(SourceState state) noexcept;
[[nodiscard]] const char* name_of(SourceState state) noexcept;
[[nodiscard]] const char* name_of(SourceEvent event) noexcept;

}  // namespace sealift

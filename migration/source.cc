#include "migration/source.h"

namespace sealift {

namespace {

using S = SourceState;
using E = SourceEvent;
using A = SourceAction;

// Between the source's first message to its agent and kCommit: everything can be undone.
constexpr std::array kUndoable = {S::kSession, S::kOffer, S::kTarget, S::kQuiesce, S::kDump, S::kVerify};
constexpr std::array kFailures = {E::kSourceError, E::kPeerGone,  E::kTargetFailed,
                                  E::kAgentError,  E::kAgentGone, E::kTimeout};

constexpr std::array kExplicit = {
    SourceTransition{S::kIdle, E::kStart, S::kConnect, {A::kConnectPeer}},
    SourceTransition{S::kIdle, E::kRestarted, S::kRecover, {A::kAskAgent}},

    SourceTransition{S::kConnect, E::kPeerUp, S::kSession, {A::kOpenSession}},
    SourceTransition{S::kConnect, E::kPeerGone, S::kFailed, {}},
    SourceTransition{S::kConnect, E::kAgentError, S::kFailed, {}},
    SourceTransition{S::kConnect, E::kAgentGone, S::kFailed, {}},
    SourceTransition{S::kConnect, E::kSourceGone, S::kFailed, {}},
    SourceTransition{S::kConnect, E::kTimeout, S::kFailed, {}},
    SourceTransition{S::kConnect, E::kCancelRequest, S::kCancelled, {}},

    SourceTransition{S::kSession, E::kPrepared, S::kOffer, {A::kOffer}},
    SourceTransition{S::kOffer, E::kOffered, S::kTarget, {A::kStartTarget}},
    SourceTransition{S::kTarget, E::kTargetPrepared, S::kQuiesce, {A::kQuiesce}},
    SourceTransition{S::kQuiesce, E::kQuiesced, S::kDump, {A::kDump}},
    SourceTransition{S::kDump, E::kStreamed, S::kVerify, {}},
    SourceTransition{S::kVerify, E::kReadyArrived, S::kCommit, {A::kCommit}},

    // The enclave may already be destroyed: no way back but its own word that it refused.
    SourceTransition{S::kCommit, E::kTicketMade, S::kTicket, {A::kHandTicket}},
    SourceTransition{S::kCommit, E::kSourceError, S::kAborting, {A::kCancelSource, A::kCancelAgent, A::kCancelTarget}},
    SourceTransition{S::kCommit, E::kSourceGone, S::kRecover, {A::kAskAgent}},
    SourceTransition{S::kCommit, E::kPeerGone, S::kCommitOrphan, {}},
    SourceTransition{S::kCommit, E::kTargetFailed, S::kCommitOrphan, {}},
    SourceTransition{S::kCommitOrphan, E::kTicketMade, S::kTicketOrphan, {A::kHandTicket}},
    SourceTransition{
        S::kCommitOrphan, E::kSourceError, S::kAborting, {A::kCancelSource, A::kCancelAgent, A::kCancelTarget}},
    SourceTransition{S::kCommitOrphan, E::kSourceGone, S::kRecover, {A::kAskAgent}},

    // The ticket's bytes are here: they are handed over again until the same agent has them.
    SourceTransition{S::kTicket, E::kTicketHeld, S::kGrant, {A::kTellCommitted}},
    SourceTransition{S::kTicket, E::kAgentBack, S::kTicket, {A::kHandTicket}},
    SourceTransition{S::kTicket, E::kAgentReplaced, S::kLost, {A::kCancelTarget, A::kRelease, A::kDropStream}},
    SourceTransition{S::kTicket, E::kAgentError, S::kLost, {A::kCancelTarget, A::kRelease, A::kDropStream}},
    SourceTransition{S::kTicket, E::kPeerGone, S::kTicketOrphan, {}},
    SourceTransition{S::kTicket, E::kTargetFailed, S::kTicketOrphan, {}},
    SourceTransition{S::kTicketOrphan, E::kTicketHeld, S::kRedial, {A::kConnectPeer}},
    SourceTransition{S::kTicketOrphan, E::kAgentBack, S::kTicketOrphan, {A::kHandTicket}},
    SourceTransition{S::kTicketOrphan, E::kAgentReplaced, S::kLost, {A::kRelease, A::kDropStream}},
    SourceTransition{S::kTicketOrphan, E::kAgentError, S::kLost, {A::kRelease, A::kDropStream}},

    SourceTransition{S::kGrant, E::kGranted, S::kDone, {A::kRelease, A::kDropStream}},
    SourceTransition{S::kGrant, E::kPeerGone, S::kRedial, {A::kConnectPeer}},
    SourceTransition{S::kGrant, E::kTargetFailed, S::kResume, {A::kResumeLocal}},
    SourceTransition{S::kGrant, E::kTimeout, S::kResume, {A::kResumeLocal}},
    SourceTransition{S::kRedial, E::kPeerUp, S::kRedial, {A::kAttach}},
    SourceTransition{S::kRedial, E::kPeerGone, S::kRedial, {A::kConnectPeer}},
    SourceTransition{S::kRedial, E::kTargetWaiting, S::kGrant, {A::kTellCommitted}},
    SourceTransition{S::kRedial, E::kGranted, S::kDone, {A::kRelease, A::kDropStream}},
    SourceTransition{S::kRedial, E::kTargetFailed, S::kResume, {A::kResumeLocal}},
    SourceTransition{S::kRedial, E::kTimeout, S::kResume, {A::kResumeLocal}},

    SourceTransition{S::kResume, E::kResumeGranted, S::kResumed, {A::kCancelTarget, A::kRelease, A::kDropStream}},
    SourceTransition{S::kResume, E::kResumeFailed, S::kStranded, {A::kStopLocal}},
    SourceTransition{S::kResume, E::kAlreadyGranted, S::kSettle, {A::kStopLocal, A::kConnectPeer}},
    SourceTransition{S::kResume, E::kGranted, S::kDone, {A::kStopLocal, A::kRelease, A::kDropStream}},
    SourceTransition{S::kStranded, E::kRetry, S::kResume, {A::kResumeLocal}},
    SourceTransition{S::kStranded, E::kGranted, S::kDone, {A::kRelease, A::kDropStream}},
    SourceTransition{S::kStranded, E::kAgentReplaced, S::kLost, {A::kRelease, A::kDropStream}},

    // Only who was granted before the agent died can run. The target hears from the agent's successor that it knows
    // nothing of the attempt; one that cannot be asked in time is not waited for.
    SourceTransition{S::kGrant, E::kAgentReplaced, S::kForsaken, {A::kAttach}},
    SourceTransition{S::kRedial, E::kAgentReplaced, S::kForsaken, {A::kConnectPeer}},
    SourceTransition{S::kResume, E::kAgentReplaced, S::kLastResume, {}},
    SourceTransition{S::kLastResume, E::kResumeGranted, S::kResumed, {A::kCancelTarget, A::kRelease, A::kDropStream}},
    SourceTransition{S::kLastResume, E::kResumeFailed, S::kForsaken, {A::kStopLocal, A::kConnectPeer}},
    SourceTransition{S::kLastResume, E::kAlreadyGranted, S::kSettle, {A::kStopLocal, A::kConnectPeer}},
    SourceTransition{S::kLastResume, E::kGranted, S::kDone, {A::kStopLocal, A::kRelease, A::kDropStream}},
    SourceTransition{S::kForsaken, E::kPeerUp, S::kForsaken, {A::kAttach}},
    SourceTransition{S::kForsaken, E::kPeerGone, S::kForsaken, {A::kConnectPeer}},
    SourceTransition{S::kForsaken, E::kTargetWaiting, S::kForsaken, {A::kTellCommitted}},
    SourceTransition{S::kForsaken, E::kGranted, S::kDone, {A::kRelease, A::kDropStream}},
    SourceTransition{S::kForsaken, E::kTargetFailed, S::kLost, {A::kRelease, A::kDropStream}},
    SourceTransition{S::kForsaken, E::kTimeout, S::kLost, {A::kRelease, A::kDropStream}},

    // Bound to the target: keep offering it the grant, for as long as it takes.
    SourceTransition{S::kSettle, E::kPeerUp, S::kSettle, {A::kAttach}},
    SourceTransition{S::kSettle, E::kPeerGone, S::kSettle, {A::kConnectPeer}},
    SourceTransition{S::kSettle, E::kTargetWaiting, S::kSettle, {A::kTellCommitted}},
    SourceTransition{S::kSettle, E::kGranted, S::kDone, {A::kRelease, A::kDropStream}},
    SourceTransition{S::kSettle, E::kTargetFailed, S::kLost, {A::kRelease, A::kDropStream}},

    SourceTransition{S::kRecover, E::kTicketHeld, S::kRedial, {A::kConnectPeer}},
    SourceTransition{S::kRecover, E::kAlreadyGranted, S::kSettle, {A::kConnectPeer}},
    SourceTransition{S::kRecover, E::kSourceDestroyed, S::kCommitOrphan, {A::kAskTicket}},
    SourceTransition{S::kRecover, E::kSourceAlive, S::kAborting, {A::kCancelSource, A::kCancelAgent, A::kCancelTarget}},
    SourceTransition{S::kRecover, E::kAgentBack, S::kRecover, {A::kAskAgent}},
    SourceTransition{S::kRecover, E::kAgentReplaced, S::kLost, {A::kRelease, A::kDropStream}},
    SourceTransition{S::kRecover, E::kTimeout, S::kLost, {A::kCancelAgent, A::kDropStream}},

    SourceTransition{S::kCancelling, E::kSourceCancelled, S::kCancelled, {A::kDropStream}},
    SourceTransition{S::kCancelling, E::kSourceError, S::kFailed, {A::kDropStream}},
    SourceTransition{S::kCancelling, E::kSourceGone, S::kFailed, {A::kDropStream}},
    SourceTransition{S::kCancelling, E::kTimeout, S::kFailed, {A::kDropStream}},
    SourceTransition{S::kAborting, E::kSourceCancelled, S::kFailed, {A::kDropStream}},
    SourceTransition{S::kAborting, E::kSourceError, S::kFailed, {A::kDropStream}},
    SourceTransition{S::kAborting, E::kSourceGone, S::kFailed, {A::kDropStream}},
    SourceTransition{S::kAborting, E::kTimeout, S::kFailed, {A::kDropStream}},
};

// The undoable states answer every failure alike; spelling out their rows would only hide a difference.
constexpr auto build_table() {
  std::array<SourceTransition, kExplicit.size() + kUndoable.size() * (kFailures.size() + 2)> table{};
  std::size_t n = 0;
  for (const SourceTransition& row : kExplicit) table[n++] = row;
  for (const S state : kUndoable) {
    for (const E failure : kFailures) {
      table[n++] = {state, failure, S::kAborting, {A::kCancelSource, A::kCancelAgent, A::kCancelTarget}};
    }
    table[n++] = {state, E::kCancelRequest, S::kCancelling, {A::kCancelSource, A::kCancelAgent, A::kCancelTarget}};
    table[n++] = {state, E::kSourceGone, S::kFailed, {A::kCancelAgent, A::kCancelTarget, A::kDropStream}};
  }
  return table;
}

constexpr auto kTable = build_table();
static_assert(is_deterministic(kTable));

}  // namespace

std::span<const SourceTransition> SourceMachine::table() noexcept {
  return kTable;
}

Step<SourceAction> SourceMachine::on(SourceEvent event) noexcept {
  const SourceTransition* row = find_transition(table(), state_, event);
  if (row == nullptr) return {};
  state_ = row->to;
  return {true, row->todo()};
}

SourcePhase phase_of(SourceState state) noexcept {
  switch (state) {
    case S::kIdle:
    case S::kConnect:
    case S::kSession:
    case S::kOffer:
    case S::kTarget:
      return SourcePhase::kPrepare;
    case S::kQuiesce:
    case S::kDump:
      return SourcePhase::kStream;
    case S::kVerify:
      return SourcePhase::kReady;
    case S::kCommit:
    case S::kCommitOrphan:
    case S::kTicket:
    case S::kTicketOrphan:
    case S::kRecover:
      return SourcePhase::kCommit;
    case S::kGrant:
    case S::kRedial:
    case S::kSettle:
    case S::kForsaken:
      return SourcePhase::kGrant;
    case S::kResume:
    case S::kLastResume:
      return SourcePhase::kResume;
    case S::kStranded:
      return SourcePhase::kStranded;
    case S::kCancelling:
    case S::kAborting:
      return SourcePhase::kCancelling;
    case S::kDone:
      return SourcePhase::kDone;
    case S::kCancelled:
      return SourcePhase::kCancelled;
    case S::kFailed:
      return SourcePhase::kFailed;
    case S::kResumed:
      return SourcePhase::kResumed;
    case S::kLost:
      return SourcePhase::kLost;
  }
  return SourcePhase::kLost;
}

const char* name_of(SourceState state) noexcept {
  static constexpr std::array kNames = {"idle",       "connect",
                                        "session",    "offer",
                                        "target",     "quiesce",
                                        "dump",       "verify",
                                        "commit",     "commit (target gone)",
                                        "ticket",     "ticket (target gone)",
                                        "grant",      "redial",
                                        "settle",     "resume",
                                        "stranded",   "last resume",
                                        "forsaken",   "recover",
                                        "cancelling", "aborting",
                                        "done",       "cancelled",
                                        "failed",     "resumed",
                                        "lost"};
  static_assert(kNames.size() == static_cast<std::size_t>(S::kLost) + 1);
  return kNames.at(static_cast<std::size_t>(state));
}

const char* name_of(SourceEvent event) noexcept {
  static constexpr std::array kNames = {
      "start",           "restarted",      "peer up",       "peer gone",        "prepared",       "offered",
      "target prepared", "target waiting", "target failed", "quiesced",         "streamed",       "ready arrived",
      "ticket made",     "ticket held",    "granted",       "already granted",  "resume granted", "resume failed",
      "retry",           "source error",   "source gone",   "source destroyed", "source alive",   "source cancelled",
      "agent error",     "agent gone",     "agent back",    "agent replaced",   "cancel request", "timeout"};
  static_assert(kNames.size() == static_cast<std::size_t>(E::kTimeout) + 1);
  return kNames.at(static_cast<std::size_t>(event));
}

}  // namespace sealift

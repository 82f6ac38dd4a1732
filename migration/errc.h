// The closed set of results that cross the enclave boundary or the wire. Never text: text belongs to the host.
//
// The numbers are part of the wire format and are never reused.
#pragma once

#include <cstdint>

namespace sealift {

enum class Errc : std::uint32_t {
  kOk = 0,

  // Entering an enclave.
  kGateClosed = 1,  // quiescing, restoring or destroyed: no application code may run now
  kWrongState = 2,  // this request is not possible in this thread's state
  kBadRequest = 3,  // unknown request or operation number
  kBadSize = 4,     // a length is outside its bounds
  kDestroyed = 5,   // this instance has destroyed itself for ever
  kWrongRole = 6,   // a starting instance was asked to restore, or the other way round
  kNoThread = 7,    // no thread is bound to this TCS
  kNoFreeTcs = 8,   // every TCS is taken
  kCrashed = 9,     // the enclave raised an exception that nothing handles
  kEpcLost = 10,    // the EPC pages of this enclave are gone

  // Typed calls.
  kUnknownCall = 20,    // no such ecall or ocall
  kMalformedCall = 21,  // arguments or result did not decode exactly
  kTooLarge = 22,       // arguments or result do not fit the thread's arena slot
  kAppException = 23,   // the callee threw
  kMigrated = 24,       // the ocall was in flight when the enclave migrated, and is not restartable

  // Records.
  kBadMagic = 40,
  kBadVersion = 41,
  kBadKind = 42,
  kBadSequence = 43,  // repeated, reordered or missing
  kBadLength = 44,
  kBadTag = 45,        // authentication failed
  kBadPlacement = 46,  // a page outside what a checkpoint may contain
  kBadDigest = 47,     // the final record disagrees with the records received
  kBadCount = 48,      // surplus or missing records or pages
  kWrongBase = 49,     // ELRANGE or the arena is at another address
  kWrongEnclave = 50,  // another MRENCLAVE, signer, product, SVN, attributes or configuration
  kTooManyThreads = 51,
  kTruncated = 52,

  // Sessions and the protocol.
  kBadReport = 60,   // a REPORT did not verify on this machine
  kBadAgent = 61,    // not the agent that the manifest pins
  kDebugAgent = 62,  // a debug or development agent where the manifest wants production
  kBadBinding = 63,  // REPORTDATA does not bind these keys, roles and attempt
  kBadConfirmation = 64,
  kBadMessage = 65,  // did not decode, or is out of place
  kWrongAttempt = 66,
  kWrongLineage = 67,
  kWrongEpoch = 68,
  kNoSession = 69,
  kNotReady = 70,        // asked to commit, grant or dump before its time
  kAlreadyGranted = 71,  // the ticket is bound to another instance
  kPeerRefused = 72,     // the other agent's quote does not satisfy the policy
  kVerdictExpired = 73,  // the verdict on the other agent's quote must be renewed
  kNoTicket = 74,
  kUnknownAttempt = 75,
  kAttemptUsed = 76,
  kNoQuote = 77,  // no quote could be had or it did not verify
  kEntropy = 78,  // RDRAND failed
  kKeyLeaf = 79,  // EREPORT or EGETKEY failed
  kNotQuiescent = 80,
  kPolicy = 81,  // the manifest forbids this
};

// One line for people; the full list for documents and `--json`. Host side only uses the text.
[[nodiscard]] constexpr const char* errc_name(Errc e) noexcept {
  switch (e) {
    case Errc::kOk:
      return "ok";
    case Errc::kGateClosed:
      return "gate closed";
    case Errc::kWrongState:
      return "wrong thread state";
    case Errc::kBadRequest:
      return "unknown request";
    case Errc::kBadSize:
      return "size out of bounds";
    case Errc::kDestroyed:
      return "instance destroyed itself";
    case Errc::kWrongRole:
      return "wrong role";
    case Errc::kNoThread:
      return "no thread bound";
    case Errc::kNoFreeTcs:
      return "no free TCS";
    case Errc::kCrashed:
      return "enclave crashed";
    case Errc::kEpcLost:
      return "EPC lost";
    case Errc::kUnknownCall:
      return "unknown call";
    case Errc::kMalformedCall:
      return "malformed call";
    case Errc::kTooLarge:
      return "call too large";
    case Errc::kAppException:
      return "exception in the callee";
    case Errc::kMigrated:
      return "migrated during the call";
    case Errc::kBadMagic:
      return "record magic";
    case Errc::kBadVersion:
      return "version not supported";
    case Errc::kBadKind:
      return "record kind";
    case Errc::kBadSequence:
      return "record sequence";
    case Errc::kBadLength:
      return "record length";
    case Errc::kBadTag:
      return "record authentication";
    case Errc::kBadPlacement:
      return "page outside the checkpoint";
    case Errc::kBadDigest:
      return "digest mismatch";
    case Errc::kBadCount:
      return "record or page count";
    case Errc::kWrongBase:
      return "other address";
    case Errc::kWrongEnclave:
      return "other enclave";
    case Errc::kTooManyThreads:
      return "more threads than TCSs";
    case Errc::kTruncated:
      return "truncated";
    case Errc::kBadReport:
      return "report not from this machine";
    case Errc::kBadAgent:
      return "agent of another identity";
    case Errc::kDebugAgent:
      return "development agent refused";
    case Errc::kBadBinding:
      return "report does not bind the session";
    case Errc::kBadConfirmation:
      return "key confirmation";
    case Errc::kBadMessage:
      return "malformed message";
    case Errc::kWrongAttempt:
      return "other attempt";
    case Errc::kWrongLineage:
      return "other lineage";
    case Errc::kWrongEpoch:
      return "other epoch";
    case Errc::kNoSession:
      return "no session with an agent";
    case Errc::kNotReady:
      return "not ready";
    case Errc::kAlreadyGranted:
      return "already granted to another instance";
    case Errc::kPeerRefused:
      return "target machine refused by policy";
    case Errc::kVerdictExpired:
      return "verdict on the target expired";
    case Errc::kNoTicket:
      return "no ticket";
    case Errc::kUnknownAttempt:
      return "unknown attempt";
    case Errc::kAttemptUsed:
      return "attempt already used";
    case Errc::kNoQuote:
      return "no valid quote";
    case Errc::kEntropy:
      return "no entropy";
    case Errc::kKeyLeaf:
      return "report or key leaf failed";
    case Errc::kNotQuiescent:
      return "threads still running";
    case Errc::kPolicy:
      return "forbidden by the manifest";
  }
  return "unknown";
}

}  // namespace sealift

// The exit codes of `sealift`, as --help and docs/commands.md list them.
#pragma once

#include "daemon/wire.pb.h"

namespace sealift::cli {

enum ExitCode : int {
  kExitOk = 0,
  kExitFailed = 1,       // the migration failed; the enclave runs on where it was
  kExitUsage = 2,        // the command line is wrong
  kExitNotFound = 3,     // no such enclave or migration, or several fit
  kExitBusy = 4,         // already migrating, or too late to cancel
  kExitUnreachable = 5,  // no sealiftd here, or none over there
  kExitRefused = 6,      // an enclave, an agent or a policy said no
  kExitCancelled = 7,
  kExitResumed = 8,   // failed after commit; it runs on the source's host again
  kExitStranded = 9,  // committed, and no instance runs: `sealift resume`
  kExitLost = 10,     // no instance can run any more
};

inline constexpr const char* kExitCodeHelp =
    "Exit codes:\n"
    "  0  done\n"
    "  1  failed; the enclave runs on where it was\n"
    "  2  wrong usage\n"
    "  3  no such enclave or migration, or several fit\n"
    "  4  already migrating, or too late to cancel\n"
    "  5  no sealiftd here, or none on the target\n"
    "  6  refused by an enclave, an agent or a policy\n"
    "  7  cancelled\n"
    "  8  failed after commit; it runs on the source's host again\n"
    "  9  committed, and no instance runs: `sealift resume`\n"
    "  10 lost: no instance can run any more\n";

[[nodiscard]] inline int exit_code(wire::Failure::Kind kind) {
  switch (kind) {
    case wire::Failure::NOT_FOUND:
    case wire::Failure::AMBIGUOUS:
      return kExitNotFound;
    case wire::Failure::BUSY:
      return kExitBusy;
    case wire::Failure::UNREACHABLE:
    case wire::Failure::NO_AGENT:
    case wire::Failure::VERSION:
      return kExitUnreachable;
    case wire::Failure::REFUSED:
      return kExitRefused;
    case wire::Failure::CANCELLED:
      return kExitCancelled;
    case wire::Failure::BAD_REQUEST:
      return kExitUsage;
    case wire::Failure::STRANDED:
      return kExitStranded;
    case wire::Failure::LOST:
      return kExitLost;
    default:
      return kExitFailed;
  }
}

// How a migration that has come to rest ended.
[[nodiscard]] inline int exit_code(const wire::MigrationInfo& info) {
  switch (info.phase()) {
    case wire::DONE:
      return kExitOk;
    case wire::CANCELLED:
      return kExitCancelled;
    case wire::RESUMED:
      return kExitResumed;
    case wire::STRANDED:
      return kExitStranded;
    case wire::LOST:
      return kExitLost;
    default:
      return info.has_failure() ? exit_code(info.failure().kind()) : kExitFailed;
  }
}

}  // namespace sealift::cli

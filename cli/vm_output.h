// What `sealift vm` prints. No I/O but to the streams given.
#pragma once

#include <nlohmann/json.hpp>
#include <ostream>
#include <string>
#include <vector>

#include "cli/output.h"
#include "daemon/wire.pb.h"

namespace sealift::cli {

[[nodiscard]] const char* phase_name(wire::VmPhase phase);
[[nodiscard]] nlohmann::json to_json(const wire::VmMoveInfo& info);
[[nodiscard]] nlohmann::json to_json(const wire::VmRow& row);

void print_vms(std::ostream& out, const std::vector<wire::VmRow>& rows);
// One line: what became of the VM; and one for each enclave that has a failure of its own.
void print_outcome(std::ostream& out, const wire::VmMoveInfo& info);
// How a move that has come to rest ended (exit_codes.h).
[[nodiscard]] int exit_code(const wire::VmMoveInfo& info);

// Progress of a move.
class VmProgressPrinter {
 public:
  VmProgressPrinter(std::ostream& out, bool terminal, unsigned width) : line_(out, terminal, width) {}
  void show(const wire::VmMoveInfo& info);
  void finish() { line_.finish(); }

 private:
  ProgressLine line_;
};

}  // namespace sealift::cli

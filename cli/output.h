// What the command prints: tables and progress for people, JSON for programs. No I/O but to the streams given.
#pragma once

#include <nlohmann/json.hpp>
#include <ostream>
#include <string>
#include <vector>

#include "daemon/wire.pb.h"

namespace sealift::cli {

[[nodiscard]] const char* phase_name(wire::Phase phase);
[[nodiscard]] const char* gate_name(std::uint32_t gate);  // abi::GateState
[[nodiscard]] std::string hex(const std::string& bytes);
[[nodiscard]] std::string human_bytes(double bytes);      // "12.3 MiB"
[[nodiscard]] std::string human_seconds(double seconds);  // "850 ms", "1.23 s", "2 min 5 s"

[[nodiscard]] nlohmann::json to_json(const wire::EnclaveRow& row);
[[nodiscard]] nlohmann::json to_json(const wire::MigrationInfo& info);
[[nodiscard]] nlohmann::json to_json(const wire::Failure& failure);
[[nodiscard]] nlohmann::json to_json(const wire::StatusReply& status);

void print_enclaves(std::ostream& out, const std::vector<wire::EnclaveRow>& rows);
void print_migrations(std::ostream& out, const std::vector<wire::MigrationInfo>& migrations);
// The last line of a migration: how it ended, how long it took, how long nothing ran.
void print_outcome(std::ostream& out, const wire::MigrationInfo& info);

// Progress of something that goes through phases: one line that is redrawn on a terminal, otherwise a line for each
// phase.
class ProgressLine {
 public:
  ProgressLine(std::ostream& out, bool terminal, unsigned width) : out_(out), terminal_(terminal), width_(width) {}
  // `phase` and its name; `part`: how much is done, 0 to 1 (what is outside is drawn as the nearer end).
  void show(const std::string& what, int phase, const char* phase_name, double part, const std::string& numbers);
  // Leaves the line that is being redrawn.
  void finish();

 private:
  std::ostream& out_;
  const bool terminal_;
  const unsigned width_;
  int last_ = 0;  // PHASE_UNSPECIFIED
  bool drawn_ = false;
};

// Of one migration.
class ProgressPrinter {
 public:
  ProgressPrinter(std::ostream& out, bool terminal, unsigned width) : line_(out, terminal, width) {}
  void show(const wire::MigrationInfo& info);
  void finish() { line_.finish(); }

 private:
  ProgressLine line_;
};

}  // namespace sealift::cli

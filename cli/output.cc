#include "cli/output.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "daemon/failure.h"
#include "migration/abi.h"

namespace sealift::cli {

namespace {

using nlohmann::json;

constexpr std::size_t kShortLineage = 12;  // digits; enough to name it again

// Columns as wide as their widest cell; the last one is not padded.
void print_table(std::ostream& out, const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  for (const auto& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      line += i + 1 == row.size() ? row[i] : fmt::format("{:<{}}  ", row[i], widths[i]);
    }
    out << line << '\n';
  }
}

std::string bar(double part, std::size_t width) {
  const auto filled = static_cast<std::size_t>(std::clamp(part, 0.0, 1.0) * static_cast<double>(width));
  return "[" + std::string(filled, '#') + std::string(width - filled, '.') + "]";
}

std::string numbers(const wire::MigrationInfo& info) {
  std::string text = human_bytes(static_cast<double>(info.bytes_done()));
  if (info.bytes_total() != 0) text += " of " + human_bytes(static_cast<double>(info.bytes_total()));
  if (info.bytes_per_second() > 0) text += ", " + human_bytes(info.bytes_per_second()) + "/s";
  if (info.seconds_left() > 0) text += ", " + human_seconds(info.seconds_left()) + " left";
  return text;
}

}  // namespace

const char* phase_name(wire::Phase phase) {
  switch (phase) {
    case wire::PREPARE:
      return "prepare";
    case wire::STREAM:
      return "stream";
    case wire::READY:
      return "ready";
    case wire::COMMIT:
      return "commit";
    case wire::GRANT:
      return "grant";
    case wire::RESUME:
      return "resume";
    case wire::STRANDED:
      return "stranded";
    case wire::CANCELLING:
      return "cancelling";
    case wire::DONE:
      return "done";
    case wire::CANCELLED:
      return "cancelled";
    case wire::FAILED:
      return "failed";
    case wire::RESUMED:
      return "resumed";
    case wire::LOST:
      return "lost";
    default:
      return "-";
  }
}

const char* gate_name(std::uint32_t gate) {
  switch (static_cast<abi::GateState>(gate)) {
    case abi::GateState::kOpen:
      return "running";
    case abi::GateState::kQuiescing:
      return "quiescing";
    case abi::GateState::kRestoring:
      return "restoring";
    case abi::GateState::kDestroyed:
      return "destroyed";
    case abi::GateState::kUnborn:
      return "starting";
  }
  return "unknown";
}

std::string hex(const std::string& bytes) {
  std::string out;
  for (const char c : bytes) out += fmt::format("{:02x}", static_cast<unsigned char>(c));
  return out;
}

std::string human_bytes(double bytes) {
  static constexpr std::array kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
  std::size_t unit = 0;
  while (bytes >= 1024 && unit + 1 < kUnits.size()) {
    bytes /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{:.0f} B", bytes) : fmt::format("{:.1f} {}", bytes, kUnits[unit]);
}

std::string human_seconds(double seconds) {
  if (seconds < 0.0095) return fmt::format("{:.1f} ms", seconds * 1000);
  if (seconds < 1) return fmt::format("{:.0f} ms", seconds * 1000);
  if (seconds < 60) return fmt::format("{:.2f} s", seconds);
  const auto whole = static_cast<long>(std::lround(seconds));
  return fmt::format("{} min {} s", whole / 60, whole % 60);
}

json to_json(const wire::Failure& failure) {
  return {{"message", daemon::to_line(failure)}, {"what", failure.what()}, {"object", failure.object()},
          {"advice", failure.advice()},          {"errc", failure.errc()}, {"kind", static_cast<int>(failure.kind())}};
}

json to_json(const wire::EnclaveRow& row) {
  json out = {{"lineage", hex(row.lineage())},
              {"epoch", row.epoch()},
              {"name", row.name()},
              {"pid", row.pid()},
              {"state", gate_name(row.gate())},
              {"threads", row.threads()},
              {"bytes", row.pages() * 4096},
              {"image", row.image()},
              {"mrenclave", hex(row.mrenclave())},
              {"elrange_base", row.elrange_base()},
              {"elrange_size", row.elrange_size()}};
  if (row.phase() != wire::PHASE_UNSPECIFIED) out["phase"] = phase_name(row.phase());
  if (!row.guest().empty()) out["vm"] = row.guest();
  return out;
}

json to_json(const wire::MigrationInfo& info) {
  json out = {{"lineage", hex(info.lineage())},
              {"epoch", info.epoch()},
              {"name", info.name()},
              {"attempt", hex(info.attempt())},
              {"peer", info.peer()},
              {"direction", info.incoming() ? "in" : "out"},
              {"phase", phase_name(info.phase())},
              {"detail", info.detail()},
              {"records", info.records()},
              {"bytes_done", info.bytes_done()},
              {"bytes_total", info.bytes_total()},
              {"bytes_per_second", info.bytes_per_second()},
              {"downtime_seconds", info.downtime_seconds()},
              {"total_seconds", info.total_seconds()}};
  out["phases"] = json::array();
  for (const wire::PhaseTime& time : info.phases()) {
    out["phases"].push_back({{"name", phase_name(time.phase())}, {"seconds", time.seconds()}});
  }
  out["seconds_left"] = info.seconds_left() < 0 ? json() : json(info.seconds_left());
  if (info.has_failure()) out["failure"] = to_json(info.failure());
  return out;
}

json to_json(const wire::StatusReply& status) {
  json out = {{"daemon", status.daemon_name()},
              {"listen", status.listen()},
              {"agent", {{"up", status.agent_up()}, {"mrenclave", hex(status.agent_mrenclave())}}},
              {"migrations", json::array()},
              {"enclaves", json::array()}};
  for (const auto& migration : status.migrations()) out["migrations"].push_back(to_json(migration));
  for (const auto& row : status.enclaves()) out["enclaves"].push_back(to_json(row));
  return out;
}

void print_enclaves(std::ostream& out, const std::vector<wire::EnclaveRow>& rows) {
  const bool guests = std::any_of(rows.begin(), rows.end(), [](const auto& row) { return !row.guest().empty(); });
  std::vector<std::vector<std::string>> table = {{"LINEAGE", "EPOCH", "NAME", "PID", "STATE", "THREADS", "SIZE"}};
  if (guests) table[0].emplace_back("VM");
  for (const wire::EnclaveRow& row : rows) {
    std::string state = gate_name(row.gate());
    if (row.phase() != wire::PHASE_UNSPECIFIED) state += std::string(" (") + phase_name(row.phase()) + ")";
    table.push_back({hex(row.lineage()).substr(0, kShortLineage), std::to_string(row.epoch()), row.name(),
                     std::to_string(row.pid()), state, std::to_string(row.threads()),
                     human_bytes(static_cast<double>(row.pages()) * 4096)});
    if (guests) table.back().push_back(row.guest().empty() ? "-" : row.guest());
  }
  print_table(out, table);
}

void print_migrations(std::ostream& out, const std::vector<wire::MigrationInfo>& migrations) {
  std::vector<std::vector<std::string>> table = {{"LINEAGE", "NAME", "DIRECTION", "PEER", "PHASE", "PROGRESS"}};
  for (const wire::MigrationInfo& info : migrations) {
    std::string progress = numbers(info);
    if (info.has_failure()) progress = daemon::to_line(info.failure());
    table.push_back({hex(info.lineage()).substr(0, kShortLineage), info.name(), info.incoming() ? "in" : "out",
                     info.peer(), phase_name(info.phase()), progress});
  }
  print_table(out, table);
}

void print_outcome(std::ostream& out, const wire::MigrationInfo& info) {
  if (info.phase() != wire::DONE) {
    out << info.name() << ": " << phase_name(info.phase());
    if (info.has_failure()) out << ": " << daemon::to_line(info.failure());
    out << '\n';
    return;
  }
  out << fmt::format("{} runs on {}: {} in {}, downtime {}\n", info.name(), info.peer(),
                     human_bytes(static_cast<double>(info.bytes_done())), human_seconds(info.total_seconds()),
                     human_seconds(info.downtime_seconds()));
}

void ProgressLine::show(const std::string& what, int phase, const char* phase_name, double part,
                        const std::string& numbers) {
  if (!terminal_) {
    if (phase == last_) return;
    last_ = phase;
    out_ << fmt::format("{}: {}\n", what, phase_name) << std::flush;
    return;
  }
  constexpr std::size_t kBar = 24;
  std::string line = fmt::format("{:<10} {} {}", phase_name, bar(part, kBar), numbers);
  if (line.size() >= width_) line.resize(width_ - 1);
  out_ << '\r' << line << "\x1b[K" << std::flush;
  drawn_ = true;
}

void ProgressLine::finish() {
  if (drawn_) out_ << "\r\x1b[K" << std::flush;
  drawn_ = false;
}

void ProgressPrinter::show(const wire::MigrationInfo& info) {
  const double part =
      info.bytes_total() == 0 ? 0 : static_cast<double>(info.bytes_done()) / static_cast<double>(info.bytes_total());
  line_.show(info.name(), info.phase(), phase_name(info.phase()), part, numbers(info));
}

}  // namespace sealift::cli

#include "cli/vm_output.h"

#include <fmt/format.h>

#include "cli/exit_codes.h"
#include "daemon/failure.h"

namespace sealift::cli {

namespace {

using nlohmann::json;

std::string ram_progress(const wire::VmMoveInfo& info) {
  if (info.ram_total() == 0) return "";
  std::string text = human_bytes(static_cast<double>(info.ram_remaining())) + " of " +
                     human_bytes(static_cast<double>(info.ram_total())) + " left, pass " +
                     std::to_string(info.passes());
  if (info.bytes_per_second() > 0) text += ", " + human_bytes(info.bytes_per_second()) + "/s";
  return text;
}

std::string enclaves(const wire::VmMoveInfo& info) {
  return std::to_string(info.enclaves()) + (info.enclaves() == 1 ? " enclave" : " enclaves");
}

}  // namespace

const char* phase_name(wire::VmPhase phase) {
  switch (phase) {
    case wire::VM_CHECK:
      return "check";
    case wire::VM_PREPARE:
      return "prepare";
    case wire::VM_PRECOPY:
      return "pre-copy";
    case wire::VM_CHECKPOINT:
      return "checkpoint";
    case wire::VM_SWITCHOVER:
      return "switchover";
    case wire::VM_ACTIVATE:
      return "activate";
    case wire::VM_UNDO:
      return "undo";
    case wire::VM_DONE:
      return "done";
    case wire::VM_BACK:
      return "back";
    case wire::VM_LOST:
      return "lost";
    default:
      return "-";
  }
}

json to_json(const wire::VmMoveInfo& info) {
  json out = {{"name", info.name()},
              {"peer", info.peer()},
              {"direction", info.incoming() ? "in" : "out"},
              {"phase", phase_name(info.phase())},
              {"detail", info.detail()},
              {"ram_total", info.ram_total()},
              {"ram_remaining", info.ram_remaining()},
              {"ram_transferred", info.ram_transferred()},
              {"passes", info.passes()},
              {"bytes_per_second", info.bytes_per_second()},
              {"enclaves", info.enclaves()},
              {"checkpoint_bytes", info.checkpoint_bytes()},
              {"checkpoint_seconds", info.checkpoint_seconds()},
              {"vm_downtime_seconds", info.vm_downtime_seconds()},
              {"total_seconds", info.total_seconds()},
              {"qemu",
               {{"downtime_ms", info.qemu_downtime_ms()},
                {"total_ms", info.qemu_total_ms()},
                {"setup_ms", info.qemu_setup_ms()}}},
              {"reports", json::array()}};
  for (const wire::VmEnclave& each : info.reports()) {
    json report = {{"lineage", hex(each.lineage())},
                   {"name", each.name()},
                   {"epoch", each.epoch()},
                   {"bytes", each.bytes()},
                   {"downtime_seconds", each.downtime_seconds()}};
    if (each.has_failure()) report["failure"] = to_json(each.failure());
    out["reports"].push_back(std::move(report));
  }
  if (info.has_failure()) out["failure"] = to_json(info.failure());
  return out;
}

json to_json(const wire::VmRow& row) {
  json out = {{"name", row.name()},
              {"qmp", row.qmp()},
              {"guest_channel", row.guest_channel()},
              {"state", row.state()},
              {"cpus", row.cpus()},
              {"ram_bytes", row.ram_bytes()},
              {"epc_bytes", row.epc_bytes()},
              {"broker", row.broker()},
              {"enclaves", row.enclaves()},
              {"enclave_bytes", row.enclave_bytes()}};
  if (row.has_move()) out["move"] = to_json(row.move());
  return out;
}

void print_vms(std::ostream& out, const std::vector<wire::VmRow>& rows) {
  out << fmt::format("{:<16} {:<10} {:>5} {:>10} {:>10} {:>7} {:>9}  {}\n", "NAME", "STATE", "CPUS", "RAM", "EPC",
                     "BROKER", "ENCLAVES", "MOVE");
  for (const wire::VmRow& row : rows) {
    std::string move;
    if (row.has_move()) {
      move = fmt::format("{} {}: {}", row.move().incoming() ? "from" : "to", row.move().peer(),
                         phase_name(row.move().phase()));
      if (row.move().has_failure()) move += ": " + daemon::to_line(row.move().failure());
    }
    out << fmt::format("{:<16} {:<10} {:>5} {:>10} {:>10} {:>7} {:>9}  {}\n", row.name(), row.state(), row.cpus(),
                       human_bytes(static_cast<double>(row.ram_bytes())),
                       human_bytes(static_cast<double>(row.epc_bytes())), row.broker() ? "up" : "-", row.enclaves(),
                       move);
  }
}

void print_outcome(std::ostream& out, const wire::VmMoveInfo& info) {
  const std::string failure = info.has_failure() ? daemon::to_line(info.failure()) : "";
  switch (info.phase()) {
    case wire::VM_DONE:
      out << fmt::format("{} runs on {}: {} in {}, downtime {}, {}{}\n", info.name(), info.peer(),
                         human_bytes(static_cast<double>(info.ram_transferred())), human_seconds(info.total_seconds()),
                         human_seconds(info.vm_downtime_seconds()), enclaves(info),
                         failure.empty() ? "" : "; but " + failure);
      break;
    case wire::VM_BACK:
      out << info.name() << " runs on here: " << failure << '\n';
      break;
    default:
      out << info.name() << ": " << phase_name(info.phase()) << ": " << failure << '\n';
  }
  for (const wire::VmEnclave& each : info.reports()) {
    if (each.has_failure()) {
      out << "  " << each.name() << ' ' << hex(each.lineage()).substr(0, 12) << ": " << daemon::to_line(each.failure())
          << '\n';
    }
  }
}

int exit_code(const wire::VmMoveInfo& info) {
  if (info.phase() == wire::VM_DONE && !info.has_failure()) return kExitOk;
  if (info.phase() == wire::VM_LOST) return kExitLost;
  return info.has_failure() ? exit_code(info.failure().kind()) : kExitFailed;
}

void VmProgressPrinter::show(const wire::VmMoveInfo& info) {
  const bool standing = info.phase() == wire::VM_CHECKPOINT || info.phase() == wire::VM_ACTIVATE;
  const double part =
      info.ram_total() == 0 ? 0 : 1 - static_cast<double>(info.ram_remaining()) / static_cast<double>(info.ram_total());
  line_.show(info.name(), info.phase(), phase_name(info.phase()), part, standing ? enclaves(info) : ram_progress(info));
}

}  // namespace sealift::cli

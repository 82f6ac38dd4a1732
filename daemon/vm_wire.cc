#include "daemon/vm_wire.h"

#include "daemon/failure.h"

namespace sealift::daemon {

namespace {

using Kind = vm::Problem::Kind;

wire::VmPhase wire_phase(vm::MovePhase phase) {
  switch (phase) {
    case vm::MovePhase::kCheck:
      return wire::VM_CHECK;
    case vm::MovePhase::kPrepare:
      return wire::VM_PREPARE;
    case vm::MovePhase::kPrecopy:
      return wire::VM_PRECOPY;
    case vm::MovePhase::kCheckpoint:
      return wire::VM_CHECKPOINT;
    case vm::MovePhase::kSwitchover:
      return wire::VM_SWITCHOVER;
    case vm::MovePhase::kActivate:
      return wire::VM_ACTIVATE;
    case vm::MovePhase::kUndo:
      return wire::VM_UNDO;
    case vm::MovePhase::kDone:
      return wire::VM_DONE;
    case vm::MovePhase::kBack:
      return wire::VM_BACK;
    case vm::MovePhase::kLost:
      return wire::VM_LOST;
  }
  return wire::VM_PHASE_UNSPECIFIED;
}

wire::VmPhase wire_phase(vm::Arrival::State state) {
  switch (state) {
    case vm::Arrival::State::kChecking:
      return wire::VM_CHECK;
    case vm::Arrival::State::kListening:
      return wire::VM_PRECOPY;
    case vm::Arrival::State::kStarting:
      return wire::VM_SWITCHOVER;
    case vm::Arrival::State::kRunning:
      return wire::VM_ACTIVATE;
    case vm::Arrival::State::kActivated:
      return wire::VM_DONE;
    case vm::Arrival::State::kFailed:
      return wire::VM_BACK;
  }
  return wire::VM_PHASE_UNSPECIFIED;
}

}  // namespace

wire::Failure to_wire(const vm::Problem& problem) {
  const auto kind = [&] {
    switch (problem.kind) {
      case Kind::kBusy:
        return wire::Failure::BUSY;
      case Kind::kUnreachable:
        return wire::Failure::UNREACHABLE;
      case Kind::kRefused:
        return wire::Failure::REFUSED;
      case Kind::kCancelled:
        return wire::Failure::CANCELLED;
      case Kind::kBadRequest:
        return wire::Failure::BAD_REQUEST;
      case Kind::kLost:
        return wire::Failure::LOST;
      case Kind::kFailed:
        break;
    }
    return wire::Failure::FAILED;
  };
  return make_failure(kind(), problem.what, problem.object, problem.advice);
}

vm::Problem from_wire(const wire::Failure& failure) {
  const auto kind = [&] {
    switch (failure.kind()) {
      case wire::Failure::BUSY:
        return Kind::kBusy;
      case wire::Failure::UNREACHABLE:
      case wire::Failure::NO_AGENT:
      case wire::Failure::VERSION:
        return Kind::kUnreachable;
      case wire::Failure::REFUSED:
      case wire::Failure::NOT_FOUND:
        return Kind::kRefused;
      case wire::Failure::CANCELLED:
        return Kind::kCancelled;
      case wire::Failure::BAD_REQUEST:
        return Kind::kBadRequest;
      case wire::Failure::LOST:
        return Kind::kLost;
      default:
        return Kind::kFailed;
    }
  };
  std::string object = failure.object();
  if (failure.errc() != 0) {
    object += std::string(object.empty() ? "" : " ") + "(" + errc_name(static_cast<Errc>(failure.errc())) + ")";
  }
  return {kind(), failure.what(), std::move(object), failure.advice()};
}

wire::VmFacts to_wire(const vm::Facts& facts) {
  wire::VmFacts out;
  out.set_machine(facts.machine);
  out.set_cpu_type(facts.cpu_type);
  out.set_cpu_vendor(facts.cpu_vendor);
  for (const vm::FeatureWord& word : facts.features) {
    wire::VmFacts::Word& each = *out.add_features();
    each.set_leaf(word.leaf);
    each.set_subleaf(word.subleaf);
    each.set_reg(word.reg);
    each.set_bits(word.bits);
  }
  out.set_cpus(facts.cpus);
  out.set_ram_bytes(facts.ram_bytes);
  for (const vm::EpcSection& section : facts.epc) {
    wire::VmFacts::Section& each = *out.add_epc();
    each.set_id(section.id);
    each.set_address(section.address);
    each.set_size(section.size);
  }
  return out;
}

vm::Facts from_wire(const wire::VmFacts& facts) {
  vm::Facts out;
  out.machine = facts.machine();
  out.cpu_type = facts.cpu_type();
  out.cpu_vendor = facts.cpu_vendor();
  for (const auto& word : facts.features()) {
    out.features.push_back({word.leaf(), word.subleaf(), word.reg(), word.bits()});
  }
  out.cpus = facts.cpus();
  out.ram_bytes = facts.ram_bytes();
  for (const auto& section : facts.epc()) out.epc.push_back({section.id(), section.address(), section.size()});
  return out;
}

wire::VmOptions to_wire(const vm::MoveOptions& options) {
  wire::VmOptions out;
  out.set_bandwidth(options.bandwidth);
  out.set_downtime_limit_ms(static_cast<std::uint32_t>(options.downtime_limit.count()));
  out.set_timeout_s(static_cast<std::uint32_t>(options.timeout.count()));
  out.set_multifd(options.multifd);
  out.set_compress(options.compress);
  out.set_without_enclaves(options.without_enclaves);
  out.set_force(options.force);
  return out;
}

vm::MoveOptions from_wire(const wire::VmOptions& options) {
  vm::MoveOptions out;
  out.bandwidth = options.bandwidth();
  if (options.downtime_limit_ms() != 0) out.downtime_limit = std::chrono::milliseconds(options.downtime_limit_ms());
  out.timeout = std::chrono::seconds(options.timeout_s());
  out.multifd = options.multifd();
  out.compress = options.compress();
  out.without_enclaves = options.without_enclaves();
  out.force = options.force();
  return out;
}

wire::VmEnclave to_wire(const vm::EnclaveReport& report) {
  wire::VmEnclave out;
  out.set_lineage(report.lineage);
  out.set_name(report.name);
  out.set_epoch(report.epoch);
  out.set_bytes(report.bytes);
  out.set_downtime_seconds(report.downtime_seconds);
  if (report.problem) *out.mutable_failure() = to_wire(*report.problem);
  return out;
}

vm::EnclaveReport from_wire(const wire::VmEnclave& report) {
  vm::EnclaveReport out{report.lineage(),          report.name(), report.epoch(), report.bytes(),
                        report.downtime_seconds(), std::nullopt};
  if (report.has_failure()) out.problem = from_wire(report.failure());
  return out;
}

wire::VmMoveInfo to_wire(const vm::MoveView& view) {
  wire::VmMoveInfo out;
  out.set_name(view.name);
  out.set_peer(view.peer);
  out.set_phase(wire_phase(view.phase));
  out.set_detail(view.detail);
  out.set_ram_total(view.qemu.ram_total);
  out.set_ram_remaining(view.qemu.ram_remaining);
  out.set_ram_transferred(view.qemu.ram_transferred);
  out.set_passes(view.qemu.passes);
  out.set_bytes_per_second(view.qemu.bytes_per_second);
  out.set_enclaves(view.survey.enclaves);
  out.set_checkpoint_bytes(view.checkpoint_bytes);
  out.set_checkpoint_seconds(view.checkpoint_seconds);
  out.set_vm_downtime_seconds(view.vm_downtime_seconds);
  out.set_total_seconds(view.total_seconds);
  out.set_qemu_downtime_ms(view.qemu.downtime_ms);
  out.set_qemu_total_ms(view.qemu.total_ms);
  out.set_qemu_setup_ms(view.qemu.setup_ms);
  for (const vm::EnclaveReport& report : view.enclaves) *out.add_reports() = to_wire(report);
  if (view.problem) *out.mutable_failure() = to_wire(*view.problem);
  return out;
}

wire::VmMoveInfo to_wire(const vm::Arrival& arrival) {
  wire::VmMoveInfo out;
  out.set_name(arrival.plan().name);
  out.set_peer(arrival.plan().peer);
  out.set_incoming(true);
  out.set_enclaves(arrival.plan().guest.enclaves);
  out.set_phase(wire_phase(arrival.state()));
  out.set_detail(name_of(arrival.state()));
  for (const vm::EnclaveReport& report : arrival.enclaves()) *out.add_reports() = to_wire(report);
  if (arrival.problem()) *out.mutable_failure() = to_wire(*arrival.problem());
  return out;
}

}  // namespace sealift::daemon

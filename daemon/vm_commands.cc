// What people ask of sealiftd about VMs.
#include <sys/random.h>

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "daemon/failure.h"
#include "daemon/vm_service.h"
#include "daemon/vm_wire.h"

namespace sealift::daemon {

namespace {

constexpr std::size_t kMaxName = 64;
constexpr std::chrono::milliseconds kLookPatience{2'000};

// Names appear in file names, logs and guests' channels.
bool good_name(const std::string& name) {
  return !name.empty() && name.size() <= kMaxName && name.front() != '.' && name.front() != '-' &&
         std::all_of(name.begin(), name.end(), [](unsigned char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '-' ||
                  c == '_';
         });
}

std::string new_move() {
  std::string id(16, '\0');
  if (::getrandom(id.data(), id.size(), 0) != static_cast<ssize_t>(id.size())) {
    throw std::runtime_error("no randomness");
  }
  return id;
}

wire::Failure unknown(const std::string& name) {
  return make_failure(wire::Failure::NOT_FOUND, "no such VM on this host", name,
                      "`sealift vm list` shows them, `sealift vm add` adds one");
}

}  // namespace

bool VmService::cli_message(const std::shared_ptr<Connection>& from, const wire::Envelope& message) {
  switch (message.body_case()) {
    case wire::Envelope::kVmAdd:
      cli_add(from, message.id(), message.vm_add());
      return true;
    case wire::Envelope::kVmRemove:
      cli_remove(from, message.id(), message.vm_remove());
      return true;
    case wire::Envelope::kVmListRequest:
      cli_list(from, message.id());
      return true;
    case wire::Envelope::kVmMigrate:
      cli_migrate(from, message.id(), message.vm_migrate());
      return true;
    case wire::Envelope::kVmCancel:
      cli_cancel(from, message.id(), message.vm_cancel());
      return true;
    default:
      return false;
  }
}

void VmService::cli_add(const std::shared_ptr<Connection>& from, std::uint64_t id, const wire::VmAdd& request) {
  if (!good_name(request.name())) {
    return from->reply(id, make_failure(wire::Failure::BAD_REQUEST, "not a name for a VM", request.name(),
                                        "letters, digits, '.', '-' and '_', 64 at most"));
  }
  if (busy(request.name())) {
    return from->reply(id, make_failure(wire::Failure::BUSY, "this VM is moving", request.name(), ""));
  }
  // A VM whose QEMU does not answer is not added: a wrong path would only show when it matters.
  look_at(request, [this, from, id, request](const wire::VmRow& row) {
    if (row.state() == "gone" || row.state() == "busy") {
      return from->reply(
          id, make_failure(wire::Failure::UNREACHABLE,
                           row.state() == "gone" ? "no QEMU at this monitor" : "QEMU's monitor does not greet",
                           request.qmp(),
                           row.state() == "gone" ? "start it with -qmp unix:PATH,server=on,wait=off"
                                                 : "another program may hold it: give QEMU one more -qmp socket"));
    }
    try {
      guests_.erase(request.name());
      book_.add(request);
      (void)guest(request);
      answer_attaches();
    } catch (const std::exception& error) {
      return from->reply(id, make_failure(wire::Failure::FAILED, "cannot add this VM", error.what(), ""));
    }
    wire::Envelope reply;
    *reply.mutable_vm_list()->add_vms() = row;
    from->reply(id, std::move(reply));
  });
}

void VmService::cli_remove(const std::shared_ptr<Connection>& from, std::uint64_t id, const wire::VmRemove& request) {
  if (book_.find(request.name()) == nullptr) return from->reply(id, unknown(request.name()));
  if (busy(request.name())) {
    return from->reply(id, make_failure(wire::Failure::BUSY, "this VM is moving", request.name(),
                                        "`sealift vm cancel` first, or wait"));
  }
  guests_.erase(request.name());
  outgoing_.erase(request.name());
  book_.remove(request.name());
  wire::Envelope reply;
  reply.mutable_vm_list();
  from->reply(id, std::move(reply));
}

// While a move holds the monitor nobody else can ask QEMU: then the row is without QEMU's part.
void VmService::look_at(const wire::VmAdd& vm, std::function<void(const wire::VmRow&)> done) {
  wire::VmRow row;
  row.set_name(vm.name());
  row.set_qmp(vm.qmp());
  row.set_guest_channel(vm.guest_channel());
  if (const auto arrived = last_incoming_.find(vm.name()); arrived != last_incoming_.end()) {
    const vm::Arrival& arrival = *incoming_.at(arrived->second).arrival;
    *row.mutable_move() = to_wire(arrival);
    // Its broker is not here yet.
    if (!arrival.finished()) {
      row.set_enclaves(arrival.plan().guest.enclaves);
      row.set_enclave_bytes(arrival.plan().guest.epc_bytes);
    }
  }
  if (const auto left = outgoing_.find(vm.name()); left != outgoing_.end()) *row.mutable_move() = left->second->info();
  const auto with_guest = [this, vm, done = std::move(done)](wire::VmRow known) {
    const auto port = guests_.find(vm.name());
    if (port == guests_.end() || !port->second) return done(known);
    port->second->survey([known, done](const vm::GuestSurvey& survey, const std::optional<vm::Problem>& problem) {
      wire::VmRow all = known;
      all.set_broker(!problem);
      if (problem) return done(all);
      all.set_enclaves(survey.enclaves);
      all.set_enclave_bytes(survey.epc_bytes);
      done(all);
    });
  };
  if (busy(vm.name())) {
    row.set_state("moving");
    return with_guest(row);
  }
  vm::QmpClient::connect(
      parts_.io, vm.qmp(), kLookPatience, {}, [row, with_guest](const vm::QmpClient::Connected& connected) {
        if (!connected.client) {
          wire::VmRow unseen = row;
          unseen.set_state(connected.gone ? "gone" : "busy");
          return with_guest(unseen);
        }
        vm::gather_facts(connected.client, [row, with_guest, client = connected.client](
                                               const vm::Facts& facts, const std::optional<vm::Problem>& problem) {
          client->close();
          wire::VmRow seen = row;
          seen.set_state(problem ? "unknown" : facts.run_state);
          seen.set_cpus(facts.cpus);
          seen.set_ram_bytes(facts.ram_bytes);
          seen.set_epc_bytes(facts.epc_bytes());
          with_guest(seen);
        });
      });
}

void VmService::cli_list(const std::shared_ptr<Connection>& from, std::uint64_t id) {
  const auto rows = std::make_shared<std::vector<wire::VmRow>>(book_.contents().vms_size());
  const auto left = std::make_shared<std::size_t>(rows->size());
  const auto finish = [from, id, rows] {
    wire::Envelope reply;
    reply.mutable_vm_list();
    for (const wire::VmRow& row : *rows) *reply.mutable_vm_list()->add_vms() = row;
    from->reply(id, std::move(reply));
  };
  if (rows->empty()) return finish();
  for (int i = 0; i < book_.contents().vms_size(); ++i) {
    look_at(book_.contents().vms(i), [rows, left, finish, i](const wire::VmRow& row) {
      (*rows)[static_cast<std::size_t>(i)] = row;
      if (--*left == 0) finish();
    });
  }
}

void VmService::cli_migrate(const std::shared_ptr<Connection>& from, std::uint64_t id, const wire::VmMigrate& request) {
  const wire::VmAdd* vm = book_.find(request.name());
  if (vm == nullptr) return from->reply(id, unknown(request.name()));
  const auto where = parse_host_port(request.target());
  if (!where || where->host.empty()) {
    return from->reply(
        id, make_failure(wire::Failure::BAD_REQUEST, "not a host", request.target(), "give HOST or HOST:PORT"));
  }
  if (const auto problem = vm::invalid(from_wire(request.options()))) return from->reply(id, to_wire(*problem));
  if (busy(request.name())) {
    return from->reply(id, make_failure(wire::Failure::BUSY, "this VM is moving already", request.name(),
                                        "`sealift vm list` shows it, `sealift vm cancel` stops it"));
  }
  wire::VmBook::Leaving leaving;
  leaving.set_move(new_move());
  leaving.set_name(request.name());
  leaving.set_target(where->str());
  *leaving.mutable_options() = request.options();
  const auto move = make_outgoing(*vm, leaving);
  watch(*move, {from, id});
  move->start();
}

void VmService::cli_cancel(const std::shared_ptr<Connection>& from, std::uint64_t id, const wire::VmCancel& request) {
  if (book_.find(request.name()) == nullptr) return from->reply(id, unknown(request.name()));
  const auto found = outgoing_.find(request.name());
  if (found == outgoing_.end() || found->second->finished()) {
    return from->reply(id, busy(request.name())
                               ? make_failure(wire::Failure::BUSY, "this VM is coming in", request.name(),
                                              "cancel it on the host that it leaves")
                               : make_failure(wire::Failure::NOT_FOUND, "this VM is not moving", request.name(), ""));
  }
  if (!found->second->cancel()) {
    return from->reply(id, make_failure(wire::Failure::BUSY, "too late to cancel", request.name(),
                                        "the target has been told to run it, or it is going back already"));
  }
  watch(*found->second, {from, id});
}

}  // namespace sealift::daemon

#include "daemon/vm_service.h"

#include <spdlog/spdlog.h>

#include <asio/post.hpp>
#include <utility>

#include "daemon/failure.h"
#include "daemon/vm_wire.h"

namespace sealift::daemon {

namespace {
constexpr std::chrono::milliseconds kReportEvery{100};
}

VmService::VmService(Parts parts)
    : parts_(std::move(parts)), book_(parts_.options.state_dir), progress_timer_(parts_.io) {}

VmService::~VmService() = default;

void VmService::start() {
  for (const wire::VmAdd& vm : book_.contents().vms()) (void)guest(vm);
  const wire::VmBook known = book_.contents();  // recovery changes it
  for (const wire::VmBook::Leaving& leaving : known.leaving()) {
    const wire::VmAdd* vm = book_.find(leaving.name());
    if (vm == nullptr || !parse_host_port(leaving.target())) {
      spdlog::warn("vm {}: had a move to {}, and is not known any more: forgotten", leaving.name(), leaving.target());
      book_.left(leaving.move());
      continue;
    }
    spdlog::info("vm {}: its move to {} had not ended", leaving.name(), leaving.target());
    make_outgoing(*vm, leaving)->recover();
  }
}

void VmService::stop() {
  stopping_ = true;
  progress_timer_.cancel();
  for (const auto& [move, incoming] : incoming_) incoming.arrival->abandon();
  incoming_.clear();
  outgoing_.clear();
  guests_.clear();
}

// Every step that waits for the network or for a guest is as patient as the daemon was told to be.
vm::Patience VmService::patience() const {
  const Timeouts& t = parts_.options.timeouts;
  vm::Patience out;
  out.target = t.connect + t.session;
  out.stall = out.load = t.stall;
  out.monitor = t.stall + out.monitor;  // a monitor that is cut off cannot be asked to yank (vm/source_qemu.cc)
  out.prepare = 2 * t.stall;
  out.checkpoint = 4 * t.stall;
  out.activate = 6 * t.stall;
  out.undo = 2 * t.stall;
  out.redial = t.retry;
  return out;
}

vm::GuestPort* VmService::guest(const wire::VmAdd& vm) {
  if (vm.guest_channel().empty() || !parts_.guest_for) return nullptr;
  auto& port = guests_[vm.name()];
  if (!port) port = parts_.guest_for(vm);
  return port.get();
}

bool VmService::busy(const std::string& vm) const {
  if (const auto found = outgoing_.find(vm); found != outgoing_.end() && !found->second->finished()) return true;
  for (const auto& [move, incoming] : incoming_) {
    if (incoming.arrival->plan().name == vm && !incoming.arrival->finished()) return true;
  }
  return false;
}

std::shared_ptr<OutgoingVm> VmService::make_outgoing(const wire::VmAdd& vm, const wire::VmBook::Leaving& leaving) {
  auto move =
      std::make_shared<OutgoingVm>(OutgoingVm::Parts{parts_.io, book_, guest(vm), patience(),
                                                     [this](OutgoingVm& changed) { outgoing_changed(changed); }},
                                   parts_.peer_for(*parse_host_port(leaving.target())), vm, leaving);
  if (const auto before = outgoing_.find(vm.name()); before != outgoing_.end()) watches_.erase(before->second.get());
  outgoing_[vm.name()] = move;
  if (const auto came = last_incoming_.find(vm.name()); came != last_incoming_.end()) {
    incoming_.erase(came->second);
    last_incoming_.erase(came);
  }
  return move;
}

void VmService::watch(OutgoingVm& move, Watch watch) {
  watches_[&move].push_back(std::move(watch));
  if (watches_.size() == 1) report_progress();
  if (move.finished()) outgoing_changed(move);
}

void VmService::report_progress() {
  if (stopping_ || watches_.empty()) return;
  for (const auto& [vm, move] : outgoing_) {
    const auto watching = watches_.find(move.get());
    if (watching == watches_.end()) continue;
    wire::Envelope notice;
    *notice.mutable_vm_move_info() = move->info();
    for (const Watch& watch : watching->second) {
      if (const auto cli = watch.cli.lock(); cli && cli->up()) cli->notify(notice);
    }
  }
  progress_timer_.expires_after(kReportEvery);
  progress_timer_.async_wait([this](const std::error_code& error) {
    if (!error) report_progress();
  });
}

void VmService::outgoing_changed(OutgoingVm& move) {
  if (move.finished()) asio::post(parts_.io, [this] { answer_attaches(); });
  const auto watching = watches_.find(&move);
  if (watching == watches_.end()) return;
  wire::Envelope message;
  *message.mutable_vm_move_info() = move.info();
  for (const Watch& watch : watching->second) {
    const auto cli = watch.cli.lock();
    if (!cli || !cli->up()) continue;
    if (!move.finished()) {
      cli->notify(message);
    } else {
      cli->reply(watch.request, message);
    }
  }
  if (move.finished()) watches_.erase(watching);
}

}  // namespace sealift::daemon

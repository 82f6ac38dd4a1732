// VmService's part as a target: VMs that other hosts' daemons send here.
#include <spdlog/spdlog.h>

#include <asio/post.hpp>
#include <utility>

#include "daemon/failure.h"
#include "daemon/vm_service.h"
#include "daemon/vm_wire.h"

namespace sealift::daemon {

namespace {

constexpr std::size_t kMoveBytes = 16;
constexpr std::size_t kMaxFeatures = 256;  // QEMU knows some 40 registers
constexpr int kMaxSections = 64;
constexpr std::size_t kMaxUnanswered = 64;

// What another host's daemon sends is bounded before it is kept.
bool well_formed(const wire::VmIncoming& request) {
  return request.move().size() == kMoveBytes && request.source().features_size() <= static_cast<int>(kMaxFeatures) &&
         request.source().epc_size() <= kMaxSections && !vm::invalid(from_wire(request.options()));
}

}  // namespace

void VmService::peer_message(const std::shared_ptr<PeerSession>& from, const wire::Envelope& message) {
  if (message.has_vm_incoming()) return incoming(from, message.vm_incoming());
  if (message.has_vm_order()) return order(from, message.vm_order());
}

void VmService::incoming(const std::shared_ptr<PeerSession>& from, const wire::VmIncoming& request) {
  if (!well_formed(request) || incoming_.contains(request.move())) {
    return refuse(from, request.move(),
                  make_failure(wire::Failure::BAD_REQUEST, "the target does not understand this move", request.name(),
                               "run the same version on both hosts"));
  }
  const wire::VmAdd* vm = book_.find(request.name());
  if (vm == nullptr) {
    return refuse(from, request.move(),
                  make_failure(wire::Failure::NOT_FOUND, "the target knows no VM of this name", request.name(),
                               "start a QEMU with -incoming defer there, and `sealift vm add` it"));
  }
  if (busy(request.name())) {
    return refuse(from, request.move(),
                  make_failure(wire::Failure::BUSY, "another VM is already incoming", request.name(),
                               "wait for it, or cancel it on its source"));
  }
  vm::Arrival::Plan plan{request.name(),
                         from->owner_name(),
                         from->local_address(),
                         from_wire(request.source()),
                         {request.enclaves(), request.epc_need()},
                         from_wire(request.options())};
  make_arrival(request.move(), from, *vm, std::move(plan));
  incoming_.at(request.move()).arrival->open();
}

void VmService::make_arrival(const std::string& move, const std::shared_ptr<PeerSession>& from, const wire::VmAdd& vm,
                             vm::Arrival::Plan plan) {
  // The last one of a VM is remembered, for `vm list` and for a source that asks again.
  if (const auto before = last_incoming_.find(vm.name()); before != last_incoming_.end()) {
    incoming_.erase(before->second);
  }
  last_incoming_[vm.name()] = move;
  outgoing_.erase(vm.name());  // it has ended, or this one would have been refused
  const vm::Arrival::Parts parts{parts_.io, guest(vm), patience().monitor,
                                 [this, move](vm::Arrival&) { arrival_changed(move); }};
  incoming_[move] = {std::make_shared<vm::Arrival>(parts, vm.qmp(), std::move(plan)), from};
}

void VmService::arrival_changed(const std::string& move) {
  const auto found = incoming_.find(move);
  if (found == incoming_.end()) return;
  const vm::Arrival& arrival = *found->second.arrival;
  if (const auto source = found->second.source.lock()) tell(source, move, arrival);
  if (arrival.finished()) asio::post(parts_.io, [this] { answer_attaches(); });
}

void VmService::tell(const std::shared_ptr<PeerSession>& source, const std::string& move, const vm::Arrival& arrival) {
  wire::Envelope message;
  wire::VmEvent& event = *message.mutable_vm_event();
  event.set_move(move);
  switch (arrival.state()) {
    case vm::Arrival::State::kChecking:
    case vm::Arrival::State::kStarting:
      return;
    case vm::Arrival::State::kListening:
      event.set_kind(wire::VmEvent::LISTENING);
      event.set_uri(arrival.uri());
      break;
    case vm::Arrival::State::kRunning:
      event.set_kind(wire::VmEvent::STARTED);
      break;
    case vm::Arrival::State::kActivated:
      event.set_kind(wire::VmEvent::ACTIVATED);
      for (const vm::EnclaveReport& report : arrival.enclaves()) *event.add_reports() = to_wire(report);
      break;
    case vm::Arrival::State::kFailed:
      event.set_kind(wire::VmEvent::FAILED);
      break;
  }
  if (arrival.problem()) *event.mutable_failure() = to_wire(*arrival.problem());
  source->notify(std::move(message));
}

void VmService::refuse(const std::shared_ptr<PeerSession>& source, const std::string& move,
                       const wire::Failure& failure) {
  wire::Envelope message;
  message.mutable_vm_event()->set_move(move);
  message.mutable_vm_event()->set_kind(wire::VmEvent::FAILED);
  *message.mutable_vm_event()->mutable_failure() = failure;
  source->notify(std::move(message));
}

void VmService::order(const std::shared_ptr<PeerSession>& from, const wire::VmOrder& order) {
  const auto found = incoming_.find(order.move());
  if (found == incoming_.end()) {
    if (order.kind() == wire::VmOrder::ATTACH) attach_unknown(from, order);
    return;
  }
  found->second.source = from;
  const std::shared_ptr<vm::Arrival> arrival = found->second.arrival;
  switch (order.kind()) {
    case wire::VmOrder::START: {
      wire::VmBook::Arrived arrived;
      arrived.set_move(order.move());
      arrived.set_name(arrival->plan().name);
      arrived.set_peer(arrival->plan().peer);
      *arrived.mutable_options() = to_wire(arrival->plan().options);
      book_.arrived(arrived);
      return arrival->start();
    }
    case wire::VmOrder::CLOSE:
      return arrival->close();
    case wire::VmOrder::ATTACH:
      return tell(from, order.move(), *arrival);
    default:
      return;
  }
}

// Of an earlier life of this daemon: QEMU and the book know. "Nothing" lets the source run the VM, so it is not said by
// a host that cannot know, or that looks at this VM for another move just now.
void VmService::attach_unknown(const std::shared_ptr<PeerSession>& from, const wire::VmOrder& order) {
  const wire::VmBook::Arrived* arrived = book_.find_arrived(order.move());
  const wire::VmAdd* vm = book_.find(order.name());
  const bool may_have_arrived = arrived != nullptr || book_.contents().incomplete();
  if (busy(order.name()) || (vm == nullptr && may_have_arrived)) {
    if (unanswered_.size() >= kMaxUnanswered) unanswered_.erase(unanswered_.begin());
    unanswered_.emplace_back(from, order);
    spdlog::warn("vm {}: {} asks what became of its move: {}", order.name(), from->owner_name(),
                 vm == nullptr ? "`sealift vm add` it" : "it moves again");
    return;
  }
  if (vm == nullptr) {
    return refuse(from, order.move(),
                  make_failure(wire::Failure::FAILED, "the target knows nothing of this move", order.name(), ""));
  }
  vm::Arrival::Plan plan;
  plan.name = order.name();
  plan.peer = from->owner_name();
  if (arrived != nullptr) plan.options = from_wire(arrived->options());
  make_arrival(order.move(), from, *vm, std::move(plan));
  incoming_.at(order.move()).arrival->resume(may_have_arrived);
}

void VmService::answer_attaches() {
  if (stopping_) return;
  for (const auto& [session, order] : std::exchange(unanswered_, {})) {
    if (const auto from = session.lock()) this->order(from, order);
  }
}

}  // namespace sealift::daemon

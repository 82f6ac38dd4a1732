#include "daemon/vm_outgoing.h"

#include <utility>

#include "daemon/failure.h"
#include "daemon/vm_wire.h"

namespace sealift::daemon {

namespace {
constexpr unsigned kCloseTries = 60;
constexpr std::chrono::seconds kCloseAgain{1};
}  // namespace

RemoteTarget::RemoteTarget(asio::io_context& io, std::shared_ptr<Peer> peer, std::string move, std::string vm,
                           std::function<void()> ordering)
    : peer_(std::move(peer)),
      id_(std::move(move)),
      vm_(std::move(vm)),
      ordering_(std::move(ordering)),
      close_timer_(io) {}

RemoteTarget::~RemoteTarget() {
  *alive_ = false;
  peer_->leave(this);
}

void RemoteTarget::connect() {
  peer_->join(this);
  peer_->set_attempt(this, id_);
}

void RemoteTarget::open(const vm::Facts& source, const vm::GuestSurvey& guest, const vm::MoveOptions& options) {
  asked_to_open_ = true;
  wire::Envelope message;
  wire::VmIncoming& incoming = *message.mutable_vm_incoming();
  incoming.set_move(id_);
  incoming.set_name(vm_);
  *incoming.mutable_source() = to_wire(source);
  incoming.set_epc_need(guest.epc_bytes);
  incoming.set_enclaves(guest.enclaves);
  *incoming.mutable_options() = to_wire(options);
  peer_->notify(std::move(message));
}

void RemoteTarget::start() {
  ordering_();
  order(wire::VmOrder::START);
}

void RemoteTarget::attach() {
  order(wire::VmOrder::ATTACH);
}

void RemoteTarget::close() {
  if (asked_to_open_) order(wire::VmOrder::CLOSE);
}

void RemoteTarget::close_unheard() {
  close_tries_ = kCloseTries;
  connect();
}

void RemoteTarget::order(wire::VmOrder::Kind kind) {
  wire::Envelope message;
  message.mutable_vm_order()->set_move(id_);
  message.mutable_vm_order()->set_name(vm_);
  message.mutable_vm_order()->set_kind(kind);
  peer_->notify(std::move(message));
}

void RemoteTarget::peer_up() {
  if (std::exchange(close_tries_, 0) > 0) return order(wire::VmOrder::CLOSE);
  to_->peer_up();
}

void RemoteTarget::peer_gone(const wire::Failure& why) {
  if (close_tries_ > 0 && --close_tries_ > 0) {
    close_timer_.expires_after(kCloseAgain);
    close_timer_.async_wait([this, alive = alive_](const std::error_code& error) {
      if (!error && *alive) connect();
    });
  }
  to_->peer_gone(from_wire(why));
}

void RemoteTarget::peer_vm_event(const wire::VmEvent& event) {
  switch (event.kind()) {
    case wire::VmEvent::LISTENING:
      if (to_->state() == vm::MoveState::kTarget) return to_->target_listening(event.uri());
      return to_->target_waiting();
    case wire::VmEvent::STARTED:
      return to_->target_started();
    case wire::VmEvent::ACTIVATED: {
      vm::EnclaveReports reports;
      for (const wire::VmEnclave& each : event.reports()) reports.push_back(from_wire(each));
      return to_->target_activated(reports,
                                   event.has_failure() ? std::optional(from_wire(event.failure())) : std::nullopt);
    }
    case wire::VmEvent::FAILED:
      return to_->target_failed(from_wire(event.failure()));
    default:
      return;
  }
}

OutgoingVm::OutgoingVm(const Parts& parts, std::shared_ptr<Peer> peer, const wire::VmAdd& vm,
                       wire::VmBook::Leaving leaving)
    : book_(parts.book),
      leaving_(std::move(leaving)),
      target_(parts.io, std::move(peer), leaving_.move(), leaving_.name(), [this] {
        leaving_.set_handed_over(true);
        book_.leaving(leaving_);
      }) {
  const auto changed = [this, told = parts.changed](vm::Move& move) {
    if (move.finished()) book_.left(leaving_.move());
    told(*this);
  };
  move_ = std::make_shared<vm::Move>(vm::Move::Parts{parts.io, parts.guest, target_, changed}, vm.name(), vm.qmp(),
                                     from_wire(leaving_.options()), parts.patience);
  target_.set_move(move_.get());
}

// What a daemon that ends leaves undone is the next one's (recover).
OutgoingVm::~OutgoingVm() {
  move_->abandon();
}

void OutgoingVm::start() {
  book_.leaving(leaving_);
  move_->start();
}

void OutgoingVm::recover() {
  if (!leaving_.handed_over()) target_.close_unheard();
  move_->recover(leaving_.handed_over());
}

wire::VmMoveInfo OutgoingVm::info() const {
  wire::VmMoveInfo out = to_wire(move_->view());
  out.set_move(leaving_.move());
  return out;
}

}  // namespace sealift::daemon

// OutgoingVm: a VM's move away from this host: vm::Move, with the other host's daemon as its target.
//
// Threads: the io_context's. Ownership: shared.
#pragma once

#include <asio/io_context.hpp>
#include <asio/steady_timer.hpp>
#include <functional>
#include <memory>
#include <string>

#include "daemon/peer.h"
#include "daemon/vm_book.h"
#include "vm/driver.h"

namespace sealift::daemon {

// The other daemon, for one move.
class RemoteTarget : public vm::TargetPort, private PeerUser {
 public:
  // `ordering`: the order to start the VM is about to leave.
  RemoteTarget(asio::io_context& io, std::shared_ptr<Peer> peer, std::string move, std::string vm,
               std::function<void()> ordering);
  ~RemoteTarget() override;

  // Whom the answers are for; must outlive this.
  void set_move(vm::Move* move) noexcept { to_ = move; }

  void connect() override;
  void open(const vm::Facts& source, const vm::GuestSurvey& guest, const vm::MoveOptions& options) override;
  void start() override;
  void attach() override;
  void close() override;
  // An earlier life of this daemon may have asked it to open: tries for some time to tell it that the VM stays here.
  void close_unheard();
  [[nodiscard]] std::string name() const override { return peer_->name(); }

 private:
  void peer_up() override;
  void peer_gone(const wire::Failure& why) override;
  void peer_event(const wire::TargetEvent&) override {}
  void peer_taken(std::uint64_t) override {}
  void peer_vm_event(const wire::VmEvent& event) override;
  void order(wire::VmOrder::Kind kind);

  std::shared_ptr<Peer> peer_;
  const std::string id_, vm_;
  const std::function<void()> ordering_;
  vm::Move* to_ = nullptr;
  bool asked_to_open_ = false;
  unsigned close_tries_ = 0;
  asio::steady_timer close_timer_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

class OutgoingVm : public std::enable_shared_from_this<OutgoingVm> {
 public:
  struct Parts {
    asio::io_context& io;
    VmBook& book;
    vm::GuestPort* guest;  // null: none
    vm::Patience patience;
    std::function<void(OutgoingVm&)> changed;
  };
  OutgoingVm(const Parts& parts, std::shared_ptr<Peer> peer, const wire::VmAdd& vm, wire::VmBook::Leaving leaving);
  ~OutgoingVm();

  void start();
  void recover();
  // False: too late.
  [[nodiscard]] bool cancel() { return move_->cancel(); }
  [[nodiscard]] bool finished() const { return move_->finished(); }
  [[nodiscard]] const std::string& name() const noexcept { return leaving_.name(); }
  [[nodiscard]] wire::VmMoveInfo info() const;

 private:
  VmBook& book_;
  wire::VmBook::Leaving leaving_;
  RemoteTarget target_;
  std::shared_ptr<vm::Move> move_;
};

}  // namespace sealift::daemon

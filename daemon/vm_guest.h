// VmGuest: the enclaves of one VM, for its move (vm/guest_port.h), over this daemon's channels to guests' brokers
// (daemon/guest_port.h).
//
// When a move is over, its enclaves run again: a broker that does not answer, or that is not there, is asked again
// until it has done that, or the VM moves anew. So is one that comes and tells of enclaves which stand still for no
// move: the broker before it may have said otherwise.
//
// Threads: the io_context's. An answer that comes after this is gone is dropped.
#pragma once

#include <asio/io_context.hpp>
#include <asio/steady_timer.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "daemon/guest_port.h"
#include "vm/guest_port.h"

namespace sealift::daemon {

class VmGuest : public vm::GuestPort, private GuestPort::Watcher {
 public:
  // Attaches the channel. `patience`: how long a guest may take to come up again, and its enclaves to run.
  VmGuest(asio::io_context& io, daemon::GuestPort& guests, std::string name, const std::string& channel,
          std::chrono::milliseconds patience);
  ~VmGuest() override;

  void survey(Surveyed done) override;
  void prepare(const std::string& peer, Done done) override;
  void checkpoint(bool force, Done done) override;
  void stay(Done done) override;
  void gone() override;
  void arrive(const std::string& peer, Done done) override;

 private:
  void guest_up(const std::string& guest) override;
  void guest_down(const std::string&) override {}
  void bring_back(std::chrono::milliseconds patience, daemon::GuestPort::Done done);
  // For the guest to come up; then its enclaves are resumed.
  void await(std::chrono::milliseconds patience, daemon::GuestPort::Done told);
  void resume(std::chrono::milliseconds patience, daemon::GuestPort::Done done);
  void settle(const GuestResult& result);
  void ask_later();
  void owe_nothing();
  [[nodiscard]] bool connected() const;
  template <typename Handler>
  auto alive(Handler handler) {
    return [weak = std::weak_ptr(alive_), handler = std::move(handler)](const auto&... arguments) {
      if (weak.lock()) handler(arguments...);
    };
  }

  asio::io_context& io_;
  daemon::GuestPort& guests_;
  const std::string name_;
  const std::chrono::milliseconds patience_;
  asio::steady_timer timer_;
  daemon::GuestPort::Done waiting_;  // for the guest to come up
  bool seen_ = false;                // it has been up, in this life of the daemon
  asio::steady_timer owed_timer_;
  std::chrono::milliseconds ask_patience_;
  bool owes_ = false;           // a move has ended, and enclaves still stand still for it
  bool asking_ = false;         // the broker is being asked for that
  bool moving_ = false;         // its enclaves may stand still
  std::function<void()> next_;  // when it has answered
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace sealift::daemon

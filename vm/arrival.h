// Arrival: one VM coming into a QEMU of this host that was started with -incoming defer.
//
// Whoever owns it gives the orders. The VM starts here by the order `start` alone, never by QEMU: a stop in the
// inmigrate state makes QEMU leave the VM paused when it has loaded it (qmp_stop; libvirt does the same with -S).
// `failed` is only said when the VM will certainly never run here.
//
// Threads: the io_context's. Ownership: shared.
#pragma once

#include <asio/io_context.hpp>
#include <asio/steady_timer.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "vm/facts.h"
#include "vm/guest_port.h"
#include "vm/options.h"
#include "vm/qmp_client.h"

namespace sealift::vm {

class Arrival : public std::enable_shared_from_this<Arrival> {
 public:
  enum class State {
    kChecking,
    kListening,  // QEMU waits for the stream, or is loading it, or has loaded it
    kStarting,
    kRunning,    // the VM runs; its enclaves are being rebuilt
    kActivated,  // they run, or are reported
    kFailed,     // the VM will never run here
  };
  struct Plan {
    std::string name;     // the VM's
    std::string peer;     // the source
    std::string address;  // where QEMU shall listen
    Facts source;
    GuestSurvey guest;
    MoveOptions options;
  };
  struct Parts {
    asio::io_context& io;
    GuestPort* guest;  // null: nobody to ask
    std::chrono::milliseconds patience;
    std::function<void(Arrival&)> changed;
  };

  Arrival(const Parts& parts, std::string qmp_path, Plan plan);
  // One that another life of this daemon had let in, and `ordered` to start or not: what QEMU says decides its state.
  void resume(bool ordered);
  void open();
  void start();
  // The VM stays with the source: QEMU ends if anything had been begun with it. Not after `start`.
  void close();
  void abandon();

  [[nodiscard]] State state() const noexcept { return state_; }
  [[nodiscard]] bool finished() const noexcept { return state_ >= State::kActivated; }
  [[nodiscard]] const Plan& plan() const noexcept { return plan_; }
  [[nodiscard]] const std::string& uri() const noexcept { return uri_; }
  [[nodiscard]] const EnclaveReports& enclaves() const noexcept { return enclaves_; }
  // Of kFailed; or of kActivated: not every enclave runs.
  [[nodiscard]] const std::optional<Problem>& problem() const noexcept { return problem_; }

 private:
  void connect(std::function<void()> then);
  void check();
  void listen();
  void find_port();
  void start_step();
  void start_again();
  void running();
  void enter(State state);
  void fail(Problem problem);
  void monitor_lost(const std::string& why);
  void retry_connect(std::function<void()> then);
  template <typename Handler>
  auto alive(Handler handler) {
    return [weak = weak_from_this(), handler = std::move(handler)](const auto&... arguments) {
      const auto self = weak.lock();
      if (self && !self->abandoned_) handler(arguments...);
    };
  }

  asio::io_context& io_;
  GuestPort* guest_;
  const std::chrono::milliseconds patience_;
  const std::function<void(Arrival&)> changed_;
  const std::string path_;
  const Plan plan_;
  std::shared_ptr<QmpClient> client_;
  asio::steady_timer timer_;
  State state_ = State::kChecking;
  bool begun_ = false;  // QEMU is no longer as it was found
  bool abandoned_ = false;
  std::string uri_;
  EnclaveReports enclaves_;
  std::optional<Problem> problem_;
};

[[nodiscard]] const char* name_of(Arrival::State state) noexcept;

}  // namespace sealift::vm

// Move: one attempt to move a running VM to another host. It drives MoveMachine (vm/move.h) over the source's QEMU, the
// guest's enclaves and the target.
//
// Threads: the io_context's. Ownership: shared; ports and watcher outlive it, or `abandon` is called first.
#pragma once

#include <asio/io_context.hpp>
#include <asio/steady_timer.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "vm/arrears.h"
#include "vm/convergence.h"
#include "vm/guest_port.h"
#include "vm/move.h"
#include "vm/options.h"
#include "vm/source_qemu.h"
#include "vm/target_port.h"

namespace sealift::vm {

// How long each step may take before it is given up. For people's patience, not for correctness.
struct Patience {
  std::chrono::milliseconds monitor{10'000};  // one QMP command
  std::chrono::milliseconds check{15'000};
  std::chrono::milliseconds target{30'000};       // the other daemon, the agents' link, its QEMU
  std::chrono::milliseconds prepare{60'000};      // all enclaves' sessions and offers
  std::chrono::milliseconds stall{30'000};        // no byte of RAM moves
  std::chrono::milliseconds checkpoint{120'000};  // all enclaves; the guest may compute AES slowly
  std::chrono::milliseconds load{30'000};         // from pre-switchover until the target has loaded the rest
  std::chrono::milliseconds start{10'000};
  std::chrono::milliseconds activate{180'000};
  std::chrono::milliseconds undo{60'000};
  std::chrono::milliseconds redial{500};
};

// What people see of it.
struct MoveView {
  std::string name, peer;
  MovePhase phase = MovePhase::kCheck;
  std::string detail;
  MigrationView qemu;
  GuestSurvey survey;
  EnclaveReports enclaves;  // of the last step that has ended
  std::uint64_t checkpoint_bytes = 0;
  double checkpoint_seconds = 0;   // from the hold to the last commit
  double vm_downtime_seconds = 0;  // from the guest's stop to the target's word that it runs
  double total_seconds = 0;
  std::optional<Problem> problem;
};

class Move : public std::enable_shared_from_this<Move> {
 public:
  struct Parts {
    asio::io_context& io;
    GuestPort* guest;  // null: nobody to ask
    TargetPort& target;
    std::function<void(Move&)> changed;  // its state, or it has finished
  };
  Move(const Parts& parts, std::string name, std::string qmp_path, const MoveOptions& options,
       const Patience& patience);

  void start();
  // After this daemon's restart: goes back, or asks the target, if it may have been ordered to start the VM.
  void recover(bool handed_over);
  // False: too late.
  [[nodiscard]] bool cancel();
  // The daemon ends: nothing more is done, nobody is told. QEMU's migration is left to the next daemon (recover).
  void abandon();

  // From the target.
  void peer_up();
  void peer_gone(Problem why);
  void target_listening(const std::string& uri);
  void target_waiting();
  void target_started();
  void target_activated(const EnclaveReports& enclaves, const std::optional<Problem>& problem);
  void target_failed(Problem why);

  [[nodiscard]] bool finished() const noexcept { return machine_.finished(); }
  [[nodiscard]] MoveState state() const noexcept { return machine_.state(); }
  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  [[nodiscard]] MoveView view() const;

 private:
  void on(MoveEvent event);
  void fail_with(MoveEvent event, Problem problem);
  void perform(MoveAction action);
  void entered(MoveState before);
  void arm_timer();
  void overdue();
  [[nodiscard]] std::chrono::milliseconds limit() const;
  template <typename Handler>
  auto here(Handler handler) {
    return [weak = weak_from_this(), state = machine_.state(), handler = std::move(handler)](const auto&... arguments) {
      const auto self = weak.lock();
      if (self && self->machine_.state() == state) handler(arguments...);
    };
  }

  // So slow that QEMU does not converge, while the guest runs at full speed. kLoose: pages of zeros, of which one takes
  // nine bytes, still go as fast as an ordinary network sends others; and so might the few that a guest has written
  // which does nothing, pass after pass, until there are none. Not for the second pass therefore.
  enum class Hold : std::uint8_t { kNone, kLoose, kTight };

  // driver_steps.cc: one for each action
  void ask_source();
  void survey(const Facts& facts);
  void prepare();
  void migrate();
  [[nodiscard]] double ahead() const;  // of its end the checkpoint begins, seconds
  void hold_off(bool near_end);
  [[nodiscard]] Pace wanted_pace() const;
  void keep_pace();
  void checkpoint();
  void speed_up();
  void proceed();
  void undo();
  void stay();
  void poll();
  void saw(const MigrationView& view);
  void saw_status(const std::string& status);
  void qemu_failed(const std::string& error);
  bool accepted(const QmpReply& reply);
  void last_look();

  asio::io_context& io_;
  GuestPort* guest_;
  TargetPort& target_;
  const std::function<void(Move&)> changed_;
  const std::string name_;
  const MoveOptions options_;
  const Patience patience_;
  std::shared_ptr<SourceQemu> qemu_;
  MoveMachine machine_;

  Facts facts_;
  std::string uri_;
  GuestSurvey survey_;
  EnclaveReports reports_;
  MigrationView qemu_view_;
  Convergence convergence_;
  std::uint64_t checkpoint_bytes_ = 0;
  std::chrono::milliseconds downtime_{0};  // the limit QEMU has now
  Hold held_ = Hold::kNone;
  Arrears arrears_;
  Pace pace_;               // that QEMU was told
  bool ask_again_ = false;  // peer_gone: dial after a while
  std::optional<Problem> problem_;
  double prepare_seconds_ = 0;
  double started_at_ = 0, prepare_at_ = 0, held_at_ = 0, committed_at_ = 0, sped_at_ = 0, stopped_at_ = 0,
         running_at_ = 0, ended_at_ = 0;
  asio::steady_timer timer_, poll_timer_, redial_timer_, overall_timer_;
};

[[nodiscard]] double seconds_now();

}  // namespace sealift::vm

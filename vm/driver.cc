#include "vm/driver.h"

#include <spdlog/spdlog.h>

#include <utility>

namespace sealift::vm {

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

Move::Move(const Parts& parts, std::string name, std::string qmp_path, const MoveOptions& options,
           const Patience& patience)
    : io_(parts.io),
      guest_(options.without_enclaves ? nullptr : parts.guest),
      target_(parts.target),
      changed_(parts.changed),
      name_(std::move(name)),
      options_(options),
      patience_(patience),
      qemu_(std::make_shared<SourceQemu>(parts.io, std::move(qmp_path), patience.monitor)),
      started_at_(seconds_now()),
      timer_(io_),
      poll_timer_(io_),
      redial_timer_(io_),
      overall_timer_(io_) {}

void Move::start() {
  if (options_.timeout.count() > 0) {
    overall_timer_.expires_after(options_.timeout);
    overall_timer_.async_wait([weak = weak_from_this()](const std::error_code& error) {
      const auto self = weak.lock();
      if (!error && self && self->machine_.state() < MoveState::kHandOver) self->overdue();
    });
  }
  on(MoveEvent::kStart);
}

void Move::recover(bool handed_over) {
  if (handed_over) return on(MoveEvent::kFoundHandedOver);
  fail_with(MoveEvent::kFoundBegun, {Problem::Kind::kFailed, "sealiftd was restarted during the move", name_,
                                     "start the target's QEMU anew, and move it again"});
}

bool Move::cancel() {
  if (find_transition(MoveMachine::table(), machine_.state(), MoveEvent::kCancelRequest) == nullptr) return false;
  fail_with(MoveEvent::kCancelRequest, {Problem::Kind::kCancelled, "cancelled", name_, ""});
  return true;
}

void Move::abandon() {
  qemu_->close();
  for (asio::steady_timer* timer : {&timer_, &poll_timer_, &redial_timer_, &overall_timer_}) timer->cancel();
}

void Move::overdue() {
  fail_with(MoveEvent::kTimeout,
            {Problem::Kind::kFailed, "not done within --timeout", name_ + " (" + name_of(state()) + ")",
             "give it more time, more bandwidth or a higher downtime limit"});
}

// --- Events -------------------------------------------------------------------------------------------------------

void Move::on(MoveEvent event) {
  const auto self = shared_from_this();  // an action may make the daemon let go
  const MoveState before = machine_.state();
  const Step<MoveAction> step = machine_.on(event);
  if (!step.listed) {
    spdlog::debug("vm {}: {} means nothing in state {}", name_, name_of(event), name_of(before));
    return;
  }
  const MoveState now = machine_.state();
  if (now != before) entered(before);
  for (const MoveAction action : step.actions) perform(action);
  if (now != before) changed_(*this);
}

void Move::entered(MoveState before) {
  spdlog::info("vm {}: {} -> {}", name_, name_of(before), name_of(machine_.state()));
  if (before >= MoveState::kPrecopy && before <= MoveState::kHandOver) {
    constexpr std::uint64_t kMib = std::uint64_t{1} << 20;
    spdlog::debug("vm {}: pass {}, {} MiB sent of {} dealt with, {} left", name_, qemu_view_.passes,
                  qemu_view_.ram_transferred / kMib, qemu_view_.ram_dealt / kMib, qemu_view_.ram_remaining / kMib);
  }
  const double now = seconds_now();
  switch (machine_.state()) {
    case MoveState::kPrepare:
      prepare_at_ = now;
      break;
    case MoveState::kPrecopy:
      prepare_seconds_ = now - prepare_at_;
      break;
    case MoveState::kCheckpoint:
      held_at_ = now;
      break;
    case MoveState::kConverge:
      committed_at_ = sped_at_ = now;
      break;
    case MoveState::kActivate:
      running_at_ = now;
      problem_.reset();  // what was out of reach for a while is not what became of it
      last_look();
      break;
    default:
      break;
  }
  arm_timer();
  if (!machine_.finished()) return;
  ended_at_ = now;
  for (asio::steady_timer* timer : {&timer_, &poll_timer_, &redial_timer_, &overall_timer_}) timer->cancel();
  if (machine_.state() != MoveState::kDone) qemu_->close();
}

void Move::fail_with(MoveEvent event, Problem problem) {
  const bool counts = find_transition(MoveMachine::table(), machine_.state(), event) != nullptr;
  if (counts && !problem_) {
    spdlog::info("vm {}: {}: {} {}", name_, problem.what, problem.object, problem.advice);
    problem_ = std::move(problem);
  }
  on(event);
}

void Move::perform(MoveAction action) {
  switch (action) {
    case MoveAction::kNone:
      return;
    case MoveAction::kAskSource:
      return ask_source();
    case MoveAction::kConnectPeer:
      if (!std::exchange(ask_again_, false)) return target_.connect();
      redial_timer_.expires_after(patience_.redial);
      return redial_timer_.async_wait(here([this](const std::error_code& error) {
        if (!error) target_.connect();
      }));
    case MoveAction::kOpenTarget:
      return target_.open(facts_, survey_, options_);
    case MoveAction::kPrepare:
      return prepare();
    case MoveAction::kMigrate:
      return migrate();
    case MoveAction::kCheckpoint:
      return checkpoint();
    case MoveAction::kSpeedUp:
      return speed_up();
    case MoveAction::kContinue:
      return proceed();
    case MoveAction::kHandOver:
      return target_.start();
    case MoveAction::kAttach:
      return target_.attach();
    case MoveAction::kCloseTarget:
      return target_.close();
    case MoveAction::kUndo:
      return undo();
    case MoveAction::kStay:
      return stay();
    case MoveAction::kGone:
      if (guest_ != nullptr) guest_->gone();
      return;
    case MoveAction::kEndSource:
      return qemu_->quit();
  }
}

std::chrono::milliseconds Move::limit() const {
  switch (machine_.state()) {
    case MoveState::kCheck:
      return patience_.check;
    case MoveState::kTarget:
      return patience_.target;
    case MoveState::kPrepare:
      return patience_.prepare;
    case MoveState::kPrecopy:
    case MoveState::kConverge:
      return patience_.stall;
    case MoveState::kCheckpoint:
      return patience_.checkpoint;
    case MoveState::kSwitch:
      return patience_.load;
    case MoveState::kHandOver:
      return patience_.start;
    case MoveState::kActivate:
      return patience_.activate;
    case MoveState::kUndo:
    case MoveState::kStay:
      return patience_.undo;
    default:
      return std::chrono::milliseconds::zero();
  }
}

void Move::arm_timer() {
  timer_.cancel();
  const auto patience = limit();
  if (patience == std::chrono::milliseconds::zero()) return;
  timer_.expires_after(patience);
  timer_.async_wait(here([this](const std::error_code& error) {
    if (error) return;
    const bool guest = state() == MoveState::kPrepare || state() == MoveState::kCheckpoint;
    fail_with(MoveEvent::kTimeout,
              {Problem::Kind::kFailed, guest ? "the guest's broker is silent" : "no progress",
               name_ + " (" + name_of(state()) + ")", guest ? "see sealiftd --guest there" : "see both hosts' logs"});
  }));
}

// --- The target ---------------------------------------------------------------------------------------------------

void Move::peer_up() {
  on(MoveEvent::kPeerUp);
}

void Move::peer_gone(Problem why) {
  ask_again_ = true;
  fail_with(MoveEvent::kPeerGone, std::move(why));
}

void Move::target_listening(const std::string& uri) {
  uri_ = uri;
  on(MoveEvent::kListening);
}

void Move::target_waiting() {
  on(MoveEvent::kWaiting);
}

void Move::target_started() {
  on(MoveEvent::kStarted);
}

// The VM runs there whatever became of its enclaves: a problem is told, and nothing is undone.
void Move::target_activated(const EnclaveReports& enclaves, const std::optional<Problem>& problem) {
  if (machine_.state() == MoveState::kOrphan || machine_.state() == MoveState::kHandOver) on(MoveEvent::kStarted);
  if (machine_.state() != MoveState::kActivate) return;
  reports_ = enclaves;
  problem_ = problem;
  on(MoveEvent::kActivated);
}

void Move::target_failed(Problem why) {
  if (machine_.state() == MoveState::kOrphan) problem_.reset();  // this is the better reason
  fail_with(MoveEvent::kTargetFailed, std::move(why));
}

MoveView Move::view() const {
  MoveView out;
  out.name = name_;
  out.peer = target_.name();
  out.phase = phase_of(machine_.state());
  out.detail = name_of(machine_.state());
  out.qemu = qemu_view_;
  out.survey = survey_;
  out.enclaves = reports_;
  out.checkpoint_bytes = checkpoint_bytes_;
  const double now = finished() ? ended_at_ : seconds_now();
  if (held_at_ > 0) out.checkpoint_seconds = (committed_at_ > 0 ? committed_at_ : now) - held_at_;
  if (stopped_at_ > 0 && running_at_ > 0) out.vm_downtime_seconds = running_at_ - stopped_at_;
  out.total_seconds = now - started_at_;
  out.problem = problem_;
  return out;
}

}  // namespace sealift::vm

// Move's actions: what each asks of QEMU and of the guest.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "vm/driver.h"

namespace sealift::vm {

namespace {

constexpr std::uint64_t kUnlimited = 10ull << 30;
constexpr std::uint64_t kHeldTightly = 256u << 10;  // below ten bytes a second would mean: no limit
constexpr std::uint64_t kHeldLoosely = 8u << 20;
// Before the enclaves have been told nothing may fit, and what could be sent in 1 ms is next to nothing: while held
// off it is less than a page. 0 would make QEMU skip passes.
constexpr std::chrono::milliseconds kNoDowntime{1};
// At first QEMU may pause the guest for no longer than this; twice as long whenever it has not converged for a while.
constexpr std::chrono::milliseconds kShortestDowntime{5};
constexpr double kConvergeSeconds = 0.5;

bool may_be_held(MoveState state) {
  return state == MoveState::kPrecopy || state == MoveState::kCheckpoint;
}

}  // namespace

void Move::ask_source() {
  SourceQemu::Callbacks callbacks;
  const auto weak = weak_from_this();
  callbacks.on_migration = [weak](const std::string& status) {
    if (const auto self = weak.lock()) self->saw_status(status);
  };
  callbacks.on_stopped = [weak] {
    if (const auto self = weak.lock()) self->stopped_at_ = seconds_now();
  };
  callbacks.on_lost = [weak](const std::string& why) {
    const auto self = weak.lock();
    if (!self) return;
    self->fail_with(MoveEvent::kMonitorLost,
                    {Problem::Kind::kFailed, "lost the monitor of this VM's QEMU", self->name_ + " (" + why + ")", ""});
  };
  qemu_->open(std::move(callbacks), here([this](const Facts& facts, const std::optional<Problem>& problem) {
                if (problem) return fail_with(MoveEvent::kRefused, *problem);
                if (const auto refusal = cannot_leave(facts, name_)) return fail_with(MoveEvent::kRefused, *refusal);
                facts_ = facts;
                survey(facts);
              }));
}

void Move::survey(const Facts& facts) {
  if (options_.without_enclaves) return on(MoveEvent::kFit);
  const std::string instead = "or move it with --without-enclaves: what enclaves it has are then lost";
  if (facts.epc.empty()) {
    return fail_with(MoveEvent::kRefused, {Problem::Kind::kRefused, "this VM's QEMU has no EPC device", name_,
                                           "start it with one (docs/vm.md), " + instead});
  }
  if (guest_ == nullptr) {
    return fail_with(MoveEvent::kRefused, {Problem::Kind::kRefused, "this VM was added without a channel to its broker",
                                           name_, "add it with --guest-channel, " + instead});
  }
  guest_->survey(here([this, instead](const GuestSurvey& survey, const std::optional<Problem>& problem) {
    if (problem) {
      Problem told = *problem;
      told.advice += (told.advice.empty() ? "" : ", ") + instead;
      return fail_with(MoveEvent::kGuestFailed, std::move(told));
    }
    survey_ = survey;
    on(MoveEvent::kFit);
  }));
}

void Move::prepare() {
  if (guest_ == nullptr) return on(MoveEvent::kPrepared);
  guest_->prepare(target_.name(), here([this](const EnclaveReports& reports, const std::optional<Problem>& problem) {
                    reports_ = reports;
                    // An enclave refuses: with --force the others go, and the checkpoint prepares them once more.
                    const bool left_behind = problem && options_.force && problem->kind == Problem::Kind::kRefused;
                    if (problem && !left_behind) return fail_with(MoveEvent::kGuestFailed, *problem);
                    on(MoveEvent::kPrepared);
                  }));
}

void Move::migrate() {
  convergence_ = Convergence(options_.bandwidth, survey_.untouched_bytes);
  spdlog::debug("vm {}: {} MiB of the guest hold zeros; the checkpoint may take {:.2f} s (the last one {:.2f})", name_,
                survey_.untouched_bytes >> 20, ahead(), survey_.checkpoint_seconds);
  held_ = Hold::kNone;
  arrears_ = Arrears(options_.bandwidth);
  pace_ = wanted_pace();
  qemu_->migrate(uri_, options_, pace_, here([this](const QmpReply& reply) {
                   if (accepted(reply)) poll();
                 }));
}

double Move::ahead() const {
  return foreseen_checkpoint(survey_.enclaves, prepare_seconds_, survey_.checkpoint_seconds);
}

void Move::poll() {
  poll_timer_.expires_after(Convergence::kPollEvery);
  poll_timer_.async_wait([weak = weak_from_this()](const std::error_code& error) {
    const auto self = weak.lock();
    if (error || !self) return;
    const MoveState state = self->machine_.state();
    if (state < MoveState::kPrecopy || state > MoveState::kSwitch) return;
    self->qemu_->poll([weak](const MigrationView& view) {
      const auto again = weak.lock();
      if (!again) return;
      again->saw(view);
      again->poll();
    });
  });
}

void Move::saw(const MigrationView& view) {
  const MoveState state = machine_.state();
  if (state < MoveState::kPrecopy || state > MoveState::kSwitch) return;
  const bool moved = view.ram_transferred != qemu_view_.ram_transferred;
  qemu_view_ = view;
  if (moved && (state == MoveState::kPrecopy || state == MoveState::kConverge)) arm_timer();
  saw_status(view.status);
  const double now = seconds_now();
  const Progress progress{.remaining = view.ram_remaining,
                          .dealt = view.ram_dealt,
                          .zeros = view.ram_zeros,
                          .sent = view.ram_transferred,
                          .passes = view.passes};
  const bool near_end = convergence_.near_end(now, progress);
  arrears_.saw(now, progress, may_be_held(state) && held_ != Hold::kNone);
  const bool ending = survey_.enclaves == 0 ? near_end : convergence_.ending();
  if (machine_.state() == MoveState::kPrecopy && (ending || convergence_.within(ahead()))) on(MoveEvent::kNearEnd);
  if (may_be_held(machine_.state())) hold_off(near_end);
  if (!near_end) sped_at_ = now;  // as long as there is much to send, it is not the limit that matters
  const bool slow = machine_.state() == MoveState::kConverge && now - sped_at_ > kConvergeSeconds;
  if (slow && downtime_ < options_.downtime_limit) {
    sped_at_ = now;
    downtime_ = std::min(downtime_ * 2, options_.downtime_limit);
  }
  keep_pace();
}

// So that it does not converge before enclaves have laid down their records; and not longer than it takes, as it has
// more to send.
void Move::hold_off(bool near_end) {
  if (near_end) held_ = convergence_.zeros_may_go() ? Hold::kLoose : Hold::kTight;
  if (!near_end && convergence_.too_early()) held_ = Hold::kNone;
}

Pace Move::wanted_pace() const {
  std::uint64_t bandwidth = options_.bandwidth == 0 ? kUnlimited : options_.bandwidth;
  const bool before_commit = may_be_held(machine_.state());
  if (before_commit && held_ != Hold::kNone) {
    bandwidth = std::min(bandwidth, held_ == Hold::kLoose ? kHeldLoosely : kHeldTightly);
  } else if (arrears_.any() && !(before_commit && qemu_view_.ram_remaining < bandwidth / 2)) {
    // Not close to where it must be held off again: it would be there between two polls.
    bandwidth = bandwidth > kUnlimited ? bandwidth : bandwidth * Arrears::kCatchUp;
  }
  return {bandwidth, machine_.state() == MoveState::kConverge ? downtime_ : kNoDowntime};
}

void Move::keep_pace() {
  if (!may_be_held(machine_.state()) && machine_.state() != MoveState::kConverge) return;
  const Pace wanted = wanted_pace();
  if (wanted == pace_) return;
  pace_ = wanted;
  qemu_->set_pace(pace_, [](const QmpReply&) {});
}

void Move::saw_status(const std::string& status) {
  if (status == "completed") return on(MoveEvent::kCompleted);
  if (status == "failed" || status == "cancelled") return qemu_failed(qemu_view_.error);
  if (status != "pre-switchover") return;
  // With no enclaves to wait for, QEMU may be done before anybody has seen it near its end.
  if (machine_.state() == MoveState::kPrecopy && guest_ == nullptr) on(MoveEvent::kNearEnd);
  if (machine_.state() == MoveState::kPrecopy || machine_.state() == MoveState::kCheckpoint) {
    return fail_with(MoveEvent::kPaused, {Problem::Kind::kFailed, "QEMU paused the VM before its enclaves were ready",
                                          name_, "try again, with a lower --bandwidth"});
  }
  on(MoveEvent::kPaused);
}

void Move::qemu_failed(const std::string& error) {
  fail_with(MoveEvent::kQemuFailed,
            {Problem::Kind::kFailed, "QEMU's migration failed", name_ + (error.empty() ? "" : " (" + error + ")"),
             "see QEMU's logs on both hosts"});
}

// A reply that never came is the lost monitor's to tell.
bool Move::accepted(const QmpReply& reply) {
  if (reply.error == QmpReply::Error::kRefused) qemu_failed(reply.text);
  return reply.ok();
}

void Move::checkpoint() {
  if (guest_ == nullptr) return on(MoveEvent::kCheckpointed);
  const auto done = [this](const EnclaveReports& reports, const std::optional<Problem>& problem) {
    reports_ = reports;
    checkpoint_bytes_ = 0;
    for (const EnclaveReport& report : reports) checkpoint_bytes_ += report.bytes;
    if (problem) return fail_with(MoveEvent::kGuestFailed, *problem);
    on(MoveEvent::kCheckpointed);
  };
  guest_->checkpoint(options_.force, here(done));
}

void Move::speed_up() {
  downtime_ = std::min(kShortestDowntime, options_.downtime_limit);
  pace_ = wanted_pace();
  qemu_->set_pace(pace_, here([this](const QmpReply& reply) { (void)accepted(reply); }));
}

void Move::proceed() {
  if (stopped_at_ == 0) stopped_at_ = seconds_now();
  qemu_->proceed(here([this](const QmpReply& reply) { (void)accepted(reply); }));
}

// QEMU's own figures are there a moment after it has said that it completed.
void Move::last_look() {
  qemu_->poll([weak = weak_from_this()](const MigrationView& view) {
    if (const auto self = weak.lock()) self->qemu_view_ = view;
  });
}

void Move::undo() {
  qemu_->undo(here([this](SourceQemu::Undone how) {
    if (how == SourceQemu::Undone::kRunning) return on(MoveEvent::kUndone);
    problem_.reset();
    fail_with(MoveEvent::kQemuGone, {Problem::Kind::kLost, "this VM's QEMU has ended", name_, "see its log"});
  }));
}

void Move::stay() {
  if (guest_ == nullptr) return on(MoveEvent::kStayed);
  guest_->stay(here([this](const EnclaveReports& reports, const std::optional<Problem>& problem) {
    reports_ = reports;
    if (!problem) return on(MoveEvent::kStayed);
    if (problem_) problem_->advice += (problem_->advice.empty() ? "" : "; ") + problem->what + ": " + problem->object;
    on(MoveEvent::kGuestFailed);
  }));
}

}  // namespace sealift::vm

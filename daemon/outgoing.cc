#include "daemon/outgoing.h"

#include <spdlog/spdlog.h>

#include <utility>

#include "daemon/failure.h"
#include "daemon/journal.h"
#include "sgx/arch.h"

namespace sealift::daemon {

namespace {

wire::Phase wire_phase(SourcePhase phase) {
  switch (phase) {
    case SourcePhase::kPrepare:
      return wire::PREPARE;
    case SourcePhase::kStream:
      return wire::STREAM;
    case SourcePhase::kReady:
      return wire::READY;
    case SourcePhase::kCommit:
      return wire::COMMIT;
    case SourcePhase::kGrant:
      return wire::GRANT;
    case SourcePhase::kResume:
      return wire::RESUME;
    case SourcePhase::kStranded:
      return wire::STRANDED;
    case SourcePhase::kCancelling:
      return wire::CANCELLING;
    case SourcePhase::kDone:
      return wire::DONE;
    case SourcePhase::kCancelled:
      return wire::CANCELLED;
    case SourcePhase::kFailed:
      return wire::FAILED;
    case SourcePhase::kResumed:
      return wire::RESUMED;
    case SourcePhase::kLost:
      return wire::LOST;
  }
  return wire::PHASE_UNSPECIFIED;
}

}  // namespace

OutgoingMigration::OutgoingMigration(const Parts& parts, std::shared_ptr<Peer> peer)
    : io_(parts.io),
      options_(parts.options),
      agent_(parts.agent),
      host_(parts.host),
      peer_(std::move(peer)),
      started_(seconds_now()),
      timer_(io_),
      redial_timer_(io_),
      redial_delay_(options_.timeouts.retry) {
  agent_.watch(this);
}

OutgoingMigration::~OutgoingMigration() {
  agent_.unwatch(this);
  peer_->leave(this);
  if (local_ && local_->owner() == this) local_->owner_gone();
  if (enclave_ && enclave_->user == this) enclave_->user = nullptr;
}

void OutgoingMigration::start(std::shared_ptr<Enclave> enclave) {
  enclave_ = std::move(enclave);
  enclave_->user = this;
  pid_ = enclave_->pid();
  const wire::Register& known = enclave_->registration();
  incoming_.set_lineage(enclave_->lineage());
  incoming_.set_epoch(enclave_->status().epoch);
  incoming_.set_name(known.name());
  incoming_.set_image(known.image());
  *incoming_.mutable_program() = known.program();
  incoming_.set_elrange_base(known.elrange_base());
  incoming_.set_elrange_size(known.elrange_size());
  incoming_.set_mrenclave(known.mrenclave());
  estimate_ = enclave_->status().pages_in_use * sgx::kPageSize;
  on(SourceEvent::kStart);
}

void OutgoingMigration::recover(const wire::Journal& journal) {
  incoming_ = journal.incoming();
  enclave_hello_ = journal.enclave_hello();
  agent_instance_ = journal.agent_instance();
  try {
    spool_ = Spool::open(spool_path(options_.spool_dir, attempt()));
  } catch (const std::system_error& error) {
    spdlog::error("outgoing {}: its stream cannot be read: {}", hex(attempt()), error.what());
  }
  on(SourceEvent::kRestarted);
}

void OutgoingMigration::source_back(std::shared_ptr<Enclave> enclave) {
  const bool destroyed = enclave->destroyed();
  if (machine_.state() != SourceState::kRecover && !destroyed) return;
  enclave_ = std::move(enclave);
  pid_ = enclave_->pid();
  // It is not needed any more, but it must hear the end: its program serves nobody, and waits for that.
  if (finished()) return release_source();
  enclave_->user = this;
  on(destroyed ? SourceEvent::kSourceDestroyed : SourceEvent::kSourceAlive);
}

bool OutgoingMigration::cancel() {
  if (find_transition(SourceMachine::table(), machine_.state(), SourceEvent::kCancelRequest) == nullptr) return false;
  fail_with(SourceEvent::kCancelRequest, make_failure(wire::Failure::CANCELLED, "cancelled", name(), ""));
  return true;
}

bool OutgoingMigration::retry() {
  if (machine_.state() != SourceState::kStranded) return false;
  failure_.Clear();
  on(SourceEvent::kRetry);
  return true;
}

// --- Events -------------------------------------------------------------------------------------------------------

void OutgoingMigration::on(SourceEvent event) {
  const auto self = shared_from_this();  // an action may make the daemon let go
  const SourceState before = machine_.state();
  const Step<SourceAction> step = machine_.on(event);
  if (!step.listed) {
    spdlog::debug("outgoing {}: {} means nothing in state {}", name(), name_of(event), name_of(before));
    return;
  }
  if (machine_.state() != before) entered(before);
  for (const SourceAction action : step.actions) perform(action);
  if (machine_.state() != before) host_.outgoing_changed(this);
}

void OutgoingMigration::entered(SourceState before) {
  spdlog::info("outgoing {} {}: {} -> {}", name(), hex(attempt()), name_of(before), name_of(machine_.state()));
  if (machine_.state() == SourceState::kQuiesce) gate_closed_ = seconds_now();
  const wire::Phase phase = wire_phase(phase_of(machine_.state()));
  if (phases_.empty() || phases_.back().first != phase) phases_.emplace_back(phase, seconds_now());
  arm_timer();
  // Our agent may have told before the last record left.
  if (machine_.state() == SourceState::kVerify && ready_arrived_) poll_ready();
  if (!machine_.finished()) return;
  finished_at_ = gate_opened_ = seconds_now();
  redial_timer_.cancel();
  agent_.unwatch(this);
  if (enclave_ && enclave_->user == this) enclave_->user = nullptr;
  if (local_) local_->owner_gone();  // it runs on, and has nobody to report to any more
}

void OutgoingMigration::fail_with(SourceEvent event, wire::Failure failure) {
  const bool counts = find_transition(SourceMachine::table(), machine_.state(), event) != nullptr;
  const bool worse = failure.kind() == wire::Failure::LOST;
  if (counts && (worse || failure_.kind() == wire::Failure::KIND_UNSPECIFIED)) failure_ = std::move(failure);
  on(event);
}

wire::Failure OutgoingMigration::refused(std::string what, Errc error) const {
  return make_failure(wire::Failure::REFUSED, std::move(what), name(), "the enclave runs on here", error);
}

void OutgoingMigration::perform(SourceAction action) {
  switch (action) {
    case SourceAction::kNone:
      return;
    case SourceAction::kConnectPeer:
      return connect_peer();
    case SourceAction::kOpenSession:
      return open_session();
    case SourceAction::kOffer:
      return offer();
    case SourceAction::kStartTarget:
      return start_target();
    case SourceAction::kQuiesce:
      return quiesce();
    case SourceAction::kDump:
      return dump();
    case SourceAction::kCommit:
      return commit();
    case SourceAction::kAskTicket:
      return ask_ticket();
    case SourceAction::kHandTicket:
      return hand_ticket();
    case SourceAction::kTellCommitted:
      return tell_committed();
    case SourceAction::kAttach:
      return attach();
    case SourceAction::kAskAgent:
      return ask_agent();
    case SourceAction::kResumeLocal:
      return resume_local();
    case SourceAction::kStopLocal:
      return stop_local();
    case SourceAction::kCancelSource:
      return cancel_source();
    case SourceAction::kCancelAgent:
      return cancel_agent();
    case SourceAction::kCancelTarget:
      return cancel_target();
    case SourceAction::kRelease:
      return release_source();
    case SourceAction::kDropStream:
      return drop_stream();
  }
}

std::chrono::milliseconds OutgoingMigration::patience() const {
  const Timeouts& t = options_.timeouts;
  switch (machine_.state()) {
    case SourceState::kConnect:
      return t.connect;
    case SourceState::kSession:
    case SourceState::kOffer:
      return t.session;
    case SourceState::kTarget:
      return t.spawn + t.session;
    case SourceState::kQuiesce:
      return t.quiesce + t.session;  // the process itself keeps to the budget
    case SourceState::kDump:
      return t.stall;
    case SourceState::kVerify:
      return t.verify;
    case SourceState::kGrant:
    case SourceState::kForsaken:
      return t.grant;
    case SourceState::kRedial:
      return t.redial;
    case SourceState::kRecover:
      return t.recover;
    case SourceState::kCancelling:
    case SourceState::kAborting:
      return t.session;
    default:
      return std::chrono::milliseconds::zero();
  }
}

void OutgoingMigration::arm_timer() {
  timer_.cancel();
  const auto limit = patience();
  if (limit == std::chrono::milliseconds::zero()) return;
  timer_.expires_after(limit);
  timer_.async_wait(here([this](const std::error_code& error) {
    if (error) return;
    fail_with(SourceEvent::kTimeout, make_failure(wire::Failure::FAILED, "no progress in phase", name_of(state()),
                                                  "see the logs of both hosts' sealiftd"));
  }));
}

void OutgoingMigration::agent_up(bool same) {
  if (!agent_instance_.empty()) same = agent_.info().instance_key() == agent_instance_;
  same ? on(SourceEvent::kAgentBack) : ticket_lost();
  if (const auto now = std::exchange(when_agent_up_, nullptr)) now();
}

void OutgoingMigration::ticket_lost() {
  session_ = 0;
  fail_with(SourceEvent::kAgentReplaced, make_failure(wire::Failure::LOST, "the agent that held the ticket is gone",
                                                      name(), "this instance cannot be brought back; start a new one"));
}

void OutgoingMigration::agent_down() {
  fail_with(SourceEvent::kAgentGone,
            make_failure(wire::Failure::NO_AGENT, "lost the agent on this machine", options_.agent_socket, ""));
}

void OutgoingMigration::agent_event(const wire::AgentEvent& event) {
  if (event.attempt() != attempt() || attempt().empty()) return;
  const auto error = static_cast<Errc>(event.errc());
  if (event.kind() == wire::AgentEvent::OFFER_ACCEPTED) on(SourceEvent::kOffered);
  if (event.kind() == wire::AgentEvent::OFFER_REFUSED && machine_.state() == SourceState::kOffer) {
    fail_with(SourceEvent::kAgentError, refused("the target machine was refused", error));
  }
  if (event.kind() == wire::AgentEvent::READY_ARRIVED) {
    ready_arrived_ = true;
    if (machine_.state() == SourceState::kVerify) poll_ready();
  }
}

// --- The enclave --------------------------------------------------------------------------------------------------

void OutgoingMigration::enclave_record(std::string& record) {
  if (machine_.state() != SourceState::kDump) return;
  try {
    spool_->append(record);
  } catch (const std::system_error& error) {
    return fail_with(SourceEvent::kSourceError, make_failure(wire::Failure::FAILED, "cannot keep the stream",
                                                             error.what(), "free space, or give another --spool-dir"));
  }
  arm_timer();
  const bool final = looks_final(record);
  wire::Envelope message;
  message.mutable_peer_record()->set_attempt(attempt());
  message.mutable_peer_record()->set_record(std::move(record));
  if (final) {
    progress_.set_total(spool_->bytes());
    on(SourceEvent::kStreamed);
  }
  peer_->notify(std::move(message));
}

void OutgoingMigration::enclave_dump_end(Errc error) {
  if (machine_.state() != SourceState::kDump) return;
  if (error == Errc::kOk) error = Errc::kTruncated;  // an end without a final record
  fail_with(SourceEvent::kSourceError, refused("the enclave cannot be checkpointed", error));
}

void OutgoingMigration::enclave_gone() {
  fail_with(SourceEvent::kSourceGone, make_failure(wire::Failure::FAILED, "the enclave's process ended", name(), ""));
}

// --- The peer -----------------------------------------------------------------------------------------------------

void OutgoingMigration::peer_up() {
  on(SourceEvent::kPeerUp);
}

void OutgoingMigration::peer_gone(const wire::Failure& why) {
  fail_with(SourceEvent::kPeerGone, why);
}

void OutgoingMigration::peer_event(const wire::TargetEvent& event) {
  switch (event.kind()) {
    case wire::TargetEvent::PREPARED:
      return on(SourceEvent::kTargetPrepared);
    case wire::TargetEvent::READY:
      return;  // what counts is Ready at our agent
    case wire::TargetEvent::GRANTED:
      return on(SourceEvent::kGranted);
    case wire::TargetEvent::WAITING:
      return on(SourceEvent::kTargetWaiting);
    case wire::TargetEvent::UNKNOWN:
      return fail_with(SourceEvent::kTargetFailed,
                       make_failure(wire::Failure::FAILED, "the target knows nothing of it", peer_->name(), ""));
    case wire::TargetEvent::FAILED:
      return fail_with(SourceEvent::kTargetFailed, event.failure());
    default:
      return;
  }
}

void OutgoingMigration::peer_taken(std::uint64_t count) {
  if (!spool_ || local_) return;
  for (; taken_ < count && taken_ < spool_->records(); ++taken_) progress_.add(seconds_now(), spool_->size_of(taken_));
  if (machine_.state() != SourceState::kDump) return;
  arm_timer();
  wire::Envelope message;
  message.mutable_records_taken()->set_local_id(enclave_->local_id());
  message.mutable_records_taken()->set_count(taken_);
  enclave_->notify(std::move(message));
}

wire::MigrationInfo OutgoingMigration::info() const {
  wire::MigrationInfo out;
  out.set_attempt(attempt());
  out.set_lineage(lineage());
  out.set_epoch(incoming_.epoch());
  out.set_name(name());
  out.set_peer(peer_->name());
  out.set_phase(wire_phase(phase_of(machine_.state())));
  const double now = finished() ? finished_at_ : seconds_now();
  const ProgressView view = progress_.at(now);
  out.set_records(view.records);
  out.set_bytes_done(view.bytes);
  out.set_bytes_total(view.total_bytes);
  out.set_bytes_per_second(view.bytes_per_second);
  out.set_seconds_left(view.seconds_left);
  if (gate_closed_ > 0) out.set_downtime_seconds((gate_opened_ > 0 ? gate_opened_ : now) - gate_closed_);
  out.set_total_seconds(now - started_);
  out.set_detail(name_of(machine_.state()));
  for (std::size_t i = 0; i < phases_.size(); ++i) {
    if (i + 1 == phases_.size() && finished()) break;  // being over takes no time
    wire::PhaseTime& time = *out.add_phases();
    time.set_phase(phases_[i].first);
    time.set_seconds((i + 1 < phases_.size() ? phases_[i + 1].second : now) - phases_[i].second);
  }
  if (failure_.kind() != wire::Failure::KIND_UNSPECIFIED && machine_.state() != SourceState::kDone) {
    *out.mutable_failure() = failure_;
  }
  return out;
}

}  // namespace sealift::daemon

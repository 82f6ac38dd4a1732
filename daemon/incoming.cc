#include "daemon/incoming.h"

#include <spdlog/spdlog.h>

#include <cstring>
#include <random>
#include <utility>

#include "daemon/failure.h"
#include "daemon/journal.h"
#include "migration/record.h"

namespace sealift::daemon {

namespace {

// Guessing one would let a local process of the same user take the place of the one that was started; nothing more,
// as the enclave proves itself to the agent.
std::string random_token() {
  std::random_device device;
  std::string bytes;
  for (int i = 0; i < 16; ++i) bytes.push_back(static_cast<char>(device() & 0xff));
  return hex(bytes);
}

wire::TargetEvent::Kind kind_of(TargetAction action) {
  switch (action) {
    case TargetAction::kTellPrepared:
      return wire::TargetEvent::PREPARED;
    case TargetAction::kTellReady:
      return wire::TargetEvent::READY;
    case TargetAction::kTellWaiting:
      return wire::TargetEvent::WAITING;
    case TargetAction::kTellGranted:
      return wire::TargetEvent::GRANTED;
    default:
      return wire::TargetEvent::FAILED;
  }
}

wire::Phase phase_of(TargetState state) {
  switch (state) {
    case TargetState::kIdle:
    case TargetState::kSpawn:
    case TargetState::kSession:
      return wire::PREPARE;
    case TargetState::kStream:
      return wire::STREAM;
    case TargetState::kVerify:
    case TargetState::kReady:
    case TargetState::kReadyOrphan:
      return wire::READY;
    case TargetState::kGrant:
    case TargetState::kGrantOrphan:
    case TargetState::kInstall:
      return wire::GRANT;
    case TargetState::kGranted:
      return wire::DONE;
    case TargetState::kCancelled:
      return wire::CANCELLED;
    case TargetState::kFailed:
      return wire::FAILED;
  }
  return wire::FAILED;
}

}  // namespace

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

bool looks_final(const std::string& record) {
  record::RecordHeader header{};
  if (record.size() < sizeof(header)) return false;
  std::memcpy(&header, record.data(), sizeof(header));
  return header.kind == static_cast<std::uint16_t>(record::Kind::kFinal);
}

IncomingMigration::IncomingMigration(asio::io_context& io, const Options& options, AgentClient& agent,
                                     wire::Incoming incoming, std::function<void()> on_finished)
    : io_(io),
      options_(options),
      agent_(agent),
      incoming_(std::move(incoming)),
      on_finished_(std::move(on_finished)),
      token_(random_token()),
      started_(seconds_now()),
      timer_(io) {
  agent_.watch(this);
}

IncomingMigration::~IncomingMigration() {
  agent_.unwatch(this);
  if (enclave_ && enclave_->user == this) enclave_->user = nullptr;
}

void IncomingMigration::start(Owner* owner) {
  owner_ = owner;
  owner_name_ = owner->owner_name();
  local_ = owner->agent_link() == 0;
  on(TargetEvent::kStart);
}

void IncomingMigration::reattach(std::shared_ptr<Enclave> enclave) {
  enclave_ = std::move(enclave);
  enclave_->user = this;
  enclave_hello_ = enclave_->registration().enclave_hello();
  on(TargetEvent::kReattached);
}

// --- Events -------------------------------------------------------------------------------------------------------

void IncomingMigration::on(TargetEvent event) {
  const auto self = shared_from_this();  // an action may make the owner let go
  const TargetState before = machine_.state();
  const Step<TargetAction> step = machine_.on(event);
  if (!step.listed) {
    spdlog::debug("incoming {}: {} means nothing in state {}", hex(attempt()), name_of(event), name_of(before));
    return;
  }
  if (machine_.state() != before) {
    spdlog::info("incoming {}: {} -> {} ({})", hex(attempt()), name_of(before), name_of(machine_.state()),
                 name_of(event));
    arm_timer();
  }
  for (const TargetAction action : step.actions) perform(action);
  if (machine_.finished() && machine_.state() != before) finish();
}

void IncomingMigration::fail_with(TargetEvent event, Errc error, const std::string& what) {
  if (failure_.kind() == wire::Failure::KIND_UNSPECIFIED) {
    failure_ = make_failure(wire::Failure::REFUSED, what, incoming_.name(), "see the target's log", error);
  }
  on(event);
}

void IncomingMigration::perform(TargetAction action) {
  switch (action) {
    case TargetAction::kNone:
      return;
    case TargetAction::kSpawn:
      return spawn();
    case TargetAction::kOpenSession:
      return open_session();
    case TargetAction::kReopenSession:
      return reopen_session();
    case TargetAction::kTakeNotice:
      return take_notice();
    case TargetAction::kRequestGrant:
      return request_grant();
    case TargetAction::kGiveGrant:
      return;  // done by poll_grant, which has the bytes
    case TargetAction::kStopProcess:
      return stop_process();
    case TargetAction::kTellPrepared:
    case TargetAction::kTellReady:
    case TargetAction::kTellWaiting:
    case TargetAction::kTellGranted:
    case TargetAction::kTellFailed:
      return tell(kind_of(action));
  }
}

std::chrono::milliseconds IncomingMigration::patience() const {
  const Timeouts& t = options_.timeouts;
  switch (machine_.state()) {
    case TargetState::kSpawn:
      return t.spawn;
    case TargetState::kSession:
      return t.session;
    case TargetState::kStream:
      // Without an end: the source quiesces in its own time, and its loss is noticed otherwise.
      return std::chrono::milliseconds::zero();
    case TargetState::kVerify:
      return t.verify;
    case TargetState::kReady:
    case TargetState::kReadyOrphan:
      return t.ready_wait;
    default:
      return std::chrono::milliseconds::zero();
  }
}

void IncomingMigration::arm_timer() {
  timer_.cancel();
  const auto limit = patience();
  if (limit == std::chrono::milliseconds::zero()) return;
  timer_.expires_after(limit);
  timer_.async_wait(here([this](const std::error_code& error) {
    if (!error)
      fail_with(TargetEvent::kTimeout, Errc::kNotReady, std::string("no progress in ") + name_of(machine_.state()));
  }));
}

void IncomingMigration::agent_up(bool same) {
  const bool asking = machine_.state() == TargetState::kGrant || machine_.state() == TargetState::kGrantOrphan;
  if (same && !session_open_ && asking) return reopen_session();
  if (same) return;
  session_ = 0;
  fail_with(TargetEvent::kAgentReplaced, Errc::kNoSession, "the target's agent was restarted");
}

void IncomingMigration::agent_down() {
  fail_with(TargetEvent::kAgentGone, Errc::kNoSession, "the target's agent is gone");
}

void IncomingMigration::agent_event(const wire::AgentEvent& event) {
  if (event.attempt() != attempt()) return;
  const bool asking = machine_.state() == TargetState::kGrant || machine_.state() == TargetState::kGrantOrphan;
  if (event.kind() == wire::AgentEvent::GRANTED && asking) poll_grant();
  if (event.kind() == wire::AgentEvent::GRANT_REFUSED && asking) grant_answer(static_cast<Errc>(event.errc()));
  if (event.kind() == wire::AgentEvent::OFFER_ARRIVED && asking) introduce();
  if (event.kind() == wire::AgentEvent::FORGOTTEN) on(TargetEvent::kCancelRequest);
}

// --- The process --------------------------------------------------------------------------------------------------

void IncomingMigration::spawn() {
  const wire::Program& program = incoming_.program();
  if (!may_start(options_, program.exe())) {
    failure_ = make_failure(wire::Failure::REFUSED, "the target may not start this program", program.exe(),
                            "install it there and name it in sealiftd's --allow-program");
    return on(TargetEvent::kProcessError);
  }
  Command command;
  command.argv = options_.launcher;
  const bool wrapped = !command.argv.empty();
  if (wrapped) command.argv.push_back(program.exe());
  command.argv.insert(command.argv.end(), program.argv().begin() + (wrapped && program.argv_size() > 0 ? 1 : 0),
                      program.argv().end());
  if (command.argv.empty()) command.argv.push_back(program.exe());
  command.exe = wrapped ? options_.launcher.front() : program.exe();
  command.cwd = program.cwd();
  command.env = merge_environment({program.env().begin(), program.env().end()}, own_environment());
  std::erase_if(command.env, [](const std::string& e) { return e.starts_with("SEALIFT_"); });
  command.env.push_back("SEALIFT_SOCKET=" + options_.socket);
  command.env.push_back("SEALIFT_ADOPT=" + token_);
  command.log = options_.state_dir / (hex(attempt()) + ".log");
  try {
    child_ = Child::start(io_, command, [weak = weak_from_this()](int status) {
      const auto self = weak.lock();
      if (!self || self->enclave_) return;  // a registered enclave's loss is told by its connection
      spdlog::warn("incoming {}: the program ended, status {}", hex(self->attempt()), status);
      self->fail_with(TargetEvent::kProcessGone, Errc::kCrashed, "the target's program ended before it was ready");
    });
    spdlog::info("incoming {}: started {} as {}, log {}", hex(attempt()), command.exe, child_->pid(),
                 command.log.string());
  } catch (const std::system_error& error) {
    failure_ = make_failure(wire::Failure::REFUSED, "the target cannot start the program", error.what(),
                            "install it there at the same path");
    on(TargetEvent::kProcessError);
  }
}

wire::Adoption IncomingMigration::adoption() const {
  wire::Adoption out;
  out.set_elrange_base(incoming_.elrange_base());
  out.set_elrange_size(incoming_.elrange_size());
  out.set_attempt(incoming_.attempt());
  out.set_mrenclave(incoming_.mrenclave());
  out.set_image(incoming_.image());
  out.set_name(incoming_.name());
  return out;
}

void IncomingMigration::built(std::shared_ptr<Enclave> enclave) {
  if (machine_.state() != TargetState::kSpawn) return;
  enclave_ = std::move(enclave);
  enclave_->user = this;
  on(TargetEvent::kBuilt);
}

void IncomingMigration::build_failed(Errc error, const std::string& text) {
  fail_with(TargetEvent::kProcessError, error, "the target cannot build the enclave: " + text);
}

void IncomingMigration::enclave_record(std::string&) {}
void IncomingMigration::enclave_dump_end(Errc) {}

void IncomingMigration::enclave_taken(std::uint64_t count, Errc error) {
  if (machine_.state() != TargetState::kStream) return;
  if (error != Errc::kOk) return fail_with(TargetEvent::kProcessError, error, "the target refused a record");
  if (owner_ != nullptr) owner_->target_taken(attempt(), count);
  if (final_fed_ && count == fed_) on(TargetEvent::kRestored);
}

void IncomingMigration::enclave_gone() {
  fail_with(TargetEvent::kProcessGone, Errc::kCrashed, "the target's program ended");
}

void IncomingMigration::stop_process() {
  if (enclave_) {
    enclave_->release_abandoned(failure_.errc() != 0 ? static_cast<Errc>(failure_.errc()) : Errc::kUnknownAttempt);
    enclave_->user = nullptr;
  }
  if (child_) child_->terminate(options_.timeouts.kill);
}

// --- The owner ----------------------------------------------------------------------------------------------------

void IncomingMigration::record(std::string record) {
  if (machine_.state() != TargetState::kStream) return;
  if (fed_ == 0) progress_.begin(seconds_now(), 0);
  progress_.add(seconds_now(), record.size());
  ++fed_;
  final_fed_ = looks_final(record);
  wire::Envelope message;
  message.mutable_record()->set_local_id(enclave_->local_id());
  message.mutable_record()->set_record(std::move(record));
  enclave_->notify(std::move(message));
}

void IncomingMigration::committed() {
  on(TargetEvent::kCommitted);
}
void IncomingMigration::cancel() {
  on(TargetEvent::kCancelRequest);
}

void IncomingMigration::owner_gone() {
  owner_ = nullptr;
  fail_with(TargetEvent::kPeerGone, Errc::kNoSession, "the source's daemon is gone");
}

void IncomingMigration::owner_back(Owner* owner) {
  owner_ = owner;
  owner_name_ = owner->owner_name();
  failure_.Clear();
  on(TargetEvent::kPeerBack);
}

bool IncomingMigration::takes_cancel() const {
  return find_transition(TargetMachine::table(), machine_.state(), TargetEvent::kCancelRequest) != nullptr;
}

void IncomingMigration::tell(wire::TargetEvent::Kind kind) {
  if (owner_ == nullptr) return;
  owner_->target_event(attempt(), kind, kind == wire::TargetEvent::FAILED ? failure_ : wire::Failure());
}

void IncomingMigration::shut_down() {
  const TargetState state = machine_.state();
  // What may hold, or be about to hold, the grant waits for this daemon to come back.
  const bool waits = state == TargetState::kReady || state == TargetState::kReadyOrphan ||
                     state == TargetState::kGrant || state == TargetState::kGrantOrphan ||
                     state == TargetState::kInstall;
  if (state == TargetState::kGranted ? options_.stop_children : !waits) stop_process();
}

void IncomingMigration::finish() {
  timer_.cancel();
  if (session_ != 0) {
    wire::Envelope message;
    message.mutable_agent_local_close()->set_session(session_);
    agent_.notify(std::move(message));
  }
  // For the source's own agent the attempt is not over: it holds the ticket.
  if (!granted() && !local_) {
    wire::Envelope message;
    message.mutable_agent_forget()->set_attempt(attempt());
    agent_.notify(std::move(message));
  }
  if (enclave_ && enclave_->user == this) enclave_->user = nullptr;
  agent_.unwatch(this);
  if (!granted()) owner_ = nullptr;  // has heard all there is, and need not outlive this
  asio::post(io_, [on_finished = std::exchange(on_finished_, nullptr)] {
    if (on_finished) on_finished();
  });
}

wire::MigrationInfo IncomingMigration::info() const {
  wire::MigrationInfo out;
  out.set_attempt(attempt());
  out.set_lineage(incoming_.lineage());
  out.set_epoch(incoming_.epoch());
  out.set_name(incoming_.name());
  out.set_peer(owner_name_);
  out.set_incoming(true);
  out.set_phase(phase_of(machine_.state()));
  const ProgressView view = progress_.at(seconds_now());
  out.set_records(view.records);
  out.set_bytes_done(view.bytes);
  out.set_bytes_per_second(view.bytes_per_second);
  out.set_seconds_left(-1);
  out.set_total_seconds(seconds_now() - started_);
  out.set_detail(name_of(machine_.state()));
  if (machine_.finished() && !granted()) *out.mutable_failure() = failure_;
  return out;
}

}  // namespace sealift::daemon

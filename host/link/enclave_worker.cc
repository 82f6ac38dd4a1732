#include "host/link/enclave_worker.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <utility>

#include "daemon/failure.h"
#include "migration/messages.h"

namespace sealift::host {

namespace {

std::span<const std::byte> bytes_of(const std::string& text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

std::string string_of(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string attempt_in(const std::string& enclave_hello) {
  return enclave_hello.size() == sizeof(messages::EnclaveHello)
             ? enclave_hello.substr(offsetof(messages::EnclaveHello, attempt), sizeof(messages::EnclaveHello::attempt))
             : std::string();
}

// What one entry dumps is one message.
static_assert(abi::kControlSlotBytes + 1024 <= daemon::kMaxFrame);

}  // namespace

EnclaveWorker::EnclaveWorker(JobThreads& threads, std::uint64_t id, EnclaveInfo info, ControlPort& port,
                             std::string adopt_token, Send on_link_thread)
    : id_(id),
      info_(std::move(info)),
      port_(port),
      on_link_thread_(std::move(on_link_thread)),
      adopt_token_(std::move(adopt_token)),
      part_(adopt_token_.empty() ? Part::kNone : Part::kTarget),
      threads_(threads),
      queue_(std::make_shared<JobThreads::Queue>()) {}

EnclaveWorker::~EnclaveWorker() {
  stop_stream();
  threads_.close(*queue_);
}

void EnclaveWorker::post(JobThreads::Job job) {
  threads_.post(queue_, std::move(job));
}

wire::Register EnclaveWorker::registration() const {
  wire::Register out;
  out.set_local_id(id_);
  out.set_name(info_.name);
  out.set_image(info_.image);
  out.mutable_program()->set_exe(info_.program.exe);
  out.mutable_program()->mutable_argv()->Assign(info_.program.argv.begin(), info_.program.argv.end());
  out.mutable_program()->set_cwd(info_.program.cwd);
  out.mutable_program()->mutable_env()->Assign(info_.program.env.begin(), info_.program.env.end());
  // Too large for one message: the daemon then lists the enclave and says why it cannot be started elsewhere.
  if (out.ByteSizeLong() > daemon::kMaxFrame / 2) out.clear_program();
  out.set_elrange_base(info_.elrange_base);
  out.set_elrange_size(info_.elrange_size);
  out.set_mrenclave(std::string(info_.mrenclave.begin(), info_.mrenclave.end()));
  out.set_pid(static_cast<std::uint32_t>(::getpid()));
  out.set_epc_bytes(info_.epc_bytes);
  abi::Status status{};
  if (port_.status(status) == Errc::kOk) last_status_ = status;
  if (last_status_) out.set_status(std::string(reinterpret_cast<const char*>(&*last_status_), sizeof(abi::Status)));
  const std::lock_guard lock(mutex_);
  if (!held_.attempt().empty()) *out.mutable_held() = held_;
  out.set_adopt_token(adopt_token_);
  out.set_enclave_hello(enclave_hello_);
  return out;
}

void EnclaveWorker::handle(const std::shared_ptr<daemon::Connection>& from, wire::Envelope& message) {
  const Peer peer = from;
  switch (message.body_case()) {
    case wire::Envelope::kControl:
      if (message.control().op() == static_cast<std::uint32_t>(abi::ControlOp::kStatus)) {
        abi::Status status{};
        const Errc error = port_.status(status);
        const auto* data = reinterpret_cast<const std::byte*>(&status);
        return reply(peer, message.id(), error, {data, data + sizeof(status)});
      }
      // A dump that waits for credit would keep the cancel waiting.
      if (message.control().op() == static_cast<std::uint32_t>(abi::ControlOp::kCancel)) stop_stream();
      post([this, peer, message = std::move(message)] { control(peer, message); });
      return;
    case wire::Envelope::kQuiesce:
      post([this, peer, id = message.id(), budget = message.quiesce().budget_ms()] {
        const JobThreads::Waiting waiting(threads_);
        reply(peer, id, port_.quiesce(std::chrono::milliseconds(budget)));
      });
      return;
    case wire::Envelope::kDumpBegin: {
      stop_stream();
      const std::lock_guard lock(mutex_);
      credits_ = 0;
      post([this, peer, window = message.dump_begin().window(), generation = generation_] {
        dump(peer, window, generation);
      });
      return;
    }
    case wire::Envelope::kRecordsTaken: {
      const std::lock_guard lock(mutex_);
      credits_ = message.records_taken().count();
      changed_.notify_all();
      return;
    }
    case wire::Envelope::kRecord: {
      const std::lock_guard lock(mutex_);
      post([this, peer, record = std::move(*message.mutable_record()->mutable_record()), generation = generation_] {
        take_record(peer, record, generation);
      });
      return;
    }
    case wire::Envelope::kHold:
      post([this, peer, id = message.id(), ms = message.hold().budget_ms()] { hold(peer, id, ms); });
      return;
    case wire::Envelope::kRebuild:
      post([this, peer, id = message.id(), attempt = message.rebuild().attempt()] { rebuild(peer, id, attempt); });
      return;
    case wire::Envelope::kRefill:
      post([this, peer, id = message.id()] { reply(peer, id, records_.give(port_)); });
      return;
    case wire::Envelope::kRelease:
      stop_stream();
      post([this, release = message.release()] { this->release(release); });
      return;
    default:
      from->reply(message.id(),
                  daemon::make_failure(wire::Failure::BAD_REQUEST, "not a message for an enclave", "", ""));
  }
}

void EnclaveWorker::connection_lost() {
  stop_stream();
  post([this] { give_up(); });
}

void EnclaveWorker::control(const Peer& from, const wire::Envelope& message) {
  const auto op = static_cast<abi::ControlOp>(message.control().op());
  std::vector<std::byte> out;
  // Between the call and its answer nobody knows: that counts as committed.
  const Part before = part_;
  const bool commits = op == abi::ControlOp::kCommit || op == abi::ControlOp::kCommitHeld;
  if (commits) part_ = Part::kCommitted;
  const Errc error = port_.control(op, bytes_of(message.control().input()), out);
  if (commits && error != Errc::kOk) part_ = before;
  after_control(op, error, out);
  reply(from, message.id(), error, out);
}

void EnclaveWorker::after_control(abi::ControlOp op, Errc error, const std::vector<std::byte>& out) {
  if (error != Errc::kOk) return;
  if (op == abi::ControlOp::kAgentHello) {
    const std::lock_guard lock(mutex_);
    enclave_hello_ = string_of(out);
    if (part_ == Part::kNone) part_ = Part::kSource;
  } else if (op == abi::ControlOp::kCommitHeld) {
    const std::lock_guard lock(mutex_);
    if (!held_.attempt().empty()) return;  // a repeat
    held_.set_attempt(attempt_in(enclave_hello_));
    held_.set_source_hello(enclave_hello_);
    held_.set_ticket(string_of(out));
    held_.set_record_bytes(records_.bytes());
  } else if (op == abi::ControlOp::kReady) {
    part_ = Part::kRestored;
  } else if (op == abi::ControlOp::kCancel || op == abi::ControlOp::kGrant) {
    {
      const std::lock_guard lock(mutex_);
      enclave_hello_.clear();
      adopt_token_.clear();
      held_.Clear();
    }
    records_.drop();
    part_ = Part::kNone;
    port_.resumed();
  }
}

void EnclaveWorker::dump(const Peer& from, std::uint32_t window, std::uint64_t generation) {
  for (std::uint64_t sent = 0;; ++sent) {
    if (!wait_for_credit(window, sent, generation)) return;
    std::vector<std::byte> record;
    const Errc error = port_.control(abi::ControlOp::kDump, {}, record);
    if (error == Errc::kOk) {
      wire::Envelope message;
      message.mutable_record()->set_local_id(id_);
      message.mutable_record()->set_record(record.data(), record.size());
      notify(from, std::move(message));
    }
    if (error != Errc::kOk || is_final(record)) {
      wire::Envelope end;
      end.mutable_dump_end()->set_local_id(id_);
      end.mutable_dump_end()->set_errc(static_cast<std::uint32_t>(error));
      return notify(from, std::move(end));
    }
  }
}

bool EnclaveWorker::wait_for_credit(std::uint32_t window, std::uint64_t sent, std::uint64_t generation) {
  std::unique_lock lock(mutex_);
  const auto may_go_on = [&] { return generation != generation_ || sent < credits_ + window; };
  if (!may_go_on()) {
    const JobThreads::Waiting waiting(threads_);
    changed_.wait(lock, may_go_on);
  }
  return generation == generation_;
}

void EnclaveWorker::take_record(const Peer& from, const std::string& record, std::uint64_t generation) {
  if (generation != taking_generation_) {
    taking_generation_ = generation;
    records_taken_ = 0;
    record_error_ = Errc::kOk;
  }
  if (record_error_ != Errc::kOk) return;
  std::vector<std::byte> out;
  record_error_ = port_.control(abi::ControlOp::kRecord, bytes_of(record), out);
  if (record_error_ == Errc::kOk) ++records_taken_;
  wire::Envelope message;
  message.mutable_records_taken()->set_local_id(id_);
  message.mutable_records_taken()->set_count(records_taken_);
  message.mutable_records_taken()->set_errc(static_cast<std::uint32_t>(record_error_));
  notify(from, std::move(message));
}

void EnclaveWorker::release(const wire::Release& release) {
  part_ = Part::kNone;
  {
    const std::lock_guard lock(mutex_);
    held_.Clear();
  }
  records_.drop();
  if (release.destroyed()) return port_.destroyed();
  port_.abandoned(static_cast<Errc>(release.errc()));
}

// Into this process's memory. What fails here leaves nothing behind: the enclave goes on.
void EnclaveWorker::hold(const Peer& from, std::uint64_t id, std::uint32_t budget_ms) {
  Errc error = Errc::kNoSession;
  if (part_ == Part::kSource) {
    const JobThreads::Waiting waiting(threads_);
    error = records_.come_to_rest(port_, std::chrono::milliseconds(budget_ms));
  }
  if (error == Errc::kOk) error = records_.take(port_);
  if (part_ == Part::kSource && error != Errc::kOk) cancel();
  wire::Envelope message;
  message.mutable_held()->set_errc(static_cast<std::uint32_t>(error));
  message.mutable_held()->set_record_bytes(records_.bytes());
  message.mutable_held()->set_gate_closed_ns(records_.gate_closed_ns());
  message.mutable_held()->set_held_ns(records_.held_ns());
  answer(from, id, std::move(message));
}

void EnclaveWorker::rebuild(const Peer& from, std::uint64_t id, const std::string& attempt) {
  std::string expected;
  {
    const std::lock_guard lock(mutex_);
    expected = held_.attempt();
  }
  std::array<std::uint8_t, 16> bytes{};
  if (expected.empty() || attempt != expected || attempt.size() != bytes.size()) {
    return reply(from, id, Errc::kNotReady, {}, "there is no committed checkpoint of this attempt");
  }
  std::copy(attempt.begin(), attempt.end(), bytes.begin());
  std::string text;
  const Errc error = port_.rebuild(bytes, text);
  part_ = Part::kCommitted;
  reply(from, id, error, {}, text);
}

void EnclaveWorker::cancel() {
  std::vector<std::byte> out;
  const Errc error = port_.control(abi::ControlOp::kCancel, {}, out);
  after_control(abi::ControlOp::kCancel, error, out);
}

void EnclaveWorker::give_up() {
  if (part_ == Part::kSource) {
    cancel();
  } else if (part_ == Part::kTarget) {
    part_ = Part::kNone;
    port_.abandoned(Errc::kNoSession);
  }
}

void EnclaveWorker::stop_stream() {
  const std::lock_guard lock(mutex_);
  ++generation_;
  changed_.notify_all();
}

void EnclaveWorker::notify(const Peer& to, wire::Envelope message) {
  on_link_thread_([to, message = std::move(message)] {
    if (const auto connection = to.lock()) connection->notify(message);
  });
}

void EnclaveWorker::reply(const Peer& to, std::uint64_t id, Errc error, const std::vector<std::byte>& out,
                          const std::string& text) {
  wire::Envelope message;
  message.mutable_control_result()->set_errc(static_cast<std::uint32_t>(error));
  if (error == Errc::kOk) message.mutable_control_result()->set_output(out.data(), out.size());
  message.mutable_control_result()->set_text(text);
  answer(to, id, std::move(message));
}

void EnclaveWorker::answer(const Peer& to, std::uint64_t id, wire::Envelope message) {
  on_link_thread_([to, id, message = std::move(message)] {
    if (const auto connection = to.lock()) connection->reply(id, message);
  });
}

}  // namespace sealift::host

#include "daemon/broker_enclave.h"

#include <spdlog/spdlog.h>

#include <utility>

#include "daemon/failure.h"
#include "daemon/journal.h"
#include "migration/messages.h"

namespace sealift::daemon {

namespace {

constexpr std::size_t kAttemptOffset = offsetof(messages::EnclaveHello, attempt);

std::uint64_t now_ns() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(now).count());
}

// For a program to answer, on a slow and busy guest.
constexpr std::chrono::milliseconds kGrace{3'000};

// For an attempt to be made, while every other enclave of a small guest makes one.
constexpr std::chrono::milliseconds kPrepareTime{15'000};

// Very slow: what the encryption does under emulation, several enclaves at once.
std::chrono::milliseconds dump_time(std::uint64_t pages) {
  constexpr std::uint64_t kPagesAMillisecond = 1;
  return std::chrono::milliseconds(pages / kPagesAMillisecond);
}

}  // namespace

BrokerEnclave::BrokerEnclave(asio::io_context& io, Host& host, std::uint64_t id, std::shared_ptr<Enclave> enclave)
    : io_(io), host_(host), id_(id), enclave_(std::move(enclave)), retry_timer_(io), turn_timer_(io) {
  const wire::Register& known = enclave_->registration();
  if (known.held().attempt().empty()) return;
  // It committed under an earlier broker. Who has the ticket is not known here: it is offered once more.
  attempt_ = known.held().attempt();
  source_hello_ = known.held().source_hello();
  ticket_ = known.held().ticket();
  record_bytes_ = known.held().record_bytes();
  if (known.enclave_hello() != source_hello_) target_hello_ = known.enclave_hello();
  state_ = Row::UNTICKETED;
  recovered_ = true;
}

BrokerEnclave::~BrokerEnclave() {
  retry_timer_.cancel();
}

// --- State --------------------------------------------------------------------------------------------------------

void BrokerEnclave::set(Row::State state) {
  if (state != state_) {
    spdlog::info("enclave {} {}: {} -> {}", enclave_->registration().name(), id_, wire::GuestRow::State_Name(state_),
                 wire::GuestRow::State_Name(state));
  }
  state_ = state;
  if (state != Row::RESUMING) end_turn();
  host_.enclave_changed(*this);
}

void BrokerEnclave::leave_chain() {
  ++chain_;
  retry_ = nullptr;
  retry_timer_.cancel();
}

void BrokerEnclave::after(std::chrono::milliseconds time, std::function<void()> step) {
  retry_timer_.expires_after(time);
  retry_timer_.async_wait(here([step = std::move(step)](const std::error_code& error) {
    if (!error) step();
  }));
}

void BrokerEnclave::finish(Errc error) {
  // Not from inside the step: the broker may then begin the next.
  if (const auto done = std::exchange(done_, nullptr)) asio::post(io_, [done, error] { done(error); });
}

void BrokerEnclave::forget_attempt() {
  attempt_.clear();
  source_hello_.clear();
  target_hello_.clear();
  ticket_.clear();
  record_bytes_ = 0;
  restored_ = recovered_ = ticketed_ = elsewhere_ = false;
}

void BrokerEnclave::updated() {
  host_.enclave_changed(*this);
}

void BrokerEnclave::gone() {
  leave_chain();
  end_turn();
  finish(Errc::kNoSession);
}

void BrokerEnclave::look_for_loss(std::function<void()> done) {
  enclave_->control(abi::ControlOp::kStatus, "",
                    [self = shared_from_this(), done = std::move(done)](Errc error, const std::string& output) {
                      self->enclave_->set_status(output);
                      const bool running = self->state_ == Row::RUNNING || self->state_ == Row::PREPARED;
                      if (error == Errc::kEpcLost && running) self->lost(error, "its memory went without a checkpoint");
                      done();
                    });
}

BrokerEnclave::Row BrokerEnclave::row() const {
  Row out;
  const wire::EnclaveRow known = enclave_->row();
  out.set_id(id_);
  out.set_name(known.name());
  out.set_pid(known.pid());
  out.set_lineage(known.lineage());
  out.set_epoch(known.epoch());
  out.set_mrenclave(known.mrenclave());
  out.set_pages(known.pages());
  out.set_gate(known.gate());
  out.set_threads(known.threads());
  out.set_image(known.image());
  out.set_epc_bytes(enclave_->registration().epc_bytes());
  out.set_record_bytes(record_bytes_);
  out.set_state(state_);
  out.set_attempt(attempt_);
  out.set_errc(static_cast<std::uint32_t>(error_));
  out.set_text(text_);
  out.set_gate_closed_ns(gate_closed_ns_);
  out.set_held_ns(held_ns_);
  out.set_committed_ns(committed_ns_);
  out.set_rebuilt_ns(rebuilt_ns_);
  out.set_gate_opened_ns(gate_opened_ns_);
  return out;
}

// --- Messages -----------------------------------------------------------------------------------------------------

void BrokerEnclave::control(abi::ControlOp op, const std::string& input, const std::string& what, const Then& then,
                            const Failed& failed) {
  enclave_->control(op, input, here([what, then, failed](Errc error, const std::string& output) {
                      if (error == Errc::kOk) return then(output);
                      failed(error, what);
                    }));
}

void BrokerEnclave::seal_to_agent(const std::string& sealed, const std::string& what, const Then& then,
                                  const Failed& failed) {
  wire::Envelope message;
  message.mutable_agent_local_message()->set_session(session_);
  message.mutable_agent_local_message()->set_sealed(sealed);
  host_.agent_request(std::move(message), here([what, then, failed](const wire::Envelope& reply) {
                        if (!reply.has_agent_result()) return failed(Errc::kNoSession, to_line(reply.failure()));
                        const auto error = static_cast<Errc>(reply.agent_result().errc());
                        if (error != Errc::kOk) return failed(error, what);
                        then(reply.agent_result().sealed());
                      }));
}

void BrokerEnclave::hello_agent(const std::string& hello, const Then& then, const Failed& failed) {
  wire::Envelope message;
  message.mutable_agent_local_hello()->set_hello(hello);
  host_.agent_request(std::move(message), here([this, then, failed](const wire::Envelope& reply) {
                        if (!reply.has_agent_local_session()) {
                          return failed(Errc::kNoSession, to_line(reply.failure()));
                        }
                        const auto error = static_cast<Errc>(reply.agent_local_session().errc());
                        if (error != Errc::kOk) return failed(error, "the host's agent refused the enclave");
                        session_ = reply.agent_local_session().session();
                        then(reply.agent_local_session().confirm());
                      }));
}

void BrokerEnclave::attest(const Then& then, const Failed& failed) {
  const std::string agent = host_.agent_hello();
  if (agent.empty()) return failed(Errc::kNoSession, "the host has no agent");
  const std::string refused = "the enclave refused the host's agent";
  control(
      abi::ControlOp::kAgentHello, agent, refused,
      [this, then, failed, refused](const std::string& hello) {
        if (hello.size() != sizeof(messages::EnclaveHello)) return failed(Errc::kBadMessage, refused);
        attempt_ = hello.substr(kAttemptOffset, sizeof(messages::EnclaveHello::attempt));
        (state_ == Row::RESUMING ? target_hello_ : source_hello_) = hello;
        hello_agent(
            hello,
            [this, then, failed, refused](const std::string& confirm) {
              control(abi::ControlOp::kAgentConfirm, confirm, refused, then, failed);
            },
            failed);
      },
      failed);
}

void BrokerEnclave::close_session() {
  if (session_ == 0) return;
  wire::Envelope message;
  message.mutable_agent_local_close()->set_session(std::exchange(session_, 0));
  host_.agent_notify(std::move(message));
}

// --- Prepare, hold, commit, abort ---------------------------------------------------------------------------------

void BrokerEnclave::prepare(Done done) {
  leave_chain();
  done_ = std::move(done);
  if (state_ != Row::RUNNING) return finish(state_ == Row::PREPARED ? Errc::kOk : Errc::kWrongState);
  error_ = Errc::kOk;
  text_.clear();
  gate_closed_ns_ = held_ns_ = committed_ns_ = rebuilt_ns_ = gate_opened_ns_ = 0;
  const Failed failed = [this](Errc error, const std::string& text) { back_to_running(error, text); };
  after(kPrepareTime,
        [this] { back_to_running(Errc::kNotReady, "its program, or the host's agent, does not answer"); });
  attest(
      [this, failed](const std::string& sealed) {
        seal_to_agent(
            sealed, "the host's agent refused the attempt",
            [this](const std::string&) {
              leave_chain();  // the timer
              set(Row::PREPARED);
              finish(Errc::kOk);
            },
            failed);
      },
      failed);
}

void BrokerEnclave::hold(std::uint32_t quiesce_ms, Done done) {
  leave_chain();
  done_ = std::move(done);
  if (state_ != Row::PREPARED) return finish(state_ == Row::HELD ? Errc::kOk : Errc::kWrongState);
  wire::Envelope message;
  message.mutable_hold()->set_local_id(enclave_->local_id());
  message.mutable_hold()->set_budget_ms(quiesce_ms);
  const std::chrono::milliseconds budget(quiesce_ms);
  after(budget + kGrace + dump_time(enclave_->status().pages_in_use),
        [this] { back_to_running(Errc::kNotQuiescent, "its program does not answer"); });
  enclave_->request(std::move(message), here([this](const wire::Envelope& reply) {
                      const Errc error = reply.has_held() ? static_cast<Errc>(reply.held().errc()) : Errc::kNoSession;
                      if (error != Errc::kOk) {
                        return back_to_running(error, error == Errc::kNotQuiescent
                                                          ? "the enclave's threads do not come to rest"
                                                          : "the enclave's state cannot be kept");
                      }
                      leave_chain();  // the timer
                      record_bytes_ = reply.held().record_bytes();
                      gate_closed_ns_ = reply.held().gate_closed_ns();
                      held_ns_ = reply.held().held_ns();
                      set(Row::HELD);
                      finish(Errc::kOk);
                    }));
}

void BrokerEnclave::commit(Done done) {
  leave_chain();
  done_ = std::move(done);
  if (state_ != Row::HELD) return finish(state_ == Row::COMMITTED ? Errc::kOk : Errc::kWrongState);
  // From here on nobody knows until the enclave has answered: that counts as committed.
  set(Row::UNTICKETED);
  // Not a step of this chain: there is no other way to the ticket, whatever is begun meanwhile.
  enclave_->control(abi::ControlOp::kCommitHeld, "",
                    [weak = weak_from_this(), attempt = attempt_](Errc error, const std::string& ticket) {
                      const auto self = weak.lock();
                      if (self && self->attempt_ == attempt) self->committed(error, ticket);
                    });
}

void BrokerEnclave::committed(Errc error, const std::string& ticket) {
  if (error == Errc::kOk) {
    ticket_ = ticket;
    committed_ns_ = now_ns();
    if (state_ == Row::UNTICKETED) return give_ticket();
    const bool goes_on = turn_ != Turn::kWanted && !host_.agent_hello().empty();
    if (state_ == Row::RESUMING && goes_on) try_resume();
    return;
  }
  if (state_ != Row::UNTICKETED && state_ != Row::RESUMING) return;
  if (error == Errc::kEpcLost) return lost(error, "its memory went before it had committed");
  back_to_running(error, "the enclave refused to commit");
}

void BrokerEnclave::give_ticket() {
  const Failed failed = [this](Errc error, const std::string& text) {
    const bool another = error == Errc::kBadReport || error == Errc::kBadBinding || error == Errc::kNoSession;
    // This agent, or another machine's, does not know the session: the ticket was given before, or never will be.
    if (recovered_ && another && !host_.agent_hello().empty()) return ticket_given();
    error_ = error;
    text_ = "its ticket does not reach the agent: " + text;
    set(Row::UNTICKETED);
    finish(error);
  };
  const auto give = [this, failed](const std::string&) {
    seal_to_agent(
        ticket_, "the host's agent refused the ticket", [this](const std::string&) { ticket_given(); }, failed);
  };
  if (session_ != 0) return give("");
  hello_agent(source_hello_, give, failed);
}

void BrokerEnclave::ticket_given() {
  close_session();
  ticketed_ = true;
  error_ = Errc::kOk;
  text_.clear();
  recovered_ = false;
  set(Row::COMMITTED);
  finish(Errc::kOk);
}

void BrokerEnclave::abort(Done done) {
  leave_chain();
  finish(Errc::kGateClosed);  // of the step that this ends
  done_ = std::move(done);
  if (state_ == Row::PREPARED || state_ == Row::HELD || (state_ == Row::RUNNING && !attempt_.empty())) {
    return back_to_running(Errc::kOk, "");
  }
  finish(state_ == Row::RUNNING ? Errc::kOk : Errc::kDestroyed);
}

// The enclave first, as after that no ticket can come of it; then the agent, which tells the other.
void BrokerEnclave::back_to_running(Errc error, const std::string& text) {
  leave_chain();
  error_ = error;
  text_ = text;
  const std::string attempt = attempt_;
  const auto cancelled = here([this, attempt, error](Errc cancel_error, const std::string&) {
    leave_chain();
    if (!attempt.empty()) {
      wire::Envelope message;
      message.mutable_agent_cancel()->set_attempt(attempt);
      host_.agent_request(std::move(message), [](const wire::Envelope&) {});
    }
    close_session();
    forget_attempt();
    if (cancel_error == Errc::kEpcLost) return lost(cancel_error, "its memory is gone");
    set(Row::RUNNING);
    finish(error);
  });
  if (attempt.empty()) return cancelled(Errc::kOk, std::string());
  // A program that does not answer will find the request when it goes on.
  after(kGrace, [cancelled] { cancelled(Errc::kOk, std::string()); });
  enclave_->control(abi::ControlOp::kCancel, "", cancelled);
}

// --- The channel --------------------------------------------------------------------------------------------------

void BrokerEnclave::channel_up() {
  session_ = 0;  // of another connection; the same hello gives it back
  elsewhere_ = false;
  if (state_ == Row::UNTICKETED && !ticket_.empty()) {
    leave_chain();
    give_ticket();
  } else if (state_ == Row::RESUMING && turn_ != Turn::kWanted) {
    try_resume();
  }
}

void BrokerEnclave::channel_lost() {
  session_ = 0;
  if (state_ == Row::PREPARED || state_ == Row::HELD || (state_ == Row::RUNNING && !attempt_.empty())) {
    return back_to_running(Errc::kNoSession, "lost the channel to the host");
  }
  // The commit itself is between the enclave and us: its answer is waited for.
  if (state_ == Row::UNTICKETED && ticket_.empty()) return;
  leave_chain();
  if (state_ == Row::UNTICKETED) finish(Errc::kNoSession);
}

void BrokerEnclave::agent_event(const wire::AgentEvent& event) {
  if (event.attempt() != attempt_ || state_ != Row::RESUMING || !retry_) return;
  const auto step = std::exchange(retry_, nullptr);
  retry_timer_.cancel();
  step();
}

}  // namespace sealift::daemon

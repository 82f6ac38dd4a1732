// BrokerEnclave after a commit: the enclave is rebuilt where it was, restored from its process's memory, granted.
#include <utility>

#include "daemon/broker_enclave.h"
#include "daemon/failure.h"

namespace sealift::daemon {

namespace {

constexpr std::chrono::milliseconds kRetry{200};
constexpr std::chrono::seconds kTurn{5};  // a program that does not answer must not keep the others waiting

std::uint64_t now_ns() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(now).count());
}

// No other answer will ever come, from whoever gave it.
bool is_final(Errc error) {
  return error == Errc::kAlreadyGranted || error == Errc::kAttemptUsed;
}

}  // namespace

void BrokerEnclave::resume(Done done) {
  if (state_ == Row::RUNNING || state_ == Row::PREPARED) {
    done_ = std::move(done);
    return finish(Errc::kOk);
  }
  if (state_ == Row::RESUMING) {  // goes on by itself, and now for another
    finish(Errc::kNotReady);
    done_ = std::move(done);
    return;
  }
  if (state_ != Row::COMMITTED && state_ != Row::UNTICKETED) {
    done_ = std::move(done);
    return finish(state_ == Row::LOST ? error_ : Errc::kWrongState);
  }
  leave_chain();
  done_ = std::move(done);
  error_ = Errc::kOk;
  text_.clear();
  set(Row::RESUMING);
  turn_ = Turn::kWanted;
  host_.want_turn(*this);
}

void BrokerEnclave::have_turn() {
  if (turn_ != Turn::kWanted) return host_.turn_over();
  turn_ = Turn::kHeld;
  turn_timer_.expires_after(kTurn);
  turn_timer_.async_wait([weak = weak_from_this()](const std::error_code& error) {
    const auto self = weak.lock();
    if (!error && self) self->end_turn();
  });
  if (!host_.agent_hello().empty()) try_resume();  // else when there is a host again
}

void BrokerEnclave::end_turn() {
  turn_timer_.cancel();
  if (std::exchange(turn_, Turn::kNone) == Turn::kHeld) host_.turn_over();
}

void BrokerEnclave::give_up() {
  if (state_ != Row::RESUMING) return;
  leave_chain();
  if (error_ == Errc::kOk) {
    error_ = Errc::kNotReady;
    text_ = "its program has not answered in time";
  }
  set(ticketed_ ? Row::COMMITTED : Row::UNTICKETED);
  finish(error_);
}

void BrokerEnclave::try_resume() {
  leave_chain();
  ticketed_ || elsewhere_ || ticket_.empty() ? look() : offer_ticket();
}

// Without it there is no grant. It was on its way when the resume began, and may have got there or not; and if the VM
// has moved since then, it is not this agent's.
void BrokerEnclave::offer_ticket() {
  session_ = 0;  // forgotten, not closed: see the declaration
  const Failed go_on = [this](Errc error, const std::string&) {
    session_ = 0;
    elsewhere_ = error == Errc::kBadReport || error == Errc::kBadBinding;
    look();
  };
  const auto give = [this, go_on](const std::string&) {
    seal_to_agent(
        ticket_, "the host's agent refused the ticket",
        [this](const std::string&) {
          close_session();
          ticketed_ = true;
          look();
        },
        go_on);
  };
  hello_agent(source_hello_, give, go_on);
}

// Whatever is there now decides: it may run already (the answer was lost), be restored and waiting for its grant, or be
// nothing that can be used.
void BrokerEnclave::look() {
  enclave_->control(abi::ControlOp::kStatus, "", here([this](Errc error, const std::string& output) {
                      abi::Status status{};
                      if (error == Errc::kOk && output.size() == sizeof status) {
                        std::memcpy(&status, output.data(), sizeof status);
                      }
                      const auto gate = static_cast<abi::GateState>(status.gate);
                      const bool target = static_cast<abi::Role>(status.role) == abi::Role::kRestore;
                      restored_ =
                          error == Errc::kOk && target && gate == abi::GateState::kRestoring && status.restored != 0;
                      if (error == Errc::kOk && gate == abi::GateState::kOpen) return runs_again();
                      if (restored_ && !target_hello_.empty()) return join_again();
                      rebuild(error);
                    }));
}

BrokerEnclave::Failed BrokerEnclave::from_the_start() {
  return [this](Errc error, const std::string& text) { again(error, text, [this] { try_resume(); }); };
}

void BrokerEnclave::rebuild(Errc looked) {
  if (ticketed_) close_session();
  session_ = 0;
  target_hello_.clear();
  restored_ = false;
  wire::Envelope message;
  message.mutable_rebuild()->set_local_id(enclave_->local_id());
  message.mutable_rebuild()->set_attempt(attempt_);
  enclave_->request(std::move(message), here([this, looked](const wire::Envelope& reply) {
                      const Errc error = reply.has_control_result() ? static_cast<Errc>(reply.control_result().errc())
                                                                    : Errc::kNoSession;
                      // It was granted before, the answer was lost, and then its memory.
                      const bool gone = looked == Errc::kEpcLost || looked == Errc::kCrashed;
                      if (error == Errc::kNotReady && gone) return lost(looked, "its memory went after its grant");
                      if (error != Errc::kOk) {
                        return from_the_start()(error, "cannot rebuild the enclave: " + reply.control_result().text());
                      }
                      rebuilt_ns_ = now_ns();
                      attest([this](const std::string& request) { fetch_key(request); }, from_the_start());
                    }));
}

// The same hello gives the same session back, if this is the agent that it was made with. Another agent instance may
// speak for this enclave as well: the grant is bound to the enclave's key, which stays.
void BrokerEnclave::join_again() {
  const auto to_another = [this](Errc, const std::string&) {
    attest([this](const std::string& request) { fetch_key(request); }, from_the_start());
  };
  hello_agent(
      target_hello_, [this](const std::string&) { show_notice(); }, to_another);
}

void BrokerEnclave::fetch_key(const std::string& request) {
  seal_to_agent(
      request, "the agent here has no key for it (yet)",
      [this](const std::string& delivery) {
        // Nothing: the grant was made before, and this enclave has the key already.
        if (delivery.empty()) return restored_ ? show_notice() : lost(Errc::kAlreadyGranted, "another was granted");
        control(
            abi::ControlOp::kInstallKey, delivery, "the enclave refused the key",
            [this](const std::string&) { restored_ ? show_notice() : refill(); }, from_the_start());
      },
      [this, request](Errc error, const std::string& text) {
        if (is_final(error)) return lost(error, text);
        if (error == Errc::kNoSession) return from_the_start()(error, text);
        again(error, text, [this, request] { fetch_key(request); });
      });
}

void BrokerEnclave::refill() {
  wire::Envelope message;
  message.mutable_refill()->set_local_id(enclave_->local_id());
  enclave_->request(std::move(message), here([this](const wire::Envelope& reply) {
                      const Errc error = reply.has_control_result() ? static_cast<Errc>(reply.control_result().errc())
                                                                    : Errc::kNoSession;
                      if (error != Errc::kOk) return from_the_start()(error, "the enclave refused its records");
                      restored_ = true;
                      show_notice();
                    }));
}

void BrokerEnclave::show_notice() {
  control(
      abi::ControlOp::kReady, "", "the enclave is not restored",
      [this](const std::string& notice) {
        seal_to_agent(
            notice, "the agent refused the enclave's digest", [this](const std::string&) { ask_grant(); },
            [this](Errc error, const std::string& text) {
              is_final(error) ? lost(error, text) : from_the_start()(error, text);
            });
      },
      from_the_start());
}

void BrokerEnclave::ask_grant() {
  wire::Envelope message;
  message.mutable_agent_request_grant()->set_session(session_);  // the host knows over which link
  host_.agent_request(std::move(message), here([this](const wire::Envelope& reply) {
                        const auto once_more = [this] { ask_grant(); };
                        if (!reply.has_agent_result()) {
                          return again(Errc::kNoSession, to_line(reply.failure()), once_more);
                        }
                        const auto error = static_cast<Errc>(reply.agent_result().errc());
                        if (error == Errc::kOk) return poll_grant();
                        if (is_final(error)) return lost(error, "another instance was granted");
                        if (error == Errc::kNoSession) return from_the_start()(error, "the session is gone");
                        again(error, "the grant was not given (yet)", once_more);
                      }));
}

void BrokerEnclave::poll_grant() {
  wire::Envelope message;
  message.mutable_agent_local_poll()->set_session(session_);
  host_.agent_request(std::move(message), here([this](const wire::Envelope& reply) {
                        const auto once_more = [this] { ask_grant(); };
                        if (!reply.has_agent_result()) {
                          return again(Errc::kNoSession, to_line(reply.failure()), once_more);
                        }
                        const auto error = static_cast<Errc>(reply.agent_result().errc());
                        if (is_final(error)) return lost(error, "another instance was granted");
                        if (error != Errc::kOk) return again(error, "the grant was refused", once_more);
                        const std::string& grant = reply.agent_result().sealed();
                        // Empty: the other agent has not answered yet. Its answer is an event; a repeat does no harm.
                        if (!grant.empty()) return install(grant);
                        retry_ = [this] { poll_grant(); };
                        retry_timer_.expires_after(kRetry);
                        retry_timer_.async_wait(here([this, once_more](const std::error_code& e) {
                          if (!e) once_more();
                        }));
                      }));
}

void BrokerEnclave::install(const std::string& grant) {
  control(
      abi::ControlOp::kGrant, grant, "the enclave refused the grant", [this](const std::string&) { runs_again(); },
      from_the_start());
}

void BrokerEnclave::runs_again() {
  gate_opened_ns_ = now_ns();
  leave_chain();
  close_session();
  forget_attempt();
  error_ = Errc::kOk;
  text_.clear();
  // The row that goes out shall have the new epoch.
  enclave_->refresh([this, self = shared_from_this()] {
    set(Row::RUNNING);
    finish(Errc::kOk);
  });
}

void BrokerEnclave::again(Errc error, const std::string& text, std::function<void()> step) {
  end_turn();
  const bool news = error_ != error || text_ != text;
  error_ = error;
  text_ = text;
  if (news) host_.enclave_changed(*this);
  retry_ = std::move(step);
  retry_timer_.expires_after(kRetry);
  retry_timer_.async_wait(here([this](const std::error_code& e) {
    if (e) return;
    if (const auto now = std::exchange(retry_, nullptr)) now();
  }));
}

void BrokerEnclave::lost(Errc error, const std::string& text) {
  leave_chain();
  close_session();
  enclave_->release_abandoned(error);  // or its callers would wait for ever
  error_ = error;
  text_ = text;
  set(Row::LOST);
  finish(error);
}

}  // namespace sealift::daemon

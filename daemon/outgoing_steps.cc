// OutgoingMigration's actions, in the order of the protocol (design §7).
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "daemon/failure.h"
#include "daemon/journal.h"
#include "daemon/outgoing.h"
#include "migration/messages.h"

namespace sealift::daemon {

namespace {

constexpr std::size_t kAttemptOffset = offsetof(messages::EnclaveHello, attempt);

Errc result_of(const wire::Envelope& reply) {
  return reply.has_agent_result() ? static_cast<Errc>(reply.agent_result().errc()) : Errc::kNoSession;
}

wire::Envelope local_message(std::uint64_t session, const std::string& sealed) {
  wire::Envelope message;
  message.mutable_agent_local_message()->set_session(session);
  message.mutable_agent_local_message()->set_sealed(sealed);
  return message;
}

}  // namespace

// --- Prepare ------------------------------------------------------------------------------------------------------

void OutgoingMigration::connect_peer() {
  const bool first = machine_.state() == SourceState::kConnect;
  if (first) return peer_->join(this);
  redial_timer_.expires_after(redial_delay_);
  redial_delay_ = std::min(redial_delay_ * 2, options_.timeouts.slowest_retry);
  redial_timer_.async_wait(here([this](const std::error_code& error) {
    if (!error) peer_->join(this);
  }));
}

void OutgoingMigration::open_session() {
  enclave_->control(
      abi::ControlOp::kAgentHello, agent_.info().hello(), here([this](Errc error, const std::string& hello) {
        if (error == Errc::kNoSession && !enclave_->connected()) return;  // enclave_gone says it
        if (error != Errc::kOk || hello.size() != sizeof(messages::EnclaveHello)) {
          return fail_with(SourceEvent::kSourceError, refused("the enclave refused this machine's agent", error));
        }
        enclave_hello_ = hello;
        incoming_.set_attempt(hello.substr(kAttemptOffset, sizeof(messages::EnclaveHello::attempt)));
        peer_->set_attempt(this, attempt());
        wire::Envelope message;
        message.mutable_agent_local_hello()->set_hello(hello);
        agent_.request(std::move(message), here([this](const wire::Envelope& reply) {
                         if (!reply.has_agent_local_session()) return;  // agent_down says it
                         const wire::AgentLocalSession& session = reply.agent_local_session();
                         if (session.errc() != 0) {
                           return fail_with(
                               SourceEvent::kAgentError,
                               refused("this machine's agent refused the enclave", static_cast<Errc>(session.errc())));
                         }
                         session_ = session.session();
                         prepare(session.confirm());
                       }));
      }));
}

void OutgoingMigration::prepare(const std::string& confirm) {
  enclave_->control(
      abi::ControlOp::kAgentConfirm, confirm, here([this](Errc error, const std::string& sealed) {
        if (error == Errc::kNoSession && !enclave_->connected()) return;
        if (error != Errc::kOk) {
          return fail_with(SourceEvent::kSourceError, refused("the enclave refused this machine's agent", error));
        }
        agent_.request(local_message(session_, sealed), here([this](const wire::Envelope& reply) {
                         const Errc answer = result_of(reply);
                         if (answer == Errc::kOk) return on(SourceEvent::kPrepared);
                         if (!reply.has_failure()) {
                           fail_with(SourceEvent::kAgentError, refused("the agent refused the migration", answer));
                         }
                       }));
      }));
}

void OutgoingMigration::offer() {
  wire::Envelope message;
  message.mutable_agent_offer()->set_attempt(attempt());
  message.mutable_agent_offer()->set_link(peer_->agent_link());
  agent_.request(std::move(message), here([this](const wire::Envelope& reply) {
                   const Errc error = result_of(reply);
                   if (error == Errc::kOk || reply.has_failure()) return;  // an event follows, or agent_down
                   fail_with(SourceEvent::kAgentError, refused("the target machine was refused", error));
                 }));
}

void OutgoingMigration::start_target() {
  wire::Envelope message;
  *message.mutable_incoming() = incoming_;
  peer_->notify(std::move(message));
}

// --- Stream -------------------------------------------------------------------------------------------------------

void OutgoingMigration::quiesce() {
  enclave_->quiesce(static_cast<std::uint32_t>(options_.timeouts.quiesce.count()),
                    here([this](Errc error, const std::string&) {
                      if (error == Errc::kOk) return on(SourceEvent::kQuiesced);
                      if (error == Errc::kNoSession && !enclave_->connected()) return;
                      fail_with(SourceEvent::kSourceError, refused("the enclave's threads do not come to rest", error));
                    }));
}

void OutgoingMigration::dump() {
  try {
    spool_ = Spool::create(spool_path(options_.spool_dir, attempt()));
  } catch (const std::system_error& error) {
    return fail_with(SourceEvent::kSourceError, make_failure(wire::Failure::FAILED, "cannot keep the stream",
                                                             error.what(), "give another --spool-dir"));
  }
  progress_.begin(seconds_now(), estimate_);
  wire::Envelope message;
  message.mutable_dump_begin()->set_local_id(enclave_->local_id());
  message.mutable_dump_begin()->set_window(options_.window);
  enclave_->notify(std::move(message));
}

// --- Ready and commit ---------------------------------------------------------------------------------------------

void OutgoingMigration::poll_ready() {
  wire::Envelope message;
  message.mutable_agent_local_poll()->set_session(session_);
  agent_.request(std::move(message), here([this](const wire::Envelope& reply) {
                   const Errc error = result_of(reply);
                   if (error != Errc::kOk && !reply.has_failure()) {
                     return fail_with(SourceEvent::kAgentError, refused("the target's state was refused", error));
                   }
                   if (reply.agent_result().sealed().empty()) return;
                   ready_ = reply.agent_result().sealed();
                   on(SourceEvent::kReadyArrived);
                 }));
}

void OutgoingMigration::commit() {
  agent_instance_ = agent_.info().instance_key();
  wire::Journal journal;
  *journal.mutable_incoming() = incoming_;
  journal.set_target(peer_->name());
  journal.set_agent_instance(agent_instance_);
  journal.set_enclave_hello(enclave_hello_);
  try {
    write_journal(journal_path(options_.state_dir, attempt()), journal);
  } catch (const std::system_error& error) {
    // Nothing has been committed: the enclave has not been asked yet.
    return fail_with(SourceEvent::kSourceError, make_failure(wire::Failure::FAILED, "cannot write the journal",
                                                             error.what(), "check sealiftd's --state-dir"));
  }
  enclave_->control(abi::ControlOp::kCommit, ready_,
                    alive([this](Errc error, const std::string& ticket) { ticket_made(error, ticket); }));
}

void OutgoingMigration::ask_ticket() {
  enclave_->control(abi::ControlOp::kTicketAgain, {},
                    alive([this](Errc error, const std::string& ticket) { ticket_made(error, ticket); }));
}

// Not bound to a state: the target may have been lost in between.
void OutgoingMigration::ticket_made(Errc error, const std::string& ticket) {
  if (error == Errc::kNoSession && !enclave_->connected()) return;
  if (error != Errc::kOk) return fail_with(SourceEvent::kSourceError, refused("the enclave refused to commit", error));
  ticket_ = ticket;
  on(SourceEvent::kTicketMade);
}

void OutgoingMigration::hand_ticket() {
  if (session_ != 0) return give_ticket();
  // After a restart: the same hello gives the same session.
  wire::Envelope message;
  message.mutable_agent_local_hello()->set_hello(enclave_hello_);
  agent_.request(std::move(message), alive([this](const wire::Envelope& reply) {
                   if (!reply.has_agent_local_session()) return;  // agent_up asks again
                   session_ = reply.agent_local_session().session();
                   give_ticket();
                 }));
}

void OutgoingMigration::give_ticket() {
  agent_.request(local_message(session_, ticket_), alive([this](const wire::Envelope& reply) {
                   if (reply.has_failure()) return;  // agent_up asks again
                   const Errc error = result_of(reply);
                   if (error == Errc::kOk) return on(SourceEvent::kTicketHeld);
                   fail_with(SourceEvent::kAgentError,
                             make_failure(wire::Failure::LOST, "the agent refused the ticket", name(), "", error));
                 }));
}

// --- Grant --------------------------------------------------------------------------------------------------------

void OutgoingMigration::tell_committed() {
  wire::Envelope message;
  message.mutable_committed()->set_attempt(attempt());
  peer_->notify(std::move(message));
}

void OutgoingMigration::attach() {
  redial_delay_ = options_.timeouts.retry;
  peer_->set_attempt(this, attempt());
  // The agent over there may be a new instance, which ours has to judge before it may relay the grant. A refusal shows
  // when the grant is asked for.
  wire::Envelope again;
  again.mutable_agent_offer()->set_attempt(attempt());
  again.mutable_agent_offer()->set_link(peer_->agent_link());
  agent_.request(std::move(again), alive([this](const wire::Envelope&) {
                   wire::Envelope message;
                   message.mutable_attach()->set_attempt(attempt());
                   message.mutable_attach()->set_lineage(lineage());
                   message.mutable_attach()->set_epoch(incoming_.epoch());
                   peer_->notify(std::move(message));
                 }));
}

void OutgoingMigration::ask_agent() {
  wire::Envelope message;
  message.mutable_agent_attempt_request()->set_attempt(attempt());
  agent_.request(std::move(message), here([this](const wire::Envelope& reply) {
                   if (!reply.has_agent_attempt()) return;  // agent_up asks again
                   if (reply.agent_attempt().state() == wire::AgentAttempt::TICKETED) {
                     return on(SourceEvent::kTicketHeld);
                   }
                   if (reply.agent_attempt().state() == wire::AgentAttempt::GRANTED) {
                     return on(SourceEvent::kAlreadyGranted);
                   }
                   if (reply.agent_attempt().state() == wire::AgentAttempt::UNKNOWN) ticket_lost();
                   // Otherwise the source has the ticket, or has not committed: its process will tell.
                 }));
}

// --- Resume on this machine ---------------------------------------------------------------------------------------

void OutgoingMigration::resume_local() {
  if (!spool_) {
    return asio::post(io_, here([this] {
                        fail_with(SourceEvent::kResumeFailed,
                                  make_failure(wire::Failure::STRANDED, "the stream is not readable", name(), ""));
                      }));
  }
  local_fed_ = 0;
  local_ = host_.new_local(incoming_);
  local_->start(this);
}

void OutgoingMigration::feed_local(std::uint64_t taken) {
  for (; local_fed_ < spool_->records() && local_fed_ < taken + options_.window; ++local_fed_) {
    local_->record(spool_->read(local_fed_));
  }
}

void OutgoingMigration::target_event(const std::string&, wire::TargetEvent::Kind kind, const wire::Failure& failure) {
  if (machine_.state() != SourceState::kResume && machine_.state() != SourceState::kLastResume) return;
  switch (kind) {
    case wire::TargetEvent::PREPARED:
      return feed_local(0);
    case wire::TargetEvent::READY:
      return local_->committed();
    case wire::TargetEvent::GRANTED:
      return on(SourceEvent::kResumeGranted);
    case wire::TargetEvent::FAILED:
      if (failure.errc() == static_cast<std::uint32_t>(Errc::kAlreadyGranted)) return on(SourceEvent::kAlreadyGranted);
      return resume_failed(failure);
    default:
      return;
  }
}

// Without an agent nobody knows whether trying again would help: that depends on which one comes.
void OutgoingMigration::resume_failed(const wire::Failure& why) {
  const auto tell = [this, why] {
    if (machine_.state() == SourceState::kResume) {
      failure_ = make_failure(wire::Failure::STRANDED, "no instance runs, the stream is kept", to_line(why),
                              "`sealift resume` tries again");
    }
    on(SourceEvent::kResumeFailed);
  };
  if (agent_.up()) return tell();
  when_agent_up_ = tell;
  timer_.expires_after(options_.timeouts.session);
  timer_.async_wait(here([this](const std::error_code& error) {
    if (!error) std::exchange(when_agent_up_, nullptr)();
  }));
}

void OutgoingMigration::target_taken(const std::string&, std::uint64_t count) {
  feed_local(count);
}

void OutgoingMigration::stop_local() {
  if (const auto local = std::exchange(local_, nullptr)) local->cancel();
}

// --- Giving up, and the end ---------------------------------------------------------------------------------------

void OutgoingMigration::cancel_source() {
  if (!enclave_) return;
  enclave_->control(abi::ControlOp::kCancel, {}, here([this](Errc error, const std::string&) {
                      if (error == Errc::kOk) return on(SourceEvent::kSourceCancelled);
                      if (!enclave_->connected()) return;
                      // Nothing to cancel is not an error, if the gate is open.
                      enclave_->refresh(here([this, error, enclave = enclave_] {
                        const bool open = enclave->status().gate == static_cast<std::uint32_t>(abi::GateState::kOpen);
                        if (open) return on(SourceEvent::kSourceCancelled);
                        fail_with(SourceEvent::kSourceError, refused("the enclave did not cancel", error));
                      }));
                    }));
}

void OutgoingMigration::cancel_agent() {
  if (attempt().empty()) return;
  wire::Envelope message;
  message.mutable_agent_cancel()->set_attempt(attempt());
  agent_.request(std::move(message), [](const wire::Envelope&) {});
}

void OutgoingMigration::cancel_target() {
  if (attempt().empty()) return;
  wire::Envelope message;
  message.mutable_peer_cancel()->set_attempt(attempt());
  peer_->notify(std::move(message));
}

void OutgoingMigration::release_source() {
  if (!enclave_) return;
  enclave_->release_moved();
  if (session_ == 0) return;
  wire::Envelope close;
  close.mutable_agent_local_close()->set_session(session_);
  agent_.notify(std::move(close));
}

void OutgoingMigration::drop_stream() {
  if (spool_) std::exchange(spool_, nullptr)->drop();
  std::error_code ignored;  // a journal that stays behind is found void at the next start
  std::filesystem::remove(journal_path(options_.state_dir, attempt()), ignored);
}

}  // namespace sealift::daemon

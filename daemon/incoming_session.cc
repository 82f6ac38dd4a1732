// IncomingMigration's conversation between the new enclave and the agent: attestation, key, notice, grant.
#include <spdlog/spdlog.h>

#include <utility>

#include "daemon/failure.h"
#include "daemon/incoming.h"
#include "daemon/journal.h"

namespace sealift::daemon {

namespace {

Errc result_of(const wire::Envelope& reply) {
  return reply.has_agent_result() ? static_cast<Errc>(reply.agent_result().errc()) : Errc::kNoSession;
}

}  // namespace

// The host runtime has latched the role *restore* for this attempt before it registered.
void IncomingMigration::open_session() {
  attest(here([this](const std::string& request) { fetch_key(request); }),
         here([this](TargetEvent event, Errc error, const std::string& what) { fail_with(event, error, what); }));
}

void IncomingMigration::attest(Then then, Refused refused) {
  const auto confirmed = [this, then, refused](Errc error, const std::string& request) {
    if (error == Errc::kOk) return then(request);
    refused(TargetEvent::kProcessError, error, "the target's enclave refused its agent");
  };
  const auto answered = [this, confirmed, refused](const wire::Envelope& reply) {
    const auto error = reply.has_failure() ? Errc::kNoSession : static_cast<Errc>(reply.agent_local_session().errc());
    if (error != Errc::kOk) return refused(TargetEvent::kAgentError, error, "the target's agent refused the enclave");
    session_ = reply.agent_local_session().session();
    enclave_->control(abi::ControlOp::kAgentConfirm, reply.agent_local_session().confirm(), alive(confirmed));
  };
  const auto greeted = [this, answered, refused](Errc error, const std::string& hello) {
    if (error != Errc::kOk) {
      return refused(TargetEvent::kProcessError, error, "the target's enclave refused its agent");
    }
    enclave_hello_ = hello;
    wire::Envelope message;
    message.mutable_agent_local_hello()->set_hello(hello);
    agent_.request(std::move(message), alive(answered));
  };
  if (!agent_.up()) return refused(TargetEvent::kAgentGone, Errc::kNoSession, "no agent on the target");
  enclave_->control(abi::ControlOp::kAgentHello, agent_.info().hello(), alive(greeted));
}

void IncomingMigration::fetch_key(const std::string& key_request) {
  wire::Envelope message;
  message.mutable_agent_local_message()->set_session(session_);
  message.mutable_agent_local_message()->set_sealed(key_request);
  agent_.request(std::move(message), here([this](const wire::Envelope& reply) {
                   const Errc error = result_of(reply);
                   if (error != Errc::kOk) {
                     return fail_with(TargetEvent::kAgentError, error, "the target's agent has no key for it");
                   }
                   enclave_->control(abi::ControlOp::kInstallKey, reply.agent_result().sealed(),
                                     here([this](Errc refused, const std::string&) {
                                       if (refused == Errc::kOk) return on(TargetEvent::kKeyed);
                                       fail_with(TargetEvent::kProcessError, refused,
                                                 "the target's enclave refused the key");
                                     }));
                 }));
}

void IncomingMigration::take_notice() {
  send_notice(here([this] {
                session_open_ = true;
                on(TargetEvent::kNoticed);
              }),
              here([this](TargetEvent event, Errc error, const std::string& what) { fail_with(event, error, what); }));
}

void IncomingMigration::send_notice(std::function<void()> then, Refused refused) {
  enclave_->control(abi::ControlOp::kReady, {}, alive([this, then, refused](Errc error, const std::string& notice) {
                      if (error != Errc::kOk) {
                        return refused(TargetEvent::kProcessError, error, "the target's enclave is not ready");
                      }
                      wire::Envelope message;
                      message.mutable_agent_local_message()->set_session(session_);
                      message.mutable_agent_local_message()->set_sealed(notice);
                      agent_.request(std::move(message), alive([then, refused](const wire::Envelope& reply) {
                                       const Errc answer = result_of(reply);
                                       if (answer == Errc::kOk) return then();
                                       refused(TargetEvent::kAgentError, answer,
                                               "the target's agent refused the notice");
                                     }));
                    }));
}

// After a restart of this daemon, the same enclave and the same agent know each other again by the same hello. Another
// agent instance does not: then both attest once more, and the new one can still relay a grant that is bound to this
// enclave's key. It speaks for this enclave only once A_s has offered it the attempt, which an event tells.
void IncomingMigration::reopen_session() {
  session_open_ = false;
  key_request_.clear();
  if (!agent_.up()) return;
  const Refused refused = [this](TargetEvent, Errc error, const std::string& what) {
    spdlog::warn("incoming {}: {} ({}); it goes on waiting", hex(attempt()), what, errc_name(error));
  };
  wire::Envelope message;
  message.mutable_agent_local_hello()->set_hello(enclave_hello_);
  agent_.request(std::move(message), alive([this, refused](const wire::Envelope& reply) {
                   if (!reply.has_failure() && reply.agent_local_session().errc() == 0) {
                     session_ = reply.agent_local_session().session();
                     return send_notice([this] { session_opened(); }, refused);
                   }
                   attest(
                       [this](const std::string& request) {
                         key_request_ = request;
                         introduce();
                       },
                       refused);
                 }));
}

void IncomingMigration::introduce() {
  if (key_request_.empty()) return;
  const Refused refused = [this](TargetEvent, Errc error, const std::string& what) {
    spdlog::warn("incoming {}: {} ({}); it goes on waiting", hex(attempt()), what, errc_name(error));
  };
  wire::Envelope message;
  message.mutable_agent_local_message()->set_session(session_);
  message.mutable_agent_local_message()->set_sealed(key_request_);
  agent_.request(std::move(message), alive([this, refused](const wire::Envelope& reply) {
                   if (result_of(reply) != Errc::kOk) return;  // not offered yet
                   key_request_.clear();
                   const auto notice = [this, refused] { send_notice([this] { session_opened(); }, refused); };
                   // The key is here already, but the session counts its messages.
                   if (reply.agent_result().sealed().empty()) return notice();
                   enclave_->control(abi::ControlOp::kInstallKey, reply.agent_result().sealed(),
                                     alive([notice](Errc, const std::string&) { notice(); }));
                 }));
}

void IncomingMigration::session_opened() {
  session_open_ = true;
  if (machine_.state() == TargetState::kGrant) request_grant();
}

// A grant that is bound to an instance which has died meanwhile loses the lineage (S7). So the instance has to answer
// first: without an answer nothing is asked for, and what is told is its death, after which the source resumes.
void IncomingMigration::request_grant() {
  if (!session_open_ || owner_ == nullptr) return;  // session_opened asks
  enclave_->control(abi::ControlOp::kStatus, {}, here([this](Errc error, const std::string&) {
                      if (error == Errc::kOk && session_open_ && owner_ != nullptr) ask_for_grant();
                    }));
}

void IncomingMigration::ask_for_grant() {
  wire::Envelope message;
  message.mutable_agent_request_grant()->set_session(session_);
  message.mutable_agent_request_grant()->set_link(owner_->agent_link());
  agent_.request(std::move(message), here([this](const wire::Envelope& reply) {
                   if (reply.has_failure()) return;  // agent_up opens a session again
                   const Errc error = result_of(reply);
                   if (error != Errc::kOk) return grant_answer(error);
                   poll_grant();
                 }));
}

void IncomingMigration::poll_grant() {
  wire::Envelope message;
  message.mutable_agent_local_poll()->set_session(session_);
  agent_.request(std::move(message), here([this](const wire::Envelope& reply) {
                   if (reply.has_failure()) return;
                   const Errc error = result_of(reply);
                   if (error != Errc::kOk) return grant_answer(error);
                   // Empty: the arbiter has not answered yet; its answer is an event.
                   if (!reply.agent_result().sealed().empty()) give_grant(reply.agent_result().sealed());
                 }));
}

void IncomingMigration::grant_answer(Errc error) {
  // From our own agent every answer is final. Over a link, only these say that this instance will never run.
  const bool final = local_ || error == Errc::kAlreadyGranted || error == Errc::kUnknownAttempt;
  fail_with(final ? TargetEvent::kGrantRefused : TargetEvent::kAgentError, error, "the grant was refused");
}

void IncomingMigration::give_grant(const std::string& sealed) {
  on(TargetEvent::kGrantArrived);
  if (machine_.state() != TargetState::kInstall) return;
  enclave_->control(
      abi::ControlOp::kGrant, sealed, here([this](Errc error, const std::string&) {
        if (error != Errc::kOk) {
          return fail_with(TargetEvent::kProcessError, error, "the target's enclave refused the grant");
        }
        enclave_->refresh([this, enclave = enclave_, self = shared_from_this()] { on(TargetEvent::kGateOpen); });
      }));
}

}  // namespace sealift::daemon

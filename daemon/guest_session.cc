#include "daemon/guest_session.h"

#include <utility>

#include "daemon/failure.h"
#include "daemon/guest_claims.h"
#include "migration/messages.h"

namespace sealift::daemon {

namespace {

constexpr std::size_t kMaxOffers = 8192;    // as many as the agent itself holds
constexpr std::size_t kMaxSessions = 1024;  // of one guest, so that it does not take all of the agent's
constexpr std::size_t kMaxAsked = 2 * kMaxSessions;
constexpr std::size_t kMaxSealed = messages::kSealedSize<messages::Prepare>;  // no kind is longer
constexpr std::size_t kAttemptOffset = offsetof(messages::EnclaveHello, attempt);

}  // namespace

// --- OfferBook ----------------------------------------------------------------------------------------------------

std::optional<std::uint64_t> OfferBook::link_of(const std::string& attempt) const {
  const auto found = links_.find(attempt);
  return found == links_.end() ? std::nullopt : std::optional(found->second);
}

void OfferBook::agent_up(bool) {}

// Links do not outlive the connection that opened them.
void OfferBook::agent_down() {
  links_.clear();
  order_.clear();
}

void OfferBook::agent_event(const wire::AgentEvent& event) {
  if (event.kind() != wire::AgentEvent::OFFER_ARRIVED) return;
  if (links_.insert_or_assign(event.attempt(), event.link()).second) order_.push_back(event.attempt());
  if (order_.size() <= kMaxOffers) return;
  links_.erase(order_.front());
  order_.pop_front();
}

// --- GuestSession -------------------------------------------------------------------------------------------------

std::shared_ptr<GuestSession> GuestSession::start(Connection::Socket socket, const std::string& my_name,
                                                  AgentClient& agent, const OfferBook& offers, Callbacks callbacks) {
  std::shared_ptr<GuestSession> self(new GuestSession(agent, offers, std::move(callbacks)));
  wire::Hello hello;
  hello.set_role(wire::PEER_ROLE_DAEMON);
  hello.set_name(my_name);
  Connection::Callbacks on;
  on.on_up = [self](const wire::Hello& theirs) {
    if (theirs.role() != wire::PEER_ROLE_GUEST) return self->close("not a guest's broker");
    self->callbacks_.on_up(theirs.name());
    self->tell_agent();
  };
  on.on_message = [self](wire::Envelope& message) { self->on_message(message); };
  on.on_down = [self](const std::string& why) {
    self->connection_.reset();
    self->stop_watching();
    for (const auto& [session, attempt] : self->sessions_) self->left_->insert(session);
    if (const auto on_down = std::exchange(self->callbacks_, {}).on_down) on_down(why);
  };
  self->connection_ = Connection::start(std::move(socket), hello, std::move(on));
  return self;
}

GuestSession::GuestSession(AgentClient& agent, const OfferBook& offers, Callbacks callbacks)
    : agent_(agent), offers_(offers), callbacks_(std::move(callbacks)) {
  agent_.watch(this);
}

GuestSession::~GuestSession() {
  stop_watching();
}

void GuestSession::stop_watching() {
  if (std::exchange(watching_, false)) agent_.unwatch(this);
}

void GuestSession::close(const std::string& why) {
  if (connection_) connection_->close(why);
}

void GuestSession::command(const wire::GuestCommand& command, Connection::ReplyHandler on_reply) {
  wire::Envelope message;
  *message.mutable_guest_command() = command;
  if (connection_) return connection_->request(std::move(message), std::move(on_reply));
  wire::Envelope reply;
  *reply.mutable_failure() = make_failure(wire::Failure::UNREACHABLE, "the guest's broker is gone", "", "");
  on_reply(reply);
}

void GuestSession::on_message(wire::Envelope& message) {
  const std::uint64_t id = message.id();
  const auto own = [this](std::uint64_t session) { return sessions_.contains(session); };
  switch (message.body_case()) {
    case wire::Envelope::kGuestReport:
      if (!credible(message.guest_report())) return close("no report of a broker");
      if (callbacks_.on_report) callbacks_.on_report(message.guest_report());
      return;
    case wire::Envelope::kAgentLocalHello:
      return local_hello(id, message);
    case wire::Envelope::kAgentLocalMessage:
      if (!own(message.agent_local_message().session())) return refuse(id, "no such session");
      if (message.agent_local_message().sealed().size() > kMaxSealed) return refuse(id, "not an enclave's message");
      return forward(id, std::move(message));
    case wire::Envelope::kAgentLocalPoll:
      if (!own(message.agent_local_poll().session())) return refuse(id, "no such session");
      return forward(id, std::move(message));
    case wire::Envelope::kAgentRequestGrant:
      if (!own(message.agent_request_grant().session())) return refuse(id, "no such session");
      return request_grant(id, message.agent_request_grant().session());
    case wire::Envelope::kAgentLocalClose:
      return local_close(std::move(message));
    case wire::Envelope::kAgentCancel:
      if (owns(message.agent_cancel().attempt())) return forward(id, std::move(message));
      return refuse(id, "no such attempt");
    default:
      return close("not a message of a guest");
  }
}

void GuestSession::refuse(std::uint64_t id, const std::string& what) {
  if (connection_ && id != 0) connection_->reply(id, make_failure(wire::Failure::BAD_REQUEST, what, "", ""));
}

// The agent serves all of this host: one guest may not fill the way to it.
void GuestSession::ask_agent(std::uint64_t id, wire::Envelope message, Connection::ReplyHandler on_reply) {
  if (asked_ >= kMaxAsked) return refuse(id, "too many requests at once");
  ++asked_;
  message.clear_id();
  agent_.request(std::move(message), [weak = weak_from_this(), on_reply = std::move(on_reply)](const auto& reply) {
    const auto self = weak.lock();
    if (!self) return;
    --self->asked_;
    if (self->connection_) on_reply(reply);
  });
}

void GuestSession::forward(std::uint64_t id, wire::Envelope message) {
  ask_agent(id, std::move(message), [this, id](const wire::Envelope& reply) { connection_->reply(id, reply); });
}

void GuestSession::local_hello(std::uint64_t id, const wire::Envelope& message) {
  const std::string& hello = message.agent_local_hello().hello();
  if (hello.size() != sizeof(messages::EnclaveHello)) return refuse(id, "not an enclave's hello");
  if (!make_room()) return refuse(id, "too many sessions");
  const std::string attempt = hello.substr(kAttemptOffset, sizeof(messages::EnclaveHello::attempt));
  ask_agent(id, message, [this, id, attempt](const wire::Envelope& reply) {
    if (reply.has_agent_local_session() && reply.agent_local_session().errc() == 0) {
      // The same hello gives the same session.
      left_->erase(reply.agent_local_session().session());
      if (sessions_.try_emplace(reply.agent_local_session().session(), attempt).second) attempts_.insert(attempt);
    }
    connection_->reply(id, reply);
  });
}

bool GuestSession::make_room() {
  if (sessions_.size() + left_->size() < kMaxSessions) return true;
  if (left_->empty()) return false;
  wire::Envelope message;
  message.mutable_agent_local_close()->set_session(*left_->begin());
  left_->erase(left_->begin());
  agent_.notify(std::move(message));
  return true;
}

void GuestSession::local_close(wire::Envelope message) {
  const auto found = sessions_.find(message.agent_local_close().session());
  if (found == sessions_.end()) return;
  attempts_.erase(attempts_.find(found->second));
  sessions_.erase(found);
  agent_.notify(std::move(message));
}

// The arbiter is this machine's own agent, or the one that offered the attempt. What it has granted may be here
// already, and the link gone.
void GuestSession::request_grant(std::uint64_t id, std::uint64_t session) {
  wire::Envelope poll;
  poll.mutable_agent_local_poll()->set_session(session);
  agent_.request(std::move(poll), [weak = weak_from_this(), id, session](const wire::Envelope& reply) {
    const auto self = weak.lock();
    if (!self || !self->connection_) return;
    if (reply.agent_result().sealed().empty()) return self->ask_arbiter(id, session);
    wire::Envelope granted;
    granted.mutable_agent_result();
    self->connection_->reply(id, granted);
  });
}

void GuestSession::ask_arbiter(std::uint64_t id, std::uint64_t session) {
  const auto known = sessions_.find(session);
  if (known == sessions_.end()) return refuse(id, "no such session");
  wire::Envelope ask;
  ask.mutable_agent_attempt_request()->set_attempt(known->second);
  agent_.request(std::move(ask),
                 [weak = weak_from_this(), id, session, attempt = known->second](const wire::Envelope& reply) {
                   const auto self = weak.lock();
                   if (!self || !self->connection_) return;
                   const auto link = self->offers_.link_of(attempt);
                   if (!reply.agent_attempt().as_source() && !link) {
                     return self->refuse(id, "no other host has offered this attempt (yet)");
                   }
                   wire::Envelope message;
                   message.mutable_agent_request_grant()->set_session(session);
                   message.mutable_agent_request_grant()->set_link(reply.agent_attempt().as_source() ? 0 : *link);
                   self->forward(id, std::move(message));
                 });
}

void GuestSession::tell_agent() {
  if (!connection_ || !connection_->up()) return;
  wire::Envelope message;
  message.mutable_agent_info();
  if (agent_.up()) *message.mutable_agent_info() = agent_.info();
  connection_->notify(std::move(message));
}

void GuestSession::agent_up(bool same) {
  if (!same) {
    sessions_.clear();
    attempts_.clear();
    left_->clear();
  }
  tell_agent();
}

void GuestSession::agent_down() {
  tell_agent();
}

void GuestSession::agent_event(const wire::AgentEvent& event) {
  if (!connection_ || !connection_->up()) return;
  for (const auto& [session, attempt] : sessions_) {
    if (attempt != event.attempt()) continue;
    wire::Envelope message;
    *message.mutable_agent_event() = event;
    return connection_->notify(std::move(message));
  }
}

}  // namespace sealift::daemon

#include "daemon/peer.h"

#include <arpa/inet.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>

#include <utility>

#include "daemon/failure.h"

namespace sealift::daemon {

// --- Source -------------------------------------------------------------------------------------------------------

Peer::Peer(asio::io_context& io, const Options& options, AgentClient& agent, HostPort where)
    : io_(io), options_(options), agent_(agent), where_(std::move(where)), timer_(io) {
  agent_.watch(this);
}

Peer::~Peer() {
  *alive_ = false;
  agent_.unwatch(this);
  if (connection_) connection_->close("the daemon ends");
}

void Peer::join(PeerUser* user) {
  users_.try_emplace(user);
  if (up_) {
    asio::post(io_, [this, alive = alive_, user] {
      if (*alive && up_ && users_.contains(user)) user->peer_up();
    });
  } else if (!connecting_) {
    connect();
  }
}

void Peer::set_attempt(PeerUser* user, const std::string& attempt) {
  const auto found = users_.find(user);
  if (found != users_.end()) found->second = attempt;
}

void Peer::leave(PeerUser* user) {
  users_.erase(user);
}

void Peer::notify(wire::Envelope message) {
  if (up_) connection_->notify(std::move(message));
}

void Peer::connect() {
  connecting_ = true;
  timer_.expires_after(options_.timeouts.connect);
  timer_.async_wait([this, alive = alive_](const std::error_code& error) {
    if (error || !*alive) return;
    down(make_failure(wire::Failure::UNREACHABLE, "no answer from the target's sealiftd or its agent", where_.str(),
                      "check that both run there, and that agents have quotes"));
  });
  connect_tcp(io_, where_, [this, alive = alive_](const std::error_code& error, Connection::Socket socket) {
    if (!*alive || !connecting_ || connection_) return;
    if (!error) return attach(std::move(socket));
    down(make_failure(wire::Failure::UNREACHABLE, "cannot connect to the target's sealiftd", where_.str(),
                      error.message()));
  });
}

void Peer::attach(Connection::Socket socket) {
  wire::Hello hello;
  hello.set_role(wire::PEER_ROLE_DAEMON);
  hello.set_name(options_.name);
  Connection::Callbacks callbacks;
  callbacks.on_up = [this, alive = alive_](const wire::Hello& theirs) {
    if (!*alive) return;
    if (theirs.role() != wire::PEER_ROLE_DAEMON) return connection_->close("not a sealiftd");
    open_link();
  };
  callbacks.on_message = [this, alive = alive_](wire::Envelope& message) {
    if (*alive) on_message(message);
  };
  callbacks.on_down = [this, alive = alive_](const std::string& why) {
    if (!*alive || !connection_) return;
    down(make_failure(wire::Failure::UNREACHABLE, "lost the target's sealiftd", where_.str(), why));
  };
  connection_ = Connection::start(std::move(socket), hello, std::move(callbacks));
}

void Peer::open_link() {
  if (!agent_.up()) {
    return down(make_failure(wire::Failure::NO_AGENT, "no agent on this machine", options_.agent_socket,
                             "start sealift-agent, or give sealiftd --agent-command"));
  }
  AgentLink::Callbacks callbacks;
  callbacks.send = [this](const std::string& data) {
    wire::Envelope message;
    message.mutable_link_bytes()->set_data(data);
    if (connection_) connection_->notify(std::move(message));
  };
  callbacks.up = [this] {
    timer_.cancel();
    connecting_ = false;
    up_ = true;
    spdlog::info("peer {}: up, agents attested", where_.str());
    for (const auto& [user, attempt] : std::map(users_)) {
      if (users_.contains(user)) user->peer_up();
    }
  };
  // Not from inside the link's own callback: down() destroys the link.
  callbacks.failed = [this](Errc error) {
    asio::post(io_, [this, alive = alive_, error] {
      if (!*alive || !link_) return;
      down(make_failure(wire::Failure::REFUSED, "the agents did not accept each other", where_.str(),
                        "see both agents' logs", error));
    });
  };
  link_ = std::make_unique<AgentLink>(agent_, false, std::move(callbacks));
  link_->open();
}

void Peer::on_message(wire::Envelope& message) {
  if (message.has_link_bytes()) {
    if (link_) link_->feed(std::move(*message.mutable_link_bytes()->mutable_data()));
    return;
  }
  if (message.has_failure()) {
    wire::Failure why = message.failure();
    why.set_object(where_.str());
    return down(why);
  }
  if (message.has_vm_event()) {
    for (const auto& [user, known] : std::map(users_)) {
      if (!known.empty() && known == message.vm_event().move()) return user->peer_vm_event(message.vm_event());
    }
    return;
  }
  if (message.has_guest_told()) {
    for (const auto& [user, known] : std::map(users_)) {
      if (users_.contains(user)) user->peer_guest_told(message.guest_told());
    }
    return;
  }
  const bool is_event = message.has_target_event();
  if (!is_event && !message.has_peer_records_taken()) return;
  const std::string& attempt = is_event ? message.target_event().attempt() : message.peer_records_taken().attempt();
  for (const auto& [user, known] : std::map(users_)) {
    if (known != attempt || known.empty()) continue;
    if (is_event) return user->peer_event(message.target_event());
    return user->peer_taken(message.peer_records_taken().count());
  }
}

void Peer::down(const wire::Failure& why) {
  timer_.cancel();
  connecting_ = false;
  up_ = false;
  link_.reset();
  if (const auto connection = std::exchange(connection_, nullptr)) connection->close("given up");
  spdlog::info("peer {}: {}", where_.str(), to_line(why));
  for (const auto& [user, attempt] : std::map(users_)) {
    if (users_.contains(user)) user->peer_gone(why);
  }
}

void Peer::agent_up(bool) {}

void Peer::agent_down() {
  if (!connection_ && !connecting_) return;
  down(make_failure(wire::Failure::NO_AGENT, "lost the agent on this machine", options_.agent_socket, ""));
}

void Peer::agent_event(const wire::AgentEvent&) {}

// --- Target -------------------------------------------------------------------------------------------------------

std::shared_ptr<PeerSession> PeerSession::start(Connection::Socket socket, const Options& options, AgentClient& agent,
                                                Host& host) {
  std::shared_ptr<PeerSession> self(new PeerSession(agent, host));
  wire::Hello hello;
  hello.set_role(wire::PEER_ROLE_DAEMON);
  hello.set_name(options.name);
  Connection::Callbacks callbacks;
  callbacks.on_up = [self](const wire::Hello& theirs) { self->on_up(theirs); };
  callbacks.on_message = [self](wire::Envelope& message) { self->on_message(message); };
  callbacks.on_down = [self](const std::string& why) { self->on_down(why); };
  self->connection_ = Connection::start(std::move(socket), hello, std::move(callbacks));
  return self;
}

void PeerSession::close(const std::string& why) {
  if (connection_) connection_->close(why);
}

void PeerSession::notify(wire::Envelope message) {
  if (connection_) connection_->notify(std::move(message));
}

std::string PeerSession::local_address() const {
  sockaddr_storage own{};
  socklen_t size = sizeof(own);
  char text[INET6_ADDRSTRLEN] = {};
  if (!connection_ ||
      ::getsockname(connection_->socket().native_handle(), reinterpret_cast<sockaddr*>(&own), &size) != 0) {
    return "";
  }
  const void* address = own.ss_family == AF_INET6
                            ? static_cast<const void*>(&reinterpret_cast<sockaddr_in6&>(own).sin6_addr)
                            : &reinterpret_cast<sockaddr_in&>(own).sin_addr;
  return ::inet_ntop(own.ss_family, address, text, sizeof(text)) == nullptr ? "" : text;
}

void PeerSession::on_up(const wire::Hello& hello) {
  if (hello.role() != wire::PEER_ROLE_DAEMON) return close("only daemons connect here");
  name_ = hello.name();
  AgentLink::Callbacks callbacks;
  callbacks.send = [this](const std::string& data) {
    wire::Envelope message;
    message.mutable_link_bytes()->set_data(data);
    if (connection_) connection_->notify(std::move(message));
  };
  callbacks.up = [] {};
  callbacks.failed = [this](Errc error) {
    if (!connection_) return;
    wire::Envelope message;
    *message.mutable_failure() =
        agent_.up() ? make_failure(wire::Failure::REFUSED, "the target's agent did not accept the source's", "",
                                   "see both agents' logs", error)
                    : make_failure(wire::Failure::NO_AGENT, "the target has no agent", "", "start sealift-agent there");
    connection_->notify(std::move(message));
    connection_->close_after_flush(std::string("the agents' link failed: ") + errc_name(error));
  };
  link_ = std::make_unique<AgentLink>(agent_, true, std::move(callbacks));
  link_->open();
}

void PeerSession::on_message(wire::Envelope& message) {
  switch (message.body_case()) {
    case wire::Envelope::kLinkBytes:
      return link_->feed(std::move(*message.mutable_link_bytes()->mutable_data()));
    case wire::Envelope::kIncoming:
      return incoming(message.incoming());
    case wire::Envelope::kPeerRecord:
      if (const auto migration = mine(message.peer_record().attempt())) {
        migration->record(std::move(*message.mutable_peer_record()->mutable_record()));
      }
      return;
    case wire::Envelope::kCommitted:
      if (const auto migration = mine(message.committed().attempt())) migration->committed();
      return;
    case wire::Envelope::kPeerCancel:
      if (const auto migration = mine(message.peer_cancel().attempt())) migration->cancel();
      return;
    case wire::Envelope::kAttach:
      unanswered_.push_back(message.attach());
      return answer_attaches();
    case wire::Envelope::kGuestAsk: {
      wire::Envelope told;
      *told.mutable_guest_told() = host_.guest_ask(message.guest_ask());
      return notify(std::move(told));
    }
    case wire::Envelope::kVmIncoming:
    case wire::Envelope::kVmOrder:
      return host_.vm_message(shared_from_this(), message);
    default:
      return close("not a message between daemons");
  }
}

std::shared_ptr<IncomingMigration> PeerSession::mine(const std::string& attempt) {
  const auto migration = host_.find_incoming(attempt);
  return migration && migration->owner() == this ? migration : nullptr;
}

void PeerSession::incoming(const wire::Incoming& request) {
  wire::Failure failure;
  const auto migration = host_.new_incoming(request, failure);
  if (!migration) return target_event(request.attempt(), wire::TargetEvent::FAILED, failure);
  attempts_.insert(request.attempt());
  migration->start(this);
}

void PeerSession::answer_attaches() {
  std::erase_if(unanswered_, [this](const wire::Attach& request) { return attach(request); });
}

bool PeerSession::attach(const wire::Attach& request) {
  if (const auto migration = host_.find_incoming(request.attempt())) {
    attempts_.insert(request.attempt());
    migration->owner_back(this);
    return true;
  }
  const bool runs = host_.runs_here(request);
  // "Unknown" is final for the source, so it is not said too early.
  if (!runs && host_.settling()) return false;
  target_event(request.attempt(), runs ? wire::TargetEvent::GRANTED : wire::TargetEvent::UNKNOWN, wire::Failure());
  return true;
}

void PeerSession::target_event(const std::string& attempt, wire::TargetEvent::Kind kind, const wire::Failure& failure) {
  if (!connection_) return;
  wire::Envelope message;
  message.mutable_target_event()->set_attempt(attempt);
  message.mutable_target_event()->set_kind(kind);
  if (kind == wire::TargetEvent::FAILED) *message.mutable_target_event()->mutable_failure() = failure;
  connection_->notify(std::move(message));
}

void PeerSession::target_taken(const std::string& attempt, std::uint64_t count) {
  if (!connection_) return;
  wire::Envelope message;
  message.mutable_peer_records_taken()->set_attempt(attempt);
  message.mutable_peer_records_taken()->set_count(count);
  connection_->notify(std::move(message));
}

void PeerSession::on_down(const std::string& why) {
  spdlog::info("session with {}: {}", name_.empty() ? "a stranger" : name_, why);
  const auto self = shared_from_this();
  connection_.reset();
  link_.reset();
  for (const std::string& attempt : attempts_) {
    if (const auto migration = mine(attempt)) migration->owner_gone();
  }
  host_.session_ended(this);
}

}  // namespace sealift::daemon

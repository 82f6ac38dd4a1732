#include "daemon/agent_client.h"

#include <utility>

#include "daemon/endpoint.h"
#include "daemon/failure.h"

namespace sealift::daemon {

namespace {

// A peer may send this much of a handshake before our agent has opened its end.
constexpr std::size_t kMaxEarlyBytes = 64u << 10;

}  // namespace

AgentClient::AgentClient(asio::io_context& io, const Options& options) : io_(io), options_(options), retry_timer_(io) {}

void AgentClient::start() {
  connect();
}

void AgentClient::stop() {
  stopping_ = true;
  retry_timer_.cancel();
  if (connection_) connection_->close("the daemon ends");
}

void AgentClient::request(wire::Envelope message, Connection::ReplyHandler on_reply) {
  if (ready_) return connection_->request(std::move(message), std::move(on_reply));
  asio::post(io_, [on_reply = std::move(on_reply)] {
    wire::Envelope reply;
    *reply.mutable_failure() = make_failure(wire::Failure::NO_AGENT, "no agent on this machine", "", "");
    on_reply(reply);
  });
}

void AgentClient::notify(wire::Envelope message) {
  if (ready_) connection_->notify(std::move(message));
}

void AgentClient::connect() {
  connect_unix(io_, options_.agent_socket, [this](const std::error_code& error, Connection::Socket socket) {
    if (stopping_) return;
    if (!error) return attach(std::move(socket));
    supervise();
    retry();
  });
}

void AgentClient::retry() {
  if (stopping_) return;
  retry_timer_.expires_after(options_.timeouts.retry);
  retry_timer_.async_wait([this](const std::error_code& error) {
    if (!error && !stopping_) connect();
  });
}

// One that answers is never replaced, whoever started it: it may hold a ticket.
void AgentClient::supervise() {
  if (options_.agent_command.empty() || (child_ && child_->running())) return;
  try {
    child_ = Child::start(io_,
                          {options_.agent_command.front(), options_.agent_command, "", own_environment(),
                           options_.state_dir / "agent.log"},
                          [](int status) { spdlog::warn("agent process ended, status {}", status); });
    spdlog::info("agent process {} started: {}", child_->pid(), options_.agent_command.front());
  } catch (const std::system_error& error) {
    spdlog::error("agent process cannot be started: {}", error.what());
  }
}

void AgentClient::attach(Connection::Socket socket) {
  wire::Hello hello;
  hello.set_role(wire::PEER_ROLE_DAEMON);
  hello.set_name(options_.name);
  Connection::Callbacks callbacks;
  callbacks.on_up = [this](const wire::Hello& theirs) {
    if (theirs.role() != wire::PEER_ROLE_AGENT) return connection_->close("not an agent");
    learn_info();
  };
  callbacks.on_message = [this](wire::Envelope& message) { on_message(message); };
  callbacks.on_down = [this](const std::string& why) { on_down(why); };
  connection_ = Connection::start(std::move(socket), hello, std::move(callbacks));
}

void AgentClient::learn_info() {
  wire::Envelope message;
  message.mutable_agent_info_request();
  connection_->request(std::move(message), [this](const wire::Envelope& reply) {
    if (!reply.has_agent_info()) return;
    const bool same = info_.instance_key().empty() || info_.instance_key() == reply.agent_info().instance_key();
    info_ = reply.agent_info();
    ready_ = true;
    spdlog::info("agent is up{}", same ? "" : ": another instance, which knows nothing of earlier attempts");
    for (Watcher* watcher : std::set(watchers_)) watcher->agent_up(same);
  });
}

void AgentClient::on_message(const wire::Envelope& message) {
  if (message.has_agent_link_bytes()) {
    const auto sink = links_.find(message.agent_link_bytes().link());
    if (sink != links_.end()) sink->second->link_bytes(message.agent_link_bytes().data());
  } else if (message.has_agent_link_state()) {
    const auto sink = links_.find(message.agent_link_state().link());
    if (sink != links_.end()) sink->second->link_state(message.agent_link_state());
  } else if (message.has_agent_event()) {
    for (Watcher* watcher : std::set(watchers_)) {
      if (watchers_.contains(watcher)) watcher->agent_event(message.agent_event());
    }
  }
}

void AgentClient::on_down(const std::string& why) {
  connection_.reset();
  const bool was_ready = std::exchange(ready_, false);
  if (stopping_) return;
  if (was_ready) {
    spdlog::warn("agent is gone: {}", why);
    for (Watcher* watcher : std::set(watchers_)) {
      if (watchers_.contains(watcher)) watcher->agent_down();
    }
    // Links do not outlive the connection that opened them.
    wire::AgentLinkState lost;
    lost.set_state(wire::AgentLinkState::FAILED);
    lost.set_errc(static_cast<std::uint32_t>(Errc::kNoSession));
    for (const auto& [link, sink] : std::exchange(links_, {})) sink->link_state(lost);
  }
  retry();
}

AgentLink::AgentLink(AgentClient& agent, bool is_server, Callbacks callbacks)
    : agent_(agent), is_server_(is_server), callbacks_(std::move(callbacks)) {}

AgentLink::~AgentLink() {
  *alive_ = false;
  if (id_ == 0) return;
  agent_.unwatch_link(id_);
  wire::Envelope message;
  message.mutable_agent_link_close()->set_link(id_);
  agent_.notify(std::move(message));
}

void AgentLink::open() {
  wire::Envelope message;
  message.mutable_agent_link_open()->set_is_server(is_server_);
  agent_.request(std::move(message), [this, alive = alive_](const wire::Envelope& reply) {
    if (!*alive) return;
    if (!reply.has_agent_link()) return callbacks_.failed(Errc::kNoSession);
    if (reply.agent_link().errc() != 0) return callbacks_.failed(static_cast<Errc>(reply.agent_link().errc()));
    id_ = reply.agent_link().link();
    agent_.watch_link(id_, this);
    if (!early_.empty()) feed(std::exchange(early_, {}));
  });
}

void AgentLink::feed(std::string data) {
  if (id_ == 0) {
    if (early_.size() + data.size() > kMaxEarlyBytes) return callbacks_.failed(Errc::kBadMessage);
    early_ += data;
    return;
  }
  wire::Envelope message;
  message.mutable_agent_link_bytes()->set_link(id_);
  message.mutable_agent_link_bytes()->set_data(std::move(data));
  agent_.notify(std::move(message));
}

void AgentLink::link_bytes(const std::string& data) {
  callbacks_.send(data);
}

void AgentLink::link_state(const wire::AgentLinkState& state) {
  if (state.state() == wire::AgentLinkState::UP && !up_) {
    up_ = true;
    callbacks_.up();
  } else if (state.state() == wire::AgentLinkState::FAILED) {
    up_ = false;
    callbacks_.failed(static_cast<Errc>(state.errc()));
  }
}

}  // namespace sealift::daemon

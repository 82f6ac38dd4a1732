#include "daemon/agent_server.h"

#include <algorithm>
#include <asio/local/stream_protocol.hpp>
#include <map>
#include <set>

#include "daemon/connection.h"
#include "daemon/endpoint.h"
#include "daemon/failure.h"

namespace sealift::daemon {

namespace {

std::string text(const Bytes& bytes) {
  return {bytes.begin(), bytes.end()};
}
ByteView view(const std::string& bytes) {
  return {reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()};
}

std::optional<std::array<std::uint8_t, 16>> attempt_of(const std::string& bytes) {
  std::array<std::uint8_t, 16> out{};
  if (bytes.size() != out.size()) return std::nullopt;
  std::copy(bytes.begin(), bytes.end(), out.begin());
  return out;
}

wire::Envelope result(Errc error, const Bytes& sealed = {}) {
  wire::Envelope out;
  out.mutable_agent_result()->set_errc(static_cast<std::uint32_t>(error));
  out.mutable_agent_result()->set_sealed(text(sealed));
  return out;
}

wire::Envelope result(const Result<Bytes>& sealed) {
  return sealed.ok() ? result(Errc::kOk, *sealed) : result(sealed.error());
}

}  // namespace

struct AgentServer::Impl : std::enable_shared_from_this<Impl> {
  struct Client {
    std::shared_ptr<Connection> connection;
    std::map<std::uint64_t, AgentPort::LinkStatus> links;  // and what was last told of them
  };

  Impl(asio::io_context& io_, const std::string& path, AgentPort& port_, std::string name_)
      : io(io_), acceptor(listen_unix(io_, path)), port(port_), name(std::move(name_)) {}

  void accept() {
    acceptor.async_accept(
        [weak = weak_from_this()](const std::error_code& error, asio::local::stream_protocol::socket socket) {
          const auto self = weak.lock();
          if (!self || error == asio::error::operation_aborted) return;
          if (!error) self->welcome(Connection::Socket(std::move(socket)));
          self->accept();
        });
  }

  void welcome(Connection::Socket socket) {
    auto client = std::make_shared<Client>();
    wire::Hello hello;
    hello.set_role(wire::PEER_ROLE_AGENT);
    hello.set_name(name);
    const std::weak_ptr<Impl> weak = weak_from_this();
    Connection::Callbacks callbacks;
    callbacks.on_message = [weak, client](wire::Envelope& message) {
      if (const auto self = weak.lock()) self->serve(*client, message);
    };
    callbacks.on_down = [weak, client](const std::string&) {
      if (const auto self = weak.lock()) self->leave(client);
    };
    client->connection = Connection::start(std::move(socket), hello, std::move(callbacks));
    clients.insert(client);
  }

  void leave(const std::shared_ptr<Client>& client) {
    for (const auto& [link, status] : client->links) port.link_close(link);
    client->links.clear();
    client->connection.reset();
    clients.erase(client);
    pump();
  }

  void serve(Client& client, const wire::Envelope& message) {
    const auto connection = client.connection;
    wire::Envelope reply;
    if (answer(client, message, reply)) {
      connection->reply(message.id(), std::move(reply));
    } else {
      connection->reply(message.id(), make_failure(wire::Failure::BAD_REQUEST, "not a message for an agent", "", ""));
    }
    pump();
  }

  // False: no message that an agent understands.
  bool answer(Client& client, const wire::Envelope& message, wire::Envelope& reply) {
    switch (message.body_case()) {
      case wire::Envelope::kAgentInfoRequest:
        info(*reply.mutable_agent_info());
        return true;
      case wire::Envelope::kAgentLocalHello:
        local_hello(message.agent_local_hello(), *reply.mutable_agent_local_session());
        return true;
      case wire::Envelope::kAgentLocalMessage:
        reply = result(
            port.local_message(message.agent_local_message().session(), view(message.agent_local_message().sealed())));
        return true;
      case wire::Envelope::kAgentLocalPoll:
        reply = result(port.local_poll(message.agent_local_poll().session()));
        return true;
      case wire::Envelope::kAgentLocalClose:
        port.local_close(message.agent_local_close().session());
        return true;
      case wire::Envelope::kAgentLinkOpen:
        link_open(client, message.agent_link_open().is_server(), *reply.mutable_agent_link());
        return true;
      case wire::Envelope::kAgentLinkBytes:
        // An error is final for the link and told by its state.
        if (client.links.contains(message.agent_link_bytes().link())) {
          (void)port.link_feed(message.agent_link_bytes().link(), view(message.agent_link_bytes().data()));
        }
        return true;
      case wire::Envelope::kAgentLinkClose:
        if (client.links.erase(message.agent_link_close().link()) != 0) {
          port.link_close(message.agent_link_close().link());
        }
        return true;
      default:
        return answer_attempt(message, reply);
    }
  }

  bool answer_attempt(const wire::Envelope& message, wire::Envelope& reply) {
    switch (message.body_case()) {
      case wire::Envelope::kAgentOffer: {
        const auto attempt = attempt_of(message.agent_offer().attempt());
        reply = result(attempt ? port.offer(*attempt, message.agent_offer().link()) : Errc::kBadMessage);
        return true;
      }
      case wire::Envelope::kAgentCancel: {
        const auto attempt = attempt_of(message.agent_cancel().attempt());
        reply = result(attempt ? port.cancel(*attempt) : Errc::kBadMessage);
        return true;
      }
      case wire::Envelope::kAgentForget:
        if (const auto attempt = attempt_of(message.agent_forget().attempt())) port.forget(*attempt);
        return true;
      case wire::Envelope::kAgentAnnounce:
        reply = result(port.announce(message.agent_announce().session(), message.agent_announce().link()));
        return true;
      case wire::Envelope::kAgentRequestGrant:
        reply =
            result(port.request_grant(message.agent_request_grant().session(), message.agent_request_grant().link()));
        return true;
      case wire::Envelope::kAgentAttemptRequest:
        attempt_status(message.agent_attempt_request().attempt(), *reply.mutable_agent_attempt());
        return true;
      default:
        return false;
    }
  }

  void info(wire::AgentInfo& out) {
    const AgentPort::Info info = port.info();
    out.set_hello(text(info.hello));
    out.set_instance_key(text(info.instance_key));
    out.set_mrenclave(text(info.mrenclave));
    out.set_mrsigner(text(info.mrsigner));
    out.set_quote_ready(info.quote_ready);
  }

  void local_hello(const wire::AgentLocalHello& in, wire::AgentLocalSession& out) {
    const auto session = port.local_hello(view(in.hello()));
    out.set_errc(static_cast<std::uint32_t>(session.error()));
    if (!session.ok()) return;
    out.set_session(session->session);
    out.set_confirm(text(session->confirm));
  }

  void link_open(Client& client, bool is_server, wire::AgentLink& out) {
    const auto link = port.link_open(is_server);
    out.set_errc(static_cast<std::uint32_t>(link.error()));
    if (!link.ok()) return;
    out.set_link(*link);
    client.links.emplace(*link, AgentPort::LinkStatus{});
  }

  void attempt_status(const std::string& bytes, wire::AgentAttempt& out) {
    const auto attempt = attempt_of(bytes);
    if (!attempt) return out.set_errc(static_cast<std::uint32_t>(Errc::kBadMessage));
    const auto status = port.attempt_status(*attempt);
    out.set_errc(static_cast<std::uint32_t>(status.error()));
    if (!status.ok()) return;
    out.set_as_source(status->as_source);
    if (wire::AgentAttempt::State_IsValid(static_cast<int>(status->state))) {
      out.set_state(static_cast<wire::AgentAttempt::State>(status->state));
    }
    out.set_holds_key(status->holds_key);
  }

  // Link bytes before link states before events: whoever hears of an event may use the link at once.
  void pump() {
    for (const auto& client : clients) {
      for (auto& [link, told] : client->links) pump_link(*client->connection, link, told);
    }
    while (const auto event = port.next_event()) {
      wire::Envelope out;
      wire::AgentEvent& body = *out.mutable_agent_event();
      if (wire::AgentEvent::Kind_IsValid(static_cast<int>(event->kind))) {
        body.set_kind(static_cast<wire::AgentEvent::Kind>(event->kind));
      }
      body.set_errc(static_cast<std::uint32_t>(event->error));
      body.set_link(event->link);
      body.set_attempt(std::string(event->attempt.begin(), event->attempt.end()));
      for (const auto& client : clients) client->connection->notify(out);
    }
  }

  void pump_link(Connection& connection, std::uint64_t link, AgentPort::LinkStatus& told) {
    for (auto bytes = port.link_take(link); bytes.ok() && !bytes->empty(); bytes = port.link_take(link)) {
      wire::Envelope out;
      out.mutable_agent_link_bytes()->set_link(link);
      out.mutable_agent_link_bytes()->set_data(text(*bytes));
      connection.notify(std::move(out));
    }
    const auto status = port.link_state(link);
    if (!status.ok() || *status == told) return;
    told = *status;
    wire::Envelope out;
    wire::AgentLinkState& body = *out.mutable_agent_link_state();
    body.set_link(link);
    body.set_state(status->phase == 1   ? wire::AgentLinkState::UP
                   : status->phase == 2 ? wire::AgentLinkState::FAILED
                                        : wire::AgentLinkState::HANDSHAKING);
    body.set_errc(static_cast<std::uint32_t>(status->error));
    body.set_verdict_expires(status->verdict_expires);
    connection.notify(std::move(out));
  }

  asio::io_context& io;
  asio::local::stream_protocol::acceptor acceptor;
  AgentPort& port;
  std::string name;
  std::set<std::shared_ptr<Client>> clients;
};

AgentServer::AgentServer(asio::io_context& io, const std::string& socket_path, AgentPort& port, std::string name)
    : impl_(std::make_shared<Impl>(io, socket_path, port, std::move(name))) {
  impl_->accept();
}

AgentServer::~AgentServer() {
  std::error_code ignored;  // closing
  impl_->acceptor.close(ignored);
  const auto clients = std::exchange(impl_->clients, {});
  for (const auto& client : clients) client->connection->close("the agent ends");
}

void AgentServer::pump() {
  impl_->pump();
}

}  // namespace sealift::daemon

// GuestSession: the host's end of one session with a guest's broker. It carries commands and reports, and passes the
// guest's conversation with this machine's agent on: a guest may speak of its own sessions and attempts alone.
//
// OfferBook: over which link an attempt was offered to this machine's agent, that is, where its arbiter is.
//
// Threads: the io_context's.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "daemon/agent_client.h"
#include "daemon/connection.h"

namespace sealift::daemon {

class OfferBook : private AgentClient::Watcher {
 public:
  explicit OfferBook(AgentClient& agent) : agent_(agent) { agent_.watch(this); }
  ~OfferBook() override { agent_.unwatch(this); }
  OfferBook(const OfferBook&) = delete;
  OfferBook& operator=(const OfferBook&) = delete;

  [[nodiscard]] std::optional<std::uint64_t> link_of(const std::string& attempt) const;

 private:
  void agent_up(bool same) override;
  void agent_down() override;
  void agent_event(const wire::AgentEvent& event) override;

  AgentClient& agent_;
  std::map<std::string, std::uint64_t> links_;
  std::deque<std::string> order_;  // the oldest is forgotten first
};

class GuestSession : public std::enable_shared_from_this<GuestSession>, private AgentClient::Watcher {
 public:
  struct Callbacks {
    std::function<void(const std::string& name)> on_up;  // what the broker calls its guest
    std::function<void(const wire::GuestReport&)> on_report;
    std::function<void(const std::string& why)> on_down;
  };

  static std::shared_ptr<GuestSession> start(Connection::Socket socket, const std::string& my_name, AgentClient& agent,
                                             const OfferBook& offers, Callbacks callbacks);
  ~GuestSession() override;

  // The reply has a guest_report, or a failure.
  void command(const wire::GuestCommand& command, Connection::ReplyHandler on_reply);
  void close(const std::string& why);
  // The agent's sessions that this guest's earlier ones have left open: the same hellos take them up again. They count,
  // and the oldest are closed for new ones.
  void succeed(std::shared_ptr<std::set<std::uint64_t>> left) { left_ = std::move(left); }
  // An enclave of this guest has shown the agent a report for this attempt, and talks to it.
  [[nodiscard]] bool owns(const std::string& attempt) const { return attempts_.contains(attempt); }

 private:
  GuestSession(AgentClient& agent, const OfferBook& offers, Callbacks callbacks);
  void on_message(wire::Envelope& message);
  void local_hello(std::uint64_t id, const wire::Envelope& message);
  void request_grant(std::uint64_t id, std::uint64_t session);
  // `on_reply` comes while there is a connection.
  void ask_agent(std::uint64_t id, wire::Envelope message, Connection::ReplyHandler on_reply);
  void ask_arbiter(std::uint64_t id, std::uint64_t session);
  void forward(std::uint64_t id, wire::Envelope message);
  [[nodiscard]] bool make_room();
  void local_close(wire::Envelope message);
  void refuse(std::uint64_t id, const std::string& what);
  void tell_agent();
  void stop_watching();
  // AgentClient::Watcher
  void agent_up(bool same) override;
  void agent_down() override;
  void agent_event(const wire::AgentEvent& event) override;

  AgentClient& agent_;
  const OfferBook& offers_;
  Callbacks callbacks_;
  std::shared_ptr<Connection> connection_;
  bool watching_ = true;
  std::size_t asked_ = 0;                          // of the agent, and not answered
  std::map<std::uint64_t, std::string> sessions_;  // with the agent, and their attempts
  std::multiset<std::string> attempts_;            // those
  std::shared_ptr<std::set<std::uint64_t>> left_ = std::make_shared<std::set<std::uint64_t>>();
};

}  // namespace sealift::daemon

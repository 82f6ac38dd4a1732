// AgentClient: this daemon's connection to the agent process of its machine, kept up for ever.
//
// Threads: the io_context's. Ownership: watchers and link sinks are held by pointer and must be removed before they
// die.
#pragma once

#include <spdlog/spdlog.h>

#include <asio/io_context.hpp>
#include <asio/steady_timer.hpp>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "daemon/connection.h"
#include "daemon/options.h"
#include "daemon/spawn.h"
#include "migration/errc.h"

namespace sealift::daemon {

class AgentClient {
 public:
  class Watcher {
   public:
    virtual ~Watcher() = default;
    // `same`: the instance that was here before. True as well for the first.
    virtual void agent_up(bool same) = 0;
    virtual void agent_down() = 0;
    virtual void agent_event(const wire::AgentEvent& event) = 0;
  };
  class LinkSink {
   public:
    virtual ~LinkSink() = default;
    virtual void link_bytes(const std::string& data) = 0;
    virtual void link_state(const wire::AgentLinkState& state) = 0;
  };

  AgentClient(asio::io_context& io, const Options& options);
  void start();
  // The agent process goes on: it may hold a ticket.
  void stop();

  [[nodiscard]] bool up() const noexcept { return ready_; }
  [[nodiscard]] const wire::AgentInfo& info() const noexcept { return info_; }

  // The reply has a failure if there is no agent.
  void request(wire::Envelope message, Connection::ReplyHandler on_reply);
  void notify(wire::Envelope message);

  void watch(Watcher* watcher) { watchers_.insert(watcher); }
  void unwatch(Watcher* watcher) { watchers_.erase(watcher); }
  void watch_link(std::uint64_t link, LinkSink* sink) { links_[link] = sink; }
  void unwatch_link(std::uint64_t link) { links_.erase(link); }

 private:
  void connect();
  void retry();
  void attach(Connection::Socket socket);
  void learn_info();
  void supervise();
  void on_message(const wire::Envelope& message);
  void on_down(const std::string& why);

  asio::io_context& io_;
  const Options& options_;
  asio::steady_timer retry_timer_;
  std::shared_ptr<Connection> connection_;
  std::shared_ptr<Child> child_;
  wire::AgentInfo info_;
  bool ready_ = false;
  bool stopping_ = false;
  std::set<Watcher*> watchers_;
  std::map<std::uint64_t, LinkSink*> links_;
};

// The daemons' end of one RA-TLS link between two agents: carries its bytes over whatever the owner sends them on.
class AgentLink : private AgentClient::LinkSink {
 public:
  struct Callbacks {
    std::function<void(const std::string&)> send;  // to the other daemon
    std::function<void()> up;
    std::function<void(Errc)> failed;
  };
  AgentLink(AgentClient& agent, bool is_server, Callbacks callbacks);
  ~AgentLink() override;
  AgentLink(const AgentLink&) = delete;
  AgentLink& operator=(const AgentLink&) = delete;

  void open();
  void feed(std::string data);  // from the other daemon
  [[nodiscard]] bool up() const noexcept { return up_; }
  [[nodiscard]] std::uint64_t id() const noexcept { return id_; }

 private:
  void link_bytes(const std::string& data) override;
  void link_state(const wire::AgentLinkState& state) override;

  AgentClient& agent_;
  const bool is_server_;
  const Callbacks callbacks_;
  std::uint64_t id_ = 0;  // 0: not open yet
  bool up_ = false;
  std::string early_;  // bytes that came before the link was open
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace sealift::daemon

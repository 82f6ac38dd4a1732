// Peer: the source's side of the connection to another sealiftd, with the RA-TLS link between the two agents inside.
// Kept open between migrations, so that attestation is off the next one's critical path.
//
// PeerSession: the target's side of the same.
//
// Threads: the io_context's. Users are held by pointer and must leave before they die.
#pragma once

#include <asio/steady_timer.hpp>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "daemon/agent_client.h"
#include "daemon/endpoint.h"
#include "daemon/incoming.h"
#include "daemon/options.h"

namespace sealift::daemon {

class PeerUser {
 public:
  virtual ~PeerUser() = default;
  virtual void peer_up() = 0;
  virtual void peer_gone(const wire::Failure& why) = 0;
  virtual void peer_event(const wire::TargetEvent& event) = 0;
  virtual void peer_taken(std::uint64_t count) = 0;
  virtual void peer_vm_event(const wire::VmEvent&) {}      // of a VM's move, whose number is the attempt here
  virtual void peer_guest_told(const wire::GuestTold&) {}  // of anybody's attempts
};

class Peer : private AgentClient::Watcher {
 public:
  Peer(asio::io_context& io, const Options& options, AgentClient& agent, HostPort where);
  ~Peer() override;

  // `user` hears peer_up (not from inside this call) or peer_gone, and then everything about its attempt.
  void join(PeerUser* user);
  void set_attempt(PeerUser* user, const std::string& attempt);
  void leave(PeerUser* user);

  void notify(wire::Envelope message);
  [[nodiscard]] bool up() const noexcept { return up_; }
  [[nodiscard]] std::uint64_t agent_link() const noexcept { return link_ ? link_->id() : 0; }
  [[nodiscard]] std::string name() const { return where_.str(); }

 private:
  void connect();
  void attach(Connection::Socket socket);
  void open_link();
  void on_message(wire::Envelope& message);
  void down(const wire::Failure& why);
  // AgentClient::Watcher
  void agent_up(bool same) override;
  void agent_down() override;
  void agent_event(const wire::AgentEvent& event) override;

  asio::io_context& io_;
  const Options& options_;
  AgentClient& agent_;
  const HostPort where_;
  asio::steady_timer timer_;
  std::shared_ptr<Connection> connection_;
  std::unique_ptr<AgentLink> link_;
  bool connecting_ = false;
  bool up_ = false;
  std::map<PeerUser*, std::string> users_;  // and their attempts
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

// One connection from a source's daemon.
class PeerSession : public IncomingMigration::Owner, public std::enable_shared_from_this<PeerSession> {
 public:
  // What a session needs of the daemon.
  class Host {
   public:
    virtual ~Host() = default;
    // Null with `failure` filled if it cannot be taken.
    virtual std::shared_ptr<IncomingMigration> new_incoming(const wire::Incoming& incoming, wire::Failure& failure) = 0;
    [[nodiscard]] virtual std::shared_ptr<IncomingMigration> find_incoming(const std::string& attempt) = 0;
    // Whether an earlier attempt's instance runs here already.
    [[nodiscard]] virtual bool runs_here(const wire::Attach& attach) = 0;
    // Started so recently that processes of its earlier life may not have come back yet.
    [[nodiscard]] virtual bool settling() const = 0;
    virtual void vm_message(const std::shared_ptr<PeerSession>& from, const wire::Envelope& message) = 0;
    // Those that run in this host's guests.
    [[nodiscard]] virtual wire::GuestTold guest_ask(const wire::GuestAsk& ask) = 0;
    virtual void session_ended(PeerSession* session) = 0;
  };

  static std::shared_ptr<PeerSession> start(Connection::Socket socket, const Options& options, AgentClient& agent,
                                            Host& host);
  void close(const std::string& why);
  void notify(wire::Envelope message);
  // This host's, as the source reaches it.
  [[nodiscard]] std::string local_address() const;
  // Something registered, or the host has settled: answers what can now be answered.
  void answer_attaches();

  // IncomingMigration::Owner
  void target_event(const std::string& attempt, wire::TargetEvent::Kind kind, const wire::Failure& failure) override;
  void target_taken(const std::string& attempt, std::uint64_t count) override;
  [[nodiscard]] std::uint64_t agent_link() const override { return link_ ? link_->id() : ~std::uint64_t{0}; }
  [[nodiscard]] std::string owner_name() const override { return name_; }

 private:
  PeerSession(AgentClient& agent, Host& host) : agent_(agent), host_(host) {}
  void on_up(const wire::Hello& hello);
  void on_message(wire::Envelope& message);
  void incoming(const wire::Incoming& request);
  [[nodiscard]] bool attach(const wire::Attach& request);
  void on_down(const std::string& why);
  [[nodiscard]] std::shared_ptr<IncomingMigration> mine(const std::string& attempt);

  AgentClient& agent_;
  Host& host_;
  std::shared_ptr<Connection> connection_;
  std::unique_ptr<AgentLink> link_;
  std::string name_;
  std::set<std::string> attempts_;
  std::vector<wire::Attach> unanswered_;
};

}  // namespace sealift::daemon

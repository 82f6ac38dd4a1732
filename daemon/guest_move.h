// GuestMove: the attempts of one guest's enclaves whose keys the target's agent shall hold, and the link to it, kept up
// until each was granted. The agent over there may be replaced, or the link break: then they are offered again.
//
// Threads: the io_context's.
#pragma once

#include <asio/steady_timer.hpp>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "daemon/agent_client.h"
#include "daemon/options.h"
#include "daemon/peer.h"

namespace sealift::daemon {

class GuestMove : public PeerUser, private AgentClient::Watcher {
 public:
  // kOk: the link is up, or all that was offered is accepted. Else the first that went wrong.
  using Done = std::function<void(const wire::Failure&)>;

  GuestMove(asio::io_context& io, const Options& options, AgentClient& agent, std::shared_ptr<Peer> peer,
            std::string guest);
  ~GuestMove() override;
  GuestMove(const GuestMove&) = delete;
  GuestMove& operator=(const GuestMove&) = delete;

  // Brings the link up, and keeps it up from then on.
  void connect(Done done);
  // Adds an attempt of the enclave called `name`; nothing if it is known.
  void offer(const std::string& attempt, const std::string& name);
  void withdraw(const std::string& attempt);
  // When all that was offered is accepted, or one was refused.
  void when_accepted(Done done);
  [[nodiscard]] bool knows(const std::string& attempt) const { return attempts_.contains(attempt); }
  // Nothing is left to be granted.
  [[nodiscard]] bool over() const { return attempts_.empty(); }
  [[nodiscard]] std::string target() const { return peer_->name(); }

 private:
  struct Attempt {
    std::string name;
    bool accepted = false;
  };
  void send_offer(const std::string& attempt);
  void check();
  void tell(const wire::Failure& failure);
  // PeerUser
  void peer_up() override;
  void peer_gone(const wire::Failure& why) override;
  void peer_event(const wire::TargetEvent&) override {}
  void peer_taken(std::uint64_t) override {}
  // AgentClient::Watcher
  void agent_up(bool same) override;
  void agent_down() override {}
  void agent_event(const wire::AgentEvent& event) override;

  const Options& options_;
  AgentClient& agent_;
  std::shared_ptr<Peer> peer_;
  const std::string guest_;
  asio::steady_timer redial_timer_;
  std::map<std::string, Attempt> attempts_;
  Done connected_, accepted_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace sealift::daemon

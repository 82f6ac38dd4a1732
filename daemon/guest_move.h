// GuestMove: the attempts of one guest's enclaves whose keys the target's agent shall hold, and the link to it, kept up
// until each enclave runs. The agent over there may be replaced, or the link break, or this daemon be restarted: then
// they are offered again.
//
// An attempt is over when the enclave runs on the target (whose daemon is asked for that once the agent has granted:
// the grant itself may be lost on the way, and is then asked for again), or here, or when the agent knows it no more.
//
// Threads: the io_context's.
#pragma once

#include <asio/steady_timer.hpp>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "daemon/agent_client.h"
#include "daemon/guest_journal.h"
#include "daemon/options.h"
#include "daemon/peer.h"

namespace sealift::daemon {

struct GuestEnclave;

class GuestMove : public PeerUser, private AgentClient::Watcher {
 public:
  // kOk: the link is up, or all that was offered is accepted. Else the first that went wrong.
  using Done = std::function<void(const wire::Failure&)>;

  GuestMove(asio::io_context& io, const Options& options, AgentClient& agent, std::shared_ptr<Peer> peer,
            GuestJournal journal);
  // The journal stays, for the next life of this daemon.
  ~GuestMove() override;
  GuestMove(const GuestMove&) = delete;
  GuestMove& operator=(const GuestMove&) = delete;

  // Brings the link up, and keeps it up from then on.
  void connect(Done done);
  // The journal is of an earlier life of this daemon: goes on with what it names, as far as this machine's agent knows
  // it.
  void recover();
  // Adds an enclave's attempt; nothing if it is known.
  void offer(const GuestEnclave& enclave);
  // What the guest says on this host: an enclave that runs here needs its attempt no more.
  void saw(const std::vector<GuestEnclave>& enclaves);
  // When all that was offered is accepted, or one was refused.
  void when_accepted(Done done);
  [[nodiscard]] bool knows(const std::string& attempt) const { return attempts_.contains(attempt); }
  // All attempts were taken back.
  void discard();
  // Brings the journal up to date now.
  void flush() { journal_.flush(); }

  // Nothing is left to be granted.
  [[nodiscard]] bool over() const { return attempts_.empty(); }
  // Something was: enclaves may still be opened in a guest that had none.
  [[nodiscard]] bool begun() const { return begun_; }
  [[nodiscard]] std::string target() const { return peer_->name(); }
  [[nodiscard]] const std::string& guest() const { return journal_.contents().guest(); }

 private:
  struct Attempt {
    std::string name;
    std::string lineage;
    std::uint64_t epoch = 0;  // of the source
    bool accepted = false;
    bool granted = false;
    bool taken_back = false;  // the agent is being asked to forget it
    unsigned asked = 0;       // how often the target was asked whether it runs
  };
  void send_offer(const std::string& attempt);
  void check();
  void tell(const wire::Failure& failure);
  void drop(const std::string& attempt);
  void take_back(const std::string& attempt);
  void save_soon();
  void learn_states();
  void ask_target();
  void forget_unseen();
  // PeerUser
  void peer_up() override;
  void peer_gone(const wire::Failure& why) override;
  void peer_event(const wire::TargetEvent&) override {}
  void peer_taken(std::uint64_t) override {}
  void peer_guest_told(const wire::GuestTold& told) override;
  // AgentClient::Watcher
  void agent_up(bool same) override;
  void agent_down() override {}
  void agent_event(const wire::AgentEvent& event) override;

  const Options& options_;
  AgentClient& agent_;
  std::shared_ptr<Peer> peer_;
  GuestJournal journal_;
  asio::steady_timer redial_timer_, save_timer_, ask_timer_;
  std::chrono::milliseconds redial_;
  bool begun_ = false, saving_ = false, asking_ = false;
  std::map<std::string, Attempt> attempts_;
  Done connected_, accepted_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace sealift::daemon

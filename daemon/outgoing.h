// OutgoingMigration: one attempt to move an enclave of this host away. It drives SourceMachine (migration/source.h) and
// keeps the stream until somebody has been granted.
//
// Flow control: `Options::window` records may be on their way from the source's enclave to the target's. The target's
// acknowledgements come back through both daemons, so no queue on the way ever holds more.
//
// Threads: the io_context's. Ownership: shared; it also owns the instance that it restores here if the target fails.
#pragma once

#include <asio/steady_timer.hpp>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "daemon/agent_client.h"
#include "daemon/incoming.h"
#include "daemon/options.h"
#include "daemon/peer.h"
#include "daemon/registry.h"
#include "daemon/spool.h"
#include "migration/progress.h"
#include "migration/source.h"

namespace sealift::daemon {

class OutgoingMigration : public std::enable_shared_from_this<OutgoingMigration>,
                          public EnclaveUser,
                          public PeerUser,
                          public IncomingMigration::Owner,
                          private AgentClient::Watcher {
 public:
  // What it needs of the daemon.
  class Host {
   public:
    virtual ~Host() = default;
    virtual std::shared_ptr<IncomingMigration> new_local(const wire::Incoming& incoming) = 0;
    virtual void outgoing_changed(OutgoingMigration* migration) = 0;  // for those who watch; also when it has finished
  };
  struct Parts {
    asio::io_context& io;
    const Options& options;
    AgentClient& agent;
    Host& host;
  };

  OutgoingMigration(const Parts& parts, std::shared_ptr<Peer> peer);
  ~OutgoingMigration() override;

  void start(std::shared_ptr<Enclave> enclave);
  // From a journal, after this daemon's restart.
  void recover(const wire::Journal& journal);
  // The process of `attempt()` registered again.
  void source_back(std::shared_ptr<Enclave> enclave);

  // False: too late, or nothing to retry.
  [[nodiscard]] bool cancel();
  [[nodiscard]] bool retry();

  [[nodiscard]] bool finished() const noexcept { return machine_.finished(); }
  [[nodiscard]] SourceState state() const noexcept { return machine_.state(); }
  [[nodiscard]] const std::string& attempt() const noexcept { return incoming_.attempt(); }
  [[nodiscard]] const std::string& lineage() const noexcept { return incoming_.lineage(); }
  [[nodiscard]] const std::string& name() const noexcept { return incoming_.name(); }
  [[nodiscard]] std::uint32_t pid() const noexcept { return pid_; }
  [[nodiscard]] wire::MigrationInfo info() const;

 private:
  // EnclaveUser
  void enclave_record(std::string& record) override;
  void enclave_dump_end(Errc error) override;
  void enclave_taken(std::uint64_t, Errc) override {}
  void enclave_gone() override;
  // PeerUser
  void peer_up() override;
  void peer_gone(const wire::Failure& why) override;
  void peer_event(const wire::TargetEvent& event) override;
  void peer_taken(std::uint64_t count) override;
  // IncomingMigration::Owner, for the instance restored here
  void target_event(const std::string& attempt, wire::TargetEvent::Kind kind, const wire::Failure& failure) override;
  void target_taken(const std::string& attempt, std::uint64_t count) override;
  [[nodiscard]] std::uint64_t agent_link() const override { return 0; }
  [[nodiscard]] std::string owner_name() const override { return "this host"; }
  // AgentClient::Watcher
  void agent_up(bool same) override;
  void agent_down() override;
  void agent_event(const wire::AgentEvent& event) override;

  void on(SourceEvent event);
  void fail_with(SourceEvent event, wire::Failure failure);
  void perform(SourceAction action);
  void entered(SourceState before);
  void ticket_lost();
  void arm_timer();
  [[nodiscard]] std::chrono::milliseconds patience() const;
  template <typename Handler>
  auto here(Handler handler) {
    return [weak = weak_from_this(), state = machine_.state(), handler = std::move(handler)](const auto&... arguments) {
      const auto self = weak.lock();
      if (self && self->machine_.state() == state) handler(arguments...);
    };
  }
  template <typename Handler>
  auto alive(Handler handler) {
    return [weak = weak_from_this(), handler = std::move(handler)](const auto&... arguments) {
      if (const auto self = weak.lock()) handler(arguments...);
    };
  }
  [[nodiscard]] wire::Failure refused(std::string what, Errc error) const;

  // outgoing_steps.cc: one for each action
  void connect_peer();
  void open_session();
  void prepare(const std::string& confirm);
  void offer();
  void start_target();
  void quiesce();
  void dump();
  void poll_ready();
  void commit();
  void ask_ticket();
  void ticket_made(Errc error, const std::string& ticket);
  void hand_ticket();
  void give_ticket();
  void tell_committed();
  void attach();
  void ask_agent();
  void resume_local();
  void feed_local(std::uint64_t taken);
  void resume_failed(const wire::Failure& why);
  void stop_local();
  void cancel_source();
  void cancel_agent();
  void cancel_target();
  void release_source();
  void drop_stream();

  asio::io_context& io_;
  const Options& options_;
  AgentClient& agent_;
  Host& host_;
  std::shared_ptr<Peer> peer_;

  SourceMachine machine_;
  std::shared_ptr<Enclave> enclave_;
  std::uint32_t pid_ = 0;
  wire::Incoming incoming_;  // what the target is told; `attempt` is empty until the enclave has drawn it
  std::string enclave_hello_;
  std::string agent_instance_;  // from commit on: that has, or gets, the ticket
  std::uint64_t session_ = 0;
  bool ready_arrived_ = false;
  std::string ready_;   // sealed
  std::string ticket_;  // sealed
  std::unique_ptr<Spool> spool_;
  std::shared_ptr<IncomingMigration> local_;
  std::uint64_t local_fed_ = 0;

  Progress progress_;
  std::uint64_t taken_ = 0;
  std::uint64_t estimate_ = 0;
  double started_ = 0;
  double finished_at_ = 0;
  double gate_closed_ = 0;
  std::vector<std::pair<wire::Phase, double>> phases_;  // and when each began
  double gate_opened_ = 0;
  wire::Failure failure_;
  std::function<void()> when_agent_up_;  // again, whichever it is
  asio::steady_timer timer_;
  asio::steady_timer redial_timer_;
  std::chrono::milliseconds redial_delay_;
};

}  // namespace sealift::daemon

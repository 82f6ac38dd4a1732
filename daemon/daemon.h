// Daemon: sealiftd as a library. One per host; see docs/commands.md for what it does for people.
//
// Threads: everything happens on the thread that runs the io_context.
#pragma once

#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/local/stream_protocol.hpp>
#include <asio/steady_timer.hpp>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "daemon/agent_client.h"
#include "daemon/guest_port.h"
#include "daemon/incoming.h"
#include "daemon/options.h"
#include "daemon/outgoing.h"
#include "daemon/peer.h"
#include "daemon/registry.h"
#include "daemon/vm_service.h"

namespace sealift::daemon {

class Daemon : private PeerSession::Host, private OutgoingMigration::Host {
 public:
  // Throws std::system_error (a socket or folder cannot be had; the text names it) or std::invalid_argument.
  Daemon(asio::io_context& io, Options options);
  ~Daemon() override;

  void start();
  // Closes every socket. Sources that have not committed get their gate open again by their own link; what was restored
  // and waits for a grant goes on waiting; granted instances run on, unless Options::stop_children.
  void stop();

  // Where it really listens, also if port 0 was asked for.
  [[nodiscard]] std::string listen_address() const;
  [[nodiscard]] Registry& registry() noexcept { return registry_; }
  [[nodiscard]] GuestPort& guests() noexcept { return guests_; }
  [[nodiscard]] bool agent_up() const { return agent_.up(); }

 private:
  using CliDone = std::function<void(const OutgoingMigration&)>;
  struct Watch {
    std::weak_ptr<Connection> cli;
    std::uint64_t request;
  };

  void accept_local();
  void accept_peer();
  void recover();

  // Processes and the command line, on the Unix socket.
  void welcome_local(Connection::Socket socket, std::uint32_t pid);
  void process_message(const std::shared_ptr<Connection>& from, std::uint32_t pid, wire::Envelope& message);
  void process_register(const std::shared_ptr<Connection>& from, std::uint32_t pid, const wire::Envelope& message);
  void process_adopt(const std::shared_ptr<Connection>& from, const wire::Envelope& message);
  void offer_back(const std::shared_ptr<Enclave>& enclave);

  // commands.cc
  void cli_message(const std::shared_ptr<Connection>& from, const wire::Envelope& message);
  void refresh_all(std::function<void()> done);
  [[nodiscard]] std::vector<wire::EnclaveRow> guest_rows() const;
  void cli_ps(const std::shared_ptr<Connection>& from, std::uint64_t id);
  void cli_status(const std::shared_ptr<Connection>& from, std::uint64_t id, const std::string& which);
  void cli_migrate(const std::shared_ptr<Connection>& from, std::uint64_t id, const wire::MigrateRequest& request);
  void cli_cancel(const std::shared_ptr<Connection>& from, std::uint64_t id, const std::string& which);
  void cli_resume(const std::shared_ptr<Connection>& from, std::uint64_t id, const std::string& which);
  void watch(const std::shared_ptr<OutgoingMigration>& migration, const std::shared_ptr<Connection>& cli,
             std::uint64_t request);
  void report_progress();
  [[nodiscard]] wire::EnclaveRow row_of(const Enclave& enclave) const;
  [[nodiscard]] std::shared_ptr<OutgoingMigration> find_outgoing(const std::string& which) const;

  // PeerSession::Host
  std::shared_ptr<IncomingMigration> new_incoming(const wire::Incoming& incoming, wire::Failure& failure) override;
  std::shared_ptr<IncomingMigration> find_incoming(const std::string& attempt) override;
  bool runs_here(const wire::Attach& attach) override;
  bool settling() const override { return settling_; }
  void vm_message(const std::shared_ptr<PeerSession>& from, const wire::Envelope& message) override;
  wire::GuestTold guest_ask(const wire::GuestAsk& ask) override { return guests_.running(ask); }
  void session_ended(PeerSession* session) override;
  // OutgoingMigration::Host
  std::shared_ptr<IncomingMigration> new_local(const wire::Incoming& incoming) override;
  void outgoing_changed(OutgoingMigration* migration) override;

  std::shared_ptr<IncomingMigration> make_incoming(const wire::Incoming& incoming);
  void answer_attaches();
  void incoming_finished(const std::string& token);
  [[nodiscard]] std::shared_ptr<Peer> peer_for(const HostPort& where);
  [[nodiscard]] OutgoingMigration::Parts parts();

  asio::io_context& io_;
  const Options options_;
  Registry registry_;
  AgentClient agent_;
  GuestPort guests_;
  asio::local::stream_protocol::acceptor local_acceptor_;
  std::optional<asio::ip::tcp::acceptor> peer_acceptor_;
  asio::steady_timer progress_timer_;
  asio::steady_timer settle_timer_;
  bool settling_ = true;
  bool stopping_ = false;

  std::set<std::shared_ptr<Connection>> locals_;
  std::map<PeerSession*, std::shared_ptr<PeerSession>> sessions_;
  std::map<std::string, std::shared_ptr<Peer>> peers_;                  // by HOST:PORT
  std::map<std::string, std::shared_ptr<IncomingMigration>> incoming_;  // by token
  std::deque<std::shared_ptr<IncomingMigration>> incoming_history_;
  std::vector<std::shared_ptr<OutgoingMigration>> outgoing_;
  std::deque<std::shared_ptr<OutgoingMigration>> outgoing_history_;
  std::map<const OutgoingMigration*, std::vector<Watch>> watches_;
  VmService vms_;
};

}  // namespace sealift::daemon

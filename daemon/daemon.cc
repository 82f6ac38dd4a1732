#include "daemon/daemon.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "daemon/endpoint.h"
#include "daemon/failure.h"
#include "daemon/journal.h"
#include "daemon/local_connection.h"
#include "daemon/vm_guest.h"

namespace sealift::daemon {

namespace {

constexpr std::size_t kHistory = 64;      // finished migrations that `sealift status` still knows
constexpr std::size_t kMaxIncoming = 64;  // each is a process and an enclave
constexpr std::size_t kAttemptBytes = 16;

Options complete(Options options) {
  if (options.spool_dir.empty()) options.spool_dir = options.state_dir;
  for (const auto& dir : {options.state_dir, options.spool_dir}) {
    if (std::filesystem::create_directories(dir)) {
      std::filesystem::permissions(dir, std::filesystem::perms::owner_all);
    }
  }
  return options;
}

}  // namespace

Daemon::Daemon(asio::io_context& io, Options options)
    : io_(io),
      options_(complete(std::move(options))),
      agent_(io, options_),
      guests_({io, options_, agent_, [this](const HostPort& where) { return peer_for(where); }}),
      local_acceptor_(listen_unix(io, options_.socket)),
      progress_timer_(io),
      settle_timer_(io),
      vms_({io, options_, [this](const HostPort& where) { return peer_for(where); },
            [this](const wire::VmAdd& vm) -> std::unique_ptr<vm::GuestPort> {
              return std::make_unique<VmGuest>(io_, guests_, vm.name(), vm.guest_channel(),
                                               6 * options_.timeouts.stall);
            }}) {
  if (options_.listen.empty()) return;
  const auto where = parse_host_port(options_.listen);
  if (!where) throw std::invalid_argument("not HOST:PORT: " + options_.listen);
  peer_acceptor_.emplace(listen_tcp(io, *where));
}

Daemon::~Daemon() = default;

std::string Daemon::listen_address() const {
  return peer_acceptor_ ? address_of(*peer_acceptor_) : "";
}

void Daemon::start() {
  agent_.start();
  accept_local();
  if (peer_acceptor_) accept_peer();
  recover();
  guests_.recover();
  for (const std::string& channel : options_.guest_listen) guests_.listen(channel);
  for (const auto& [name, channel] : options_.guest_channels) guests_.attach(name, channel);
  vms_.start();
  settle_timer_.expires_after(options_.timeouts.settle);
  settle_timer_.async_wait([this](const std::error_code& error) {
    if (error) return;
    settling_ = false;
    answer_attaches();
  });
  spdlog::info("sealiftd {} serves {}{}{}", options_.name, options_.socket, peer_acceptor_ ? " and " : "",
               listen_address());
  if (peer_acceptor_ && options_.allowed_programs.empty()) {
    spdlog::info("{}", may_start(options_, "/bin/sh")
                           ? "incoming migrations may start any program: it listens on loopback only"
                           : "incoming migrations may start nothing: no --allow-program was given");
  }
}

void Daemon::stop() {
  stopping_ = true;
  std::error_code ignored;  // closing
  local_acceptor_.close(ignored);
  ::unlink(options_.socket.c_str());
  if (peer_acceptor_) peer_acceptor_->close(ignored);
  progress_timer_.cancel();
  settle_timer_.cancel();
  for (const auto& migration : incoming_history_) migration->shut_down();
  for (const auto& [token, migration] : incoming_) migration->shut_down();
  vms_.stop();
  guests_.stop();
  agent_.stop();
  for (const auto& connection : locals_) connection->close("the daemon ends");
  for (const auto& [key, session] : sessions_) session->close("the daemon ends");
  outgoing_.clear();
  peers_.clear();
}

void Daemon::accept_local() {
  local_acceptor_.async_accept([this](const std::error_code& error, asio::local::stream_protocol::socket socket) {
    if (stopping_ || error == asio::error::operation_aborted) return;
    if (!error) {
      if (const auto pid = trusted_pid(socket.native_handle())) {
        welcome_local(Connection::Socket(std::move(socket)), *pid);
      } else {
        spdlog::warn("refused a connection of another user");
      }
    }
    accept_local();
  });
}

void Daemon::accept_peer() {
  peer_acceptor_->async_accept([this](const std::error_code& error, asio::ip::tcp::socket socket) {
    if (stopping_ || error == asio::error::operation_aborted) return;
    if (!error) {
      watch_liveness(socket.native_handle());
      auto session = PeerSession::start(Connection::Socket(std::move(socket)), options_, agent_, *this);
      sessions_.emplace(session.get(), session);
    }
    accept_peer();
  });
}

void Daemon::recover() {
  for (const wire::Journal& journal : read_journals(options_.state_dir)) {
    const auto where = parse_host_port(journal.target());
    if (!where) continue;
    spdlog::info("found an unfinished migration of {} to {}", journal.incoming().name(), journal.target());
    auto migration = std::make_shared<OutgoingMigration>(parts(), peer_for(*where));
    outgoing_.push_back(migration);
    migration->recover(journal);
  }
}

OutgoingMigration::Parts Daemon::parts() {
  return {io_, options_, agent_, *this};
}

std::shared_ptr<Peer> Daemon::peer_for(const HostPort& where) {
  auto& peer = peers_[where.str()];
  if (!peer) peer = std::make_shared<Peer>(io_, options_, agent_, where);
  return peer;
}

// --- Processes ----------------------------------------------------------------------------------------------------

void Daemon::welcome_local(Connection::Socket socket, std::uint32_t pid) {
  LocalHandlers handlers;
  handlers.on_process = [this, pid](const auto& connection, wire::Envelope& message) {
    process_message(connection, pid, message);
  };
  handlers.on_command = [this](const auto& connection, wire::Envelope& message) { cli_message(connection, message); };
  handlers.on_down = [this](const auto& connection) {
    registry_.remove_all(connection.get());
    locals_.erase(connection);
  };
  locals_.insert(start_local(std::move(socket), options_.name, pid, std::move(handlers)));
}

void Daemon::process_message(const std::shared_ptr<Connection>& from, std::uint32_t pid, wire::Envelope& message) {
  const auto enclave = [&](std::uint64_t local_id) { return registry_.find(from.get(), local_id); };
  switch (message.body_case()) {
    case wire::Envelope::kRegister:
      return process_register(from, pid, message);
    case wire::Envelope::kUnregister:
      return registry_.remove(from.get(), message.unregister().local_id());
    case wire::Envelope::kAdopt:
      return process_adopt(from, message);
    case wire::Envelope::kAdoptFailed: {
      const auto found = incoming_.find(message.adopt_failed().token());
      if (found == incoming_.end()) return;
      return found->second->build_failed(static_cast<Errc>(message.adopt_failed().errc()),
                                         message.adopt_failed().text());
    }
    case wire::Envelope::kRecord:
      if (const auto source = enclave(message.record().local_id()); source && source->user != nullptr) {
        source->user->enclave_record(*message.mutable_record()->mutable_record());
      }
      return;
    case wire::Envelope::kDumpEnd:
      if (const auto source = enclave(message.dump_end().local_id()); source && source->user != nullptr) {
        source->user->enclave_dump_end(static_cast<Errc>(message.dump_end().errc()));
      }
      return;
    case wire::Envelope::kRecordsTaken:
      if (const auto target = enclave(message.records_taken().local_id()); target && target->user != nullptr) {
        target->user->enclave_taken(message.records_taken().count(), static_cast<Errc>(message.records_taken().errc()));
      }
      return;
    default:
      return from->close("not a message of a process");
  }
}

void Daemon::answer_attaches() {
  for (const auto& [key, session] : std::map(sessions_)) session->answer_attaches();
}

void Daemon::process_register(const std::shared_ptr<Connection>& from, std::uint32_t pid,
                              const wire::Envelope& message) {
  const bool known = registry_.find(from.get(), message.register_().local_id()) != nullptr;
  const auto enclave = registry_.add(from, message.register_(), pid != 0 ? pid : message.register_().pid());
  wire::Envelope reply;
  reply.mutable_registered();
  from->reply(message.id(), std::move(reply));
  if (known) return;
  spdlog::info("process {}: enclave {} {}", pid, enclave->registration().name(), hex(enclave->lineage()));
  const std::string& token = enclave->registration().adopt_token();
  if (token.empty()) {
    offer_back(enclave);
    return answer_attaches();
  }
  const auto found = incoming_.find(token);
  if (found != incoming_.end()) return found->second->built(enclave);
  // Of a token of an earlier life of this daemon: restored, or of no use to anybody.
  if (enclave->status().restored != 0) {
    wire::Incoming incoming;
    incoming.set_attempt(enclave->attempt());
    incoming.set_name(enclave->registration().name());
    make_incoming(incoming)->reattach(enclave);
    return answer_attaches();
  }
  enclave->release_abandoned(Errc::kUnknownAttempt);
}

// A process that this daemon, before its restart, or its connection, had lost in the middle of a commit or behind it.
// One that is destroyed, and that no migration under way needs, has moved away; there was nobody to tell it.
void Daemon::offer_back(const std::shared_ptr<Enclave>& enclave) {
  for (const auto& migration : outgoing_) {
    const bool recovers = migration->state() == SourceState::kRecover && migration->lineage() == enclave->lineage();
    if (recovers || migration->attempt() == enclave->attempt()) {
      return migration->source_back(enclave);
    }
  }
  if (enclave->destroyed()) enclave->release_moved();
}

void Daemon::process_adopt(const std::shared_ptr<Connection>& from, const wire::Envelope& message) {
  const auto found = incoming_.find(message.adopt().token());
  if (found == incoming_.end()) {
    return from->reply(message.id(),
                       make_failure(wire::Failure::NOT_FOUND, "no incoming migration waits for this token",
                                    message.adopt().token(), ""));
  }
  wire::Envelope reply;
  *reply.mutable_adoption() = found->second->adoption();
  from->reply(message.id(), std::move(reply));
}

// --- Incoming -----------------------------------------------------------------------------------------------------

std::shared_ptr<IncomingMigration> Daemon::make_incoming(const wire::Incoming& incoming) {
  auto token = std::make_shared<std::string>();
  auto migration = std::make_shared<IncomingMigration>(io_, options_, agent_, incoming,
                                                       [this, token] { incoming_finished(*token); });
  *token = migration->token();
  incoming_.emplace(*token, migration);
  return migration;
}

std::shared_ptr<IncomingMigration> Daemon::new_incoming(const wire::Incoming& incoming, wire::Failure& failure) {
  if (incoming.attempt().size() != kAttemptBytes || find_incoming(incoming.attempt())) {
    failure = make_failure(wire::Failure::BAD_REQUEST, "attempt number missing or in use", incoming.name(), "");
    return nullptr;
  }
  if (incoming_.size() >= kMaxIncoming) {
    failure = make_failure(wire::Failure::BUSY, "the target has too many incoming migrations", incoming.name(),
                           "try again when some have finished");
    return nullptr;
  }
  return make_incoming(incoming);
}

std::shared_ptr<IncomingMigration> Daemon::find_incoming(const std::string& attempt) {
  for (const auto& [token, migration] : incoming_) {
    if (migration->attempt() == attempt && !migration->finished()) return migration;
  }
  for (const auto& migration : incoming_history_) {
    if (migration->attempt() == attempt && migration->granted()) return migration;
  }
  return nullptr;
}

std::shared_ptr<IncomingMigration> Daemon::new_local(const wire::Incoming& incoming) {
  return make_incoming(incoming);
}

void Daemon::incoming_finished(const std::string& token) {
  const auto found = incoming_.find(token);
  if (found == incoming_.end()) return;
  incoming_history_.push_back(found->second);
  incoming_.erase(found);
  if (incoming_history_.size() > kHistory) incoming_history_.pop_front();
}

bool Daemon::runs_here(const wire::Attach& attach) {
  return registry_.running(attach.lineage(), attach.epoch() + 1) != nullptr;
}

void Daemon::vm_message(const std::shared_ptr<PeerSession>& from, const wire::Envelope& message) {
  vms_.peer_message(from, message);
}

void Daemon::session_ended(PeerSession* session) {
  sessions_.erase(session);
}

}  // namespace sealift::daemon

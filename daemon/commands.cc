// What people ask of sealiftd: the messages of the command line.
#include <algorithm>
#include <utility>

#include "daemon/daemon.h"
#include "daemon/endpoint.h"
#include "daemon/failure.h"

namespace sealift::daemon {

namespace {

constexpr std::size_t kHistory = 64;
constexpr std::chrono::milliseconds kReportEvery{100};

wire::Envelope list_of(const wire::MigrationInfo& info) {
  wire::Envelope out;
  *out.mutable_migration_list()->add_migrations() = info;
  return out;
}

// While there is no enclave, its broker knows only what was before.
abi::GateState gate_of(const GuestEnclave& enclave) {
  switch (enclave.state) {
    case GuestEnclave::State::kHeld:
      return abi::GateState::kQuiescing;
    case GuestEnclave::State::kResuming:
      return abi::GateState::kRestoring;
    case GuestEnclave::State::kCommitted:
    case GuestEnclave::State::kUnticketed:
    case GuestEnclave::State::kLost:
      return abi::GateState::kDestroyed;
    default:
      return static_cast<abi::GateState>(enclave.gate);
  }
}

}  // namespace

void Daemon::cli_message(const std::shared_ptr<Connection>& from, const wire::Envelope& message) {
  switch (message.body_case()) {
    case wire::Envelope::kPsRequest:
      return cli_ps(from, message.id());
    case wire::Envelope::kStatusRequest:
      return cli_status(from, message.id(), message.status_request().id());
    case wire::Envelope::kMigrateRequest:
      return cli_migrate(from, message.id(), message.migrate_request());
    case wire::Envelope::kCancelRequest:
      return cli_cancel(from, message.id(), message.cancel_request().id());
    case wire::Envelope::kResumeRequest:
      return cli_resume(from, message.id(), message.resume_request().id());
    default:
      if (vms_.cli_message(from, message)) return;
      return from->reply(message.id(), make_failure(wire::Failure::BAD_REQUEST, "not a command", "", ""));
  }
}

wire::EnclaveRow Daemon::row_of(const Enclave& enclave) const {
  wire::EnclaveRow row = enclave.row();
  for (const auto& migration : outgoing_) {
    if (migration->lineage() == enclave.lineage() && !migration->finished()) row.set_phase(migration->info().phase());
  }
  for (const auto& [token, migration] : incoming_) {
    if (enclave.user == migration.get()) row.set_phase(migration->info().phase());
  }
  return row;
}

void Daemon::refresh_all(std::function<void()> done) {
  auto left = std::make_shared<std::size_t>(1);
  const auto one_less = [left, done = std::move(done)] {
    if (--*left == 0) done();
  };
  for (const Guest& guest : guests_.guests()) {
    ++*left;
    guests_.refresh(guest.name, one_less);
  }
  registry_.refresh_all(io_, one_less);
}

std::vector<wire::EnclaveRow> Daemon::guest_rows() const {
  std::vector<wire::EnclaveRow> out;
  for (const Guest& guest : guests_.guests()) {
    if (!guest.connected) continue;
    for (const GuestEnclave& enclave : guest.enclaves) {
      wire::EnclaveRow row;
      row.set_guest(guest.name);
      row.set_lineage(enclave.lineage);
      row.set_epoch(enclave.epoch);
      row.set_name(enclave.name);
      row.set_pid(enclave.pid);
      row.set_gate(static_cast<std::uint32_t>(gate_of(enclave)));
      row.set_threads(enclave.threads);
      row.set_pages(enclave.pages);
      row.set_image(enclave.image);
      row.set_mrenclave(enclave.mrenclave);
      out.push_back(std::move(row));
    }
  }
  return out;
}

void Daemon::cli_ps(const std::shared_ptr<Connection>& from, std::uint64_t id) {
  refresh_all([this, from, id] {
    wire::Envelope reply;
    reply.mutable_ps_reply();
    for (const auto& enclave : registry_.all()) *reply.mutable_ps_reply()->add_enclaves() = row_of(*enclave);
    for (const auto& row : guest_rows()) *reply.mutable_ps_reply()->add_enclaves() = row;
    from->reply(id, std::move(reply));
  });
}

void Daemon::cli_status(const std::shared_ptr<Connection>& from, std::uint64_t id, const std::string& which) {
  refresh_all([this, from, id, which] {
    wire::Envelope reply;
    wire::StatusReply& out = *reply.mutable_status_reply();
    out.set_daemon_name(options_.name);
    out.set_listen(listen_address());
    out.set_agent_up(agent_.up());
    out.set_agent_instance(agent_.info().instance_key());
    out.set_agent_mrenclave(agent_.info().mrenclave());
    const auto add = [&](const auto& migration) {
      const wire::MigrationInfo info = migration.info();
      if (which.empty() || is_named(which, info.name(), 0, info.lineage())) *out.add_migrations() = info;
    };
    for (const auto& migration : outgoing_history_) add(*migration);
    for (const auto& migration : incoming_history_) add(*migration);
    for (const auto& migration : outgoing_) add(*migration);
    for (const auto& [token, migration] : incoming_) add(*migration);
    for (const auto& enclave : registry_.all()) {
      if (which.empty() || is_named(which, enclave->registration().name(), enclave->pid(), enclave->lineage())) {
        *out.add_enclaves() = row_of(*enclave);
      }
    }
    for (const auto& row : guest_rows()) {
      if (which.empty() || is_named(which, row.name(), row.pid(), row.lineage())) *out.add_enclaves() = row;
    }
    if (!which.empty() && out.enclaves().empty() && out.migrations().empty()) {
      return from->reply(id, make_failure(wire::Failure::NOT_FOUND, "no such enclave or migration on this host", which,
                                          "`sealift ps` lists the enclaves"));
    }
    from->reply(id, std::move(reply));
  });
}

void Daemon::cli_migrate(const std::shared_ptr<Connection>& from, std::uint64_t id,
                         const wire::MigrateRequest& request) {
  const auto where = parse_host_port(request.target());
  if (!where || where->host.empty()) {
    return from->reply(
        id, make_failure(wire::Failure::BAD_REQUEST, "not a host", request.target(), "give HOST or HOST:PORT"));
  }
  // The status tells lineage and epoch, which must be right.
  registry_.refresh_all(io_, [this, from, id, request, where] {
    wire::Failure failure;
    const auto enclave = registry_.find(request.id(), failure);
    if (!enclave) return from->reply(id, failure);
    const bool busy =
        enclave->user != nullptr || std::any_of(outgoing_.begin(), outgoing_.end(), [&](const auto& migration) {
          return migration->lineage() == enclave->lineage() && !migration->finished();
        });
    if (busy) {
      return from->reply(id, make_failure(wire::Failure::BUSY, "already migrating", request.id(),
                                          "`sealift status` shows it, `sealift cancel` stops it"));
    }
    if (enclave->status().gate != static_cast<std::uint32_t>(abi::GateState::kOpen)) {
      return from->reply(id, make_failure(wire::Failure::REFUSED, "this instance does not run", request.id(),
                                          "`sealift ps` shows its state"));
    }
    if (enclave->registration().program().exe().empty()) {
      return from->reply(id,
                         make_failure(wire::Failure::REFUSED, "the program cannot be started elsewhere", request.id(),
                                      "start it with less environment, its command line is too large to send"));
    }
    auto migration = std::make_shared<OutgoingMigration>(parts(), peer_for(*where));
    outgoing_.push_back(migration);
    migration->start(enclave);
    watch(migration, from, id);  // now that it has a name
  });
}

std::shared_ptr<OutgoingMigration> Daemon::find_outgoing(const std::string& which) const {
  for (const auto& migration : outgoing_) {
    if (is_named(which, migration->name(), migration->pid(), migration->lineage())) return migration;
  }
  return nullptr;
}

void Daemon::cli_cancel(const std::shared_ptr<Connection>& from, std::uint64_t id, const std::string& which) {
  if (const auto migration = find_outgoing(which)) {
    if (!migration->cancel()) {
      return from->reply(id, make_failure(wire::Failure::BUSY, "too late to cancel", which,
                                          "the source has committed; wait for `sealift status` to settle"));
    }
    return watch(migration, from, id);
  }
  for (const auto& [token, migration] : std::map(incoming_)) {
    const wire::MigrationInfo info = migration->info();
    if (!is_named(which, info.name(), 0, info.lineage())) continue;
    if (!migration->takes_cancel()) {
      return from->reply(id, make_failure(wire::Failure::BUSY, "too late to cancel", which, "it is being granted"));
    }
    migration->cancel();
    return from->reply(id, list_of(migration->info()));
  }
  from->reply(id,
              make_failure(wire::Failure::NOT_FOUND, "no migration under way", which, "`sealift status` lists them"));
}

void Daemon::cli_resume(const std::shared_ptr<Connection>& from, std::uint64_t id, const std::string& which) {
  const auto migration = find_outgoing(which);
  if (!migration) {
    return from->reply(
        id, make_failure(wire::Failure::NOT_FOUND, "no migration under way", which, "`sealift status` lists them"));
  }
  if (migration->state() != SourceState::kStranded) {
    return from->reply(id, make_failure(wire::Failure::BUSY, "nothing to resume", which,
                                        "only a stranded migration can be resumed; see `sealift status`"));
  }
  watch(migration, from, id);
  (void)migration->retry();
}

void Daemon::watch(const std::shared_ptr<OutgoingMigration>& migration, const std::shared_ptr<Connection>& cli,
                   std::uint64_t request) {
  watches_[migration.get()].push_back({cli, request});
  if (watches_.size() == 1) report_progress();
  if (migration->finished()) outgoing_changed(migration.get());
}

void Daemon::report_progress() {
  for (const auto& migration : outgoing_) {
    const auto watching = watches_.find(migration.get());
    if (watching == watches_.end()) continue;
    for (const Watch& watch : watching->second) {
      const auto cli = watch.cli.lock();
      if (!cli || !cli->up()) continue;
      wire::Envelope notice;
      *notice.mutable_migration_info() = migration->info();
      cli->notify(std::move(notice));
    }
  }
  if (watches_.empty() || stopping_) return;
  progress_timer_.expires_after(kReportEvery);
  progress_timer_.async_wait([this](const std::error_code& error) {
    if (!error) report_progress();
  });
}

// A stranded migration has not finished, but nothing happens to it by itself either: whoever waits hears so.
void Daemon::outgoing_changed(OutgoingMigration* migration) {
  const bool rests = migration->finished() || migration->state() == SourceState::kStranded;
  if (const auto watching = watches_.find(migration); watching != watches_.end()) {
    for (const Watch& watch : watching->second) {
      const auto cli = watch.cli.lock();
      if (!cli || !cli->up()) continue;
      wire::Envelope notice;
      *notice.mutable_migration_info() = migration->info();
      cli->notify(std::move(notice));
      if (rests) cli->reply(watch.request, list_of(migration->info()));
    }
    if (rests) watches_.erase(watching);
  }
  if (!migration->finished()) return;
  // Not now: the migration is in the middle of its last step.
  asio::post(io_, [this, migration] {
    const auto found =
        std::find_if(outgoing_.begin(), outgoing_.end(), [&](const auto& each) { return each.get() == migration; });
    if (found == outgoing_.end()) return;
    outgoing_history_.push_back(std::move(*found));
    outgoing_.erase(found);
    if (outgoing_history_.size() > kHistory) outgoing_history_.pop_front();
  });
}

}  // namespace sealift::daemon

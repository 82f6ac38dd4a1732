#include "vm/source_qemu.h"

#include <algorithm>
#include <array>
#include <utility>

namespace sealift::vm {

namespace {

using nlohmann::json;

constexpr std::chrono::milliseconds kAgain{20};
constexpr std::chrono::milliseconds kReconnect{200};
constexpr std::chrono::milliseconds kYank{1'000};  // QEMU answers within milliseconds, under TCG within some hundreds

QmpCommand command_for(const Pace& pace) {
  return {"migrate-set-parameters", {{"max-bandwidth", pace.bandwidth}, {"downtime-limit", pace.downtime.count()}}};
}

template <typename T>
T number(const json& from, const char* key) {
  if (!from.is_object()) return 0;
  const auto found = from.find(key);
  return found != from.end() && found->is_number() ? found->template get<T>() : T{0};
}

}  // namespace

bool MigrationView::under_way() const {
  static constexpr std::array kRests = {"", "none", "completed", "failed", "cancelled"};
  return std::find(kRests.begin(), kRests.end(), status) == kRests.end();
}

MigrationView view_of(const json& query_migrate) {
  MigrationView view;
  if (!query_migrate.is_object()) return view;
  if (const json status = query_migrate.value("status", json()); status.is_string()) view.status = status;
  if (const json error = query_migrate.value("error-desc", json()); error.is_string()) view.error = error;
  const json ram = query_migrate.value("ram", json());
  view.ram_total = number<std::uint64_t>(ram, "total");
  view.ram_remaining = number<std::uint64_t>(ram, "remaining");
  view.ram_transferred = number<std::uint64_t>(ram, "transferred");
  view.passes = number<std::uint64_t>(ram, "dirty-sync-count");
  const auto page = number<std::uint64_t>(ram, "page-size");
  view.ram_zeros = number<std::uint64_t>(ram, "duplicate") * page;
  view.ram_dealt = number<std::uint64_t>(ram, "normal") * page + view.ram_zeros;
  view.bytes_per_second = number<double>(ram, "mbps") * 1e6 / 8;
  view.setup_ms = number<double>(query_migrate, "setup-time");
  view.downtime_ms = number<double>(query_migrate, "downtime");
  view.total_ms = number<double>(query_migrate, "total-time");
  return view;
}

SourceQemu::SourceQemu(asio::io_context& io, std::string path, std::chrono::milliseconds patience)
    : io_(io), path_(std::move(path)), patience_(patience), timer_(io), yank_timer_(io) {}

void SourceQemu::connect(std::function<void(const QmpClient::Connected&)> done) {
  QmpClient::Callbacks callbacks;
  callbacks.on_event = [weak = weak_from_this()](const std::string& name, const json& data) {
    const auto self = weak.lock();
    if (!self) return;
    if (name == "STOP" && self->callbacks_.on_stopped) self->callbacks_.on_stopped();
    if (name != "MIGRATION" || !data.is_object() || !self->callbacks_.on_migration) return;
    if (const json status = data.value("status", json()); status.is_string()) self->callbacks_.on_migration(status);
  };
  callbacks.on_down = [weak = weak_from_this()](const std::string& why) {
    const auto self = weak.lock();
    if (self && self->callbacks_.on_lost) self->callbacks_.on_lost(why);
  };
  QmpClient::connect(io_, path_, patience_, std::move(callbacks),
                     [weak = weak_from_this(), done = std::move(done)](const QmpClient::Connected& connected) {
                       const auto self = weak.lock();
                       if (!self || self->closed_) {
                         if (connected.client) connected.client->close();
                         return;
                       }
                       self->client_ = connected.client;
                       done(connected);
                     });
}

void SourceQemu::open(Callbacks callbacks, FactsHandler done) {
  callbacks_ = std::move(callbacks);
  connect([this, done = std::move(done)](const QmpClient::Connected& connected) {
    if (!connected.client) return done({}, connected.problem);
    remember([this, done] { gather_facts(client_, done); });
  });
}

// What a person had set is set again when the VM stays.
void SourceQemu::remember(std::function<void()> done) {
  client_->batch({{"query-migrate-parameters"}, {"query-migrate-capabilities"}},
                 [weak = weak_from_this(), done = std::move(done)](const std::vector<QmpReply>& replies) {
                   const auto self = weak.lock();
                   if (!self || self->closed_) return;
                   if (replies.size() == 2) {
                     self->parameters_ = replies[0].value;
                     self->capabilities_ = replies[1].value;
                   }
                   done();
                 });
}

std::vector<QmpCommand> SourceQemu::restore() const {
  std::vector<QmpCommand> commands;
  if (capabilities_.is_array()) {
    commands.push_back({"migrate-set-capabilities", {{"capabilities", capabilities_}}});
  }
  json parameters = json::object();
  for (const char* name : {"max-bandwidth", "downtime-limit", "multifd-channels", "multifd-compression"}) {
    if (parameters_.is_object() && parameters_.contains(name)) parameters[name] = parameters_[name];
  }
  if (!parameters.empty()) commands.push_back({"migrate-set-parameters", std::move(parameters)});
  return commands;
}

void SourceQemu::migrate(const std::string& uri, const MoveOptions& options, Pace pace, Done done) {
  std::vector<QmpCommand> commands = set_up_both(options);
  commands.push_back(command_for(pace));
  commands.push_back({"migrate", {{"uri", uri}}});
  client_->sequence(std::move(commands), std::move(done));
}

void SourceQemu::set_pace(Pace pace, Done done) {
  client_->execute(command_for(pace), std::move(done));
}

void SourceQemu::proceed(Done done) {
  client_->execute({"migrate-continue", {{"state", "pre-switchover"}}}, std::move(done));
}

void SourceQemu::poll(std::function<void(const MigrationView&)> done) {
  if (!client_) return;
  client_->execute({"query-migrate"}, [weak = weak_from_this(), done = std::move(done)](const QmpReply& reply) {
    const auto self = weak.lock();
    if (self && !self->closed_ && reply.ok()) done(view_of(reply.value));
  });
}

void SourceQemu::undo(std::function<void(Undone)> done) {
  on_undone_ = std::move(done);
  undo_step();
}

void SourceQemu::undo_step() {
  if (closed_) return;
  if (!client_ || !client_->open()) {
    return connect([this](const QmpClient::Connected& connected) {
      if (connected.gone) return undone(Undone::kGone);
      if (connected.client) return undo_step();
      undo_again();
    });
  }
  watch_undo();
  client_->batch({{"query-migrate"}, {"query-status"}},
                 [weak = weak_from_this()](const std::vector<QmpReply>& replies) {
                   const auto self = weak.lock();
                   if (!self || self->closed_) return;
                   if (replies.size() < 2) return self->undo_again();
                   const auto ignore = [weak](const QmpReply&) {
                     if (const auto again = weak.lock()) again->undo_again();
                   };
                   const MigrationView view = view_of(replies[0].value);
                   if (view.under_way()) return self->client_->execute({"migrate_cancel"}, ignore);
                   // A migration that failed or was cancelled lets the guest go on by itself; one that completed does
                   // not, and the VM is this side's again by whoever called.
                   const json state = replies[1].value.is_object() ? replies[1].value.value("status", json()) : json();
                   if (state == "postmigrate" || state == "paused") return self->client_->execute({"cont"}, ignore);
                   if (state != "running") return self->undo_again();
                   self->client_->batch(self->restore(), [weak](const std::vector<QmpReply>&) {
                     if (const auto again = weak.lock()) again->undone(Undone::kRunning);
                   });
                 });
}

// Behind pre-switchover QEMU sends with its main lock held: a peer that hangs, or a wire that is cut, keeps it from
// answering until TCP gives up after a quarter of an hour. `yank` closes the migration's sockets from the monitor's own
// thread; the migration fails, and the guest goes on.
void SourceQemu::watch_undo() {
  yank_timer_.expires_after(kYank);
  yank_timer_.async_wait([weak = weak_from_this()](const std::error_code& error) {
    const auto self = weak.lock();
    if (error || !self || self->closed_ || !self->client_) return;
    const json instances = json::array({{{"type", "migration"}}});
    self->client_->execute_oob({"yank", {{"instances", instances}}}, [](const QmpReply&) {});
  });
}

void SourceQemu::undo_again() {
  yank_timer_.cancel();
  timer_.expires_after(client_ && client_->open() ? kAgain : kReconnect);
  timer_.async_wait([weak = weak_from_this()](const std::error_code& error) {
    const auto self = weak.lock();
    if (!error && self) self->undo_step();
  });
}

void SourceQemu::undone(Undone how) {
  yank_timer_.cancel();
  if (closed_) return;
  if (const auto done = std::exchange(on_undone_, nullptr)) done(how);
}

void SourceQemu::quit() {
  callbacks_ = {};
  const auto end = [self = shared_from_this()] {
    self->client_->execute({"quit"}, [self](const QmpReply&) { self->close(); });
  };
  if (client_ && client_->open()) return end();
  // After this daemon's restart. Another QEMU may be there by now, with the same VM on its way back.
  connect([this, end](const QmpClient::Connected& connected) {
    if (!connected.client) return close();
    client_->execute({"query-status"}, [this, self = shared_from_this(), end](const QmpReply& reply) {
      const json state = reply.value.is_object() ? reply.value.value("status", json()) : json();
      state == "postmigrate" ? end() : close();
    });
  });
}

void SourceQemu::close() {
  closed_ = true;
  timer_.cancel();
  yank_timer_.cancel();
  callbacks_ = {};
  on_undone_ = nullptr;
  if (client_) client_->close();
}

}  // namespace sealift::vm

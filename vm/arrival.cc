#include "vm/arrival.h"

#include <spdlog/spdlog.h>

#include <array>
#include <utility>

namespace sealift::vm {

namespace {

using nlohmann::json;

constexpr std::chrono::milliseconds kAgain{5};
constexpr std::chrono::milliseconds kReconnect{100};

std::string bracketed(const std::string& address) {
  return address.find(':') == std::string::npos ? address : "[" + address + "]";
}

// The port that QEMU chose, of query-migrate's socket-address.
std::string port_of(const json& query_migrate) {
  if (!query_migrate.is_object()) return "";
  const json addresses = query_migrate.value("socket-address", json());
  if (!addresses.is_array() || addresses.empty() || !addresses[0].is_object()) return "";
  const json port = addresses[0].value("port", json());
  return port.is_string() ? port.get<std::string>() : "";
}

std::string run_state(const QmpReply& query_status) {
  if (!query_status.value.is_object()) return "";
  const json state = query_status.value.value("status", json());
  return state.is_string() ? state.get<std::string>() : "";
}

}  // namespace

Arrival::Arrival(const Parts& parts, std::string qmp_path, Plan plan)
    : io_(parts.io),
      guest_(plan.options.without_enclaves ? nullptr : parts.guest),
      patience_(parts.patience),
      changed_(parts.changed),
      path_(std::move(qmp_path)),
      plan_(std::move(plan)),
      timer_(io_) {}

void Arrival::enter(State state) {
  if (state == state_) return;
  spdlog::info("vm {}: arrival: {} -> {}", plan_.name, name_of(state_), name_of(state));
  state_ = state;
  if (finished()) {
    timer_.cancel();
    if (client_) client_->close();
  }
  const auto self = shared_from_this();
  changed_(*this);
}

void Arrival::fail(Problem problem) {
  if (finished()) return;
  problem_ = std::move(problem);
  enter(State::kFailed);
}

void Arrival::abandon() {
  abandoned_ = true;
  timer_.cancel();
  if (client_) client_->close();
}

void Arrival::connect(std::function<void()> then) {
  QmpClient::Callbacks callbacks;
  callbacks.on_down = alive([this](const std::string& why) { monitor_lost(why); });
  QmpClient::connect(
      io_, path_, patience_, std::move(callbacks),
      alive([this, then = std::move(then)](const QmpClient::Connected& connected) {
        if (finished()) {
          if (connected.client) connected.client->close();
          return;
        }
        if (connected.client) {
          client_ = connected.client;
          return then();
        }
        // Until something was begun nothing is lost by giving up; afterwards only a dead QEMU is certain
        // not to run the VM.
        if (!begun_ || (connected.gone && state_ != State::kRunning)) {
          Problem problem = connected.problem;
          if (begun_) problem = {Problem::Kind::kFailed, "the target's QEMU has ended", plan_.name, "see its log"};
          return fail(std::move(problem));
        }
        if (connected.gone) {
          return fail({Problem::Kind::kLost, "the target's QEMU ended with the VM in it", plan_.name, "see its log"});
        }
        retry_connect(then);
      }));
}

void Arrival::retry_connect(std::function<void()> then) {
  timer_.expires_after(kReconnect);
  timer_.async_wait(alive([this, then = std::move(then)](const std::error_code& error) {
    if (!error) connect(then);
  }));
}

void Arrival::monitor_lost(const std::string& why) {
  if (finished()) return;
  spdlog::info("vm {}: arrival: lost QEMU's monitor: {}", plan_.name, why);
  client_.reset();
  connect([this] {
    if (state_ == State::kChecking) return check();
    if (state_ == State::kStarting) return start_step();
  });
}

void Arrival::open() {
  connect([this] { check(); });
}

void Arrival::check() {
  gather_facts(client_, alive([this](const Facts& facts, const std::optional<Problem>& problem) {
                 if (problem) return begun_ ? void() : fail(*problem);
                 std::optional<Problem> refusal = cannot_receive(facts, plan_.name);
                 if (!refusal) refusal = unlike(plan_.source, facts, plan_.guest.epc_bytes);
                 if (!refusal && !plan_.options.without_enclaves && guest_ == nullptr) {
                   refusal = Problem{Problem::Kind::kRefused,
                                     "on the target this VM was added without a channel to its broker", plan_.name,
                                     "add it there with --guest-channel"};
                 }
                 if (refusal) return fail(*refusal);
                 listen();
               }));
}

void Arrival::listen() {
  begun_ = true;
  std::vector<QmpCommand> commands = set_up_both(plan_.options);
  commands.push_back({"stop"});
  commands.push_back({"migrate-incoming", {{"uri", "tcp:" + bracketed(plan_.address) + ":0"}}});
  client_->sequence(
      std::move(commands), alive([this](const QmpReply& reply) {
        if (reply.error == QmpReply::Error::kLost) return;  // monitor_lost decides
        if (reply.ok()) return find_port();
        begun_ = false;
        fail({Problem::Kind::kRefused, "the target's QEMU refuses", plan_.name + " (" + reply.text + ")", ""});
      }));
}

void Arrival::find_port() {
  client_->execute(
      {"query-migrate"}, alive([this](const QmpReply& reply) {
        if (!reply.ok()) return;
        const std::string port = port_of(reply.value);
        if (port.empty())
          return fail({Problem::Kind::kRefused, "the target's QEMU does not tell its port", plan_.name, ""});
        uri_ = "tcp:" + bracketed(plan_.address) + ":" + port;
        enter(State::kListening);
      }));
}

void Arrival::resume(bool ordered) {
  begun_ = true;
  state_ = State::kListening;
  connect([this, ordered] {
    client_->execute({"query-status"}, alive([this, ordered](const QmpReply& reply) {
                       if (!reply.ok()) return;
                       if (run_state(reply) != "running") return changed_(*this);
                       if (ordered) return running();
                       fail({Problem::Kind::kFailed, "the target's QEMU runs another VM", plan_.name, ""});
                     }));
  });
}

void Arrival::start() {
  if (state_ != State::kListening) return;
  enter(State::kStarting);
  if (client_) start_step();
}

// QEMU says that it has loaded the VM a moment before it is paused; a cont that comes too early makes it start the VM
// by itself then.
void Arrival::start_step() {
  client_->execute({"query-status"}, alive([this](const QmpReply& reply) {
                     if (!reply.ok() || state_ != State::kStarting) return;
                     const std::string now = run_state(reply);
                     if (now == "running") return running();
                     client_->execute({"cont"}, alive([this](const QmpReply& answer) {
                                        if (answer.ok()) return start_again();
                                        if (answer.error == QmpReply::Error::kLost) return;
                                        // It must not start later either.
                                        spdlog::error("vm {}: QEMU does not start it: {}", plan_.name, answer.text);
                                        client_->execute({"quit"}, [](const QmpReply&) {});
                                      }));
                   }));
}

void Arrival::start_again() {
  client_->execute({"query-status"}, alive([this](const QmpReply& reply) {
                     if (!reply.ok() || state_ != State::kStarting) return;
                     if (run_state(reply) == "running") return running();
                     timer_.expires_after(kAgain);
                     timer_.async_wait(alive([this](const std::error_code& error) {
                       if (!error && client_) start_step();
                     }));
                   }));
}

void Arrival::running() {
  enter(State::kRunning);
  if (guest_ == nullptr) return enter(State::kActivated);
  guest_->arrive(plan_.peer, alive([this](const EnclaveReports& enclaves, const std::optional<Problem>& problem) {
                   if (state_ != State::kRunning) return;
                   enclaves_ = enclaves;
                   problem_ = problem;
                   enter(State::kActivated);
                 }));
}

void Arrival::close() {
  if (state_ == State::kStarting || state_ == State::kRunning || finished()) return;
  const Problem why{Problem::Kind::kCancelled, "the VM stays with the source", plan_.name, ""};
  const auto client = std::exchange(client_, nullptr);
  problem_ = why;
  enter(State::kFailed);
  if (!client) return;
  if (!begun_) return client->close();
  client->execute({"quit"}, [client](const QmpReply&) { client->close(); });
}

const char* name_of(Arrival::State state) noexcept {
  static constexpr std::array kNames = {"checking", "listening", "starting", "running", "activated", "failed"};
  return kNames.at(static_cast<std::size_t>(state));
}

}  // namespace sealift::vm

#include "daemon/broker.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "daemon/endpoint.h"
#include "daemon/failure.h"
#include "daemon/local_connection.h"

namespace sealift::daemon {

namespace {

// Often enough to see the memory that a program takes for a while; rarely enough to leave an idle guest idle.
constexpr std::chrono::seconds kLookAtMemory{5};

bool is_device(const std::string& path) {
  struct stat st {};
  return ::stat(path.c_str(), &st) == 0 && S_ISCHR(st.st_mode);
}

}  // namespace

Broker::Broker(asio::io_context& io, BrokerOptions options)
    : io_(io),
      options_(std::move(options)),
      acceptor_(listen_unix(io, options_.socket)),
      retry_timer_(io),
      patience_timer_(io),
      memory_timer_(io) {}

Broker::~Broker() = default;

void Broker::start() {
  accept();
  open_channel();
  watch_memory();
  spdlog::info("broker of guest {} serves {}, its host is at {}", options_.name, options_.socket, options_.channel);
}

void Broker::stop() {
  stopping_ = true;
  std::error_code ignored;  // closing
  acceptor_.close(ignored);
  ::unlink(options_.socket.c_str());
  retry_timer_.cancel();
  memory_timer_.cancel();
  drop_operation();
  if (host_) host_->close("the broker ends");
  if (channel_) channel_->close();
  for (const auto& connection : locals_) connection->close("the broker ends");
  enclaves_.clear();
}

// --- Programs -----------------------------------------------------------------------------------------------------

void Broker::accept() {
  acceptor_.async_accept([this](const std::error_code& error, asio::local::stream_protocol::socket socket) {
    if (stopping_ || error == asio::error::operation_aborted) return;
    if (!error) {
      if (const auto pid = trusted_pid(socket.native_handle())) {
        welcome(Connection::Socket(std::move(socket)), *pid);
      } else {
        spdlog::warn("refused a connection of another user");
      }
    }
    accept();
  });
}

void Broker::welcome(Connection::Socket socket, std::uint32_t pid) {
  LocalHandlers handlers;
  handlers.on_process = [this, pid](const auto& connection, wire::Envelope& message) {
    process_message(connection, pid, message);
  };
  handlers.on_command = [this](const auto& connection, wire::Envelope& message) { cli_message(connection, message); };
  handlers.on_down = [this](const auto& connection) {
    registry_.remove_all(connection.get());
    locals_.erase(connection);
    prune();
  };
  locals_.insert(start_local(std::move(socket), options_.name, pid, std::move(handlers)));
}

void Broker::process_message(const std::shared_ptr<Connection>& from, std::uint32_t pid, wire::Envelope& message) {
  switch (message.body_case()) {
    case wire::Envelope::kRegister:
      return process_register(from, pid, message);
    case wire::Envelope::kUnregister:
      registry_.remove(from.get(), message.unregister().local_id());
      return prune();
    case wire::Envelope::kAdopt:
      return from->reply(message.id(), make_failure(wire::Failure::NOT_FOUND, "nothing migrates into a guest by itself",
                                                    options_.name, "move the whole virtual machine"));
    default:
      return from->close("not a message of a process in a guest");
  }
}

void Broker::process_register(const std::shared_ptr<Connection>& from, std::uint32_t pid,
                              const wire::Envelope& message) {
  const auto enclave = registry_.add(from, message.register_(), pid != 0 ? pid : message.register_().pid());
  wire::Envelope reply;
  reply.mutable_registered();
  from->reply(message.id(), std::move(reply));
  for (const auto& [id, known] : enclaves_) {
    if (known->enclave() == enclave) return known->updated();
  }
  const std::uint64_t id = next_id_++;
  BrokerEnclave::Host& self = *this;
  const auto added = std::make_shared<BrokerEnclave>(io_, self, id, enclave);
  enclaves_.emplace(id, added);
  spdlog::info("process {}: enclave {} is number {}", pid, enclave->registration().name(), id);
  enclave_changed(*added);
  if (!agent_.hello().empty()) added->channel_up();
}

void Broker::prune() {
  wire::Envelope message;
  std::erase_if(enclaves_, [&](const auto& entry) {
    if (entry.second->enclave()->connected()) return false;
    message.mutable_guest_report()->add_gone(entry.first);
    entry.second->gone();
    return true;
  });
  if (message.has_guest_report() && host_) host_->notify(std::move(message));
}

void Broker::cli_message(const std::shared_ptr<Connection>& from, const wire::Envelope& message) {
  wire::Envelope reply;
  if (message.has_ps_request()) {
    reply.mutable_ps_reply();
    for (const auto& [id, enclave] : enclaves_) *reply.mutable_ps_reply()->add_enclaves() = enclave->enclave()->row();
    return from->reply(message.id(), std::move(reply));
  }
  if (message.has_status_request()) {
    wire::StatusReply& out = *reply.mutable_status_reply();
    out.set_daemon_name(options_.name);
    out.set_agent_up(!agent_.hello().empty());
    out.set_agent_instance(agent_.instance_key());
    out.set_agent_mrenclave(agent_.mrenclave());
    for (const auto& [id, enclave] : enclaves_) *out.add_enclaves() = enclave->enclave()->row();
    return from->reply(message.id(), std::move(reply));
  }
  from->reply(message.id(), make_failure(wire::Failure::BAD_REQUEST, "not possible inside a guest", options_.name,
                                         "move the whole virtual machine, from its host: `sealift vm migrate`"));
}

// --- The host -----------------------------------------------------------------------------------------------------

void Broker::open_channel() {
  const auto use = [this](int fd, bool lasting) {
    GuestChannel::Callbacks callbacks;
    callbacks.on_session = [this](Connection::Socket socket) { begin_session(std::move(socket)); };
    callbacks.on_down = [this] { channel_failed("the host has closed it"); };
    last_complaint_.clear();
    channel_ = GuestChannel::start(io_, fd, GuestChannel::Side::kGuest, lasting, std::move(callbacks));
  };
  if (is_device(options_.channel)) {
    const int fd = ::open(options_.channel.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    return fd >= 0 ? use(fd, true) : channel_failed(std::system_category().message(errno));
  }
  connect_channel(io_, options_.channel, [this, use](const std::error_code& error, Connection::Socket socket) {
    if (stopping_) return;
    error ? channel_failed(error.message()) : use(socket.release(), false);
  });
}

void Broker::channel_failed(const std::string& why) {
  if (stopping_) return;
  if (why != last_complaint_) spdlog::warn("channel {}: {}; trying again", options_.channel, why);
  last_complaint_ = why;
  channel_.reset();
  retry_timer_.expires_after(options_.retry);
  retry_timer_.async_wait([this](const std::error_code& error) {
    if (!error) open_channel();
  });
}

void Broker::begin_session(Connection::Socket socket) {
  if (host_) host_->close("another session has begun");
  wire::Hello hello;
  hello.set_role(wire::PEER_ROLE_GUEST);
  hello.set_name(options_.name);
  auto self = std::make_shared<std::weak_ptr<Connection>>();
  const auto current = [this, self] { return host_ && self->lock() == host_; };
  Connection::Callbacks callbacks;
  callbacks.on_up = [this, current](const wire::Hello& theirs) {
    if (!current()) return;
    if (theirs.role() != wire::PEER_ROLE_DAEMON) return host_->close("not a sealiftd");
    spdlog::info("the host is {}", theirs.name());
    wire::Envelope message;
    *message.mutable_guest_report() = whole_report();
    host_->notify(std::move(message));
  };
  callbacks.on_message = [this, current](wire::Envelope& message) {
    if (current()) host_message(message);
  };
  callbacks.on_down = [this, current](const std::string& why) {
    if (current()) session_down(why);
  };
  if (host_) session_down("another session has begun");
  host_ = Connection::start(std::move(socket), hello, std::move(callbacks));
  *self = host_;
}

void Broker::session_down(const std::string& why) {
  spdlog::info("lost the host: {}", why);
  host_.reset();
  drop_operation();
  agent_info({});
}

void Broker::host_message(wire::Envelope& message) {
  switch (message.body_case()) {
    case wire::Envelope::kGuestCommand:
      return command(message.id(), message.guest_command());
    case wire::Envelope::kAgentInfo:
      return agent_info(message.agent_info());
    case wire::Envelope::kAgentEvent:
      for (const auto& [id, enclave] : std::map(enclaves_)) enclave->agent_event(message.agent_event());
      return;
    default:
      return host_->close("not a message for a guest");
  }
}

// Another agent, or none: what was agreed upon with the one before is void.
void Broker::agent_info(const wire::AgentInfo& info) {
  const bool same = !agent_.hello().empty() && agent_.instance_key() == info.instance_key();
  const bool had = !agent_.hello().empty();
  agent_ = info;
  if (same) return;
  if (had) {
    for (const auto& [id, enclave] : std::map(enclaves_)) enclave->channel_lost();
  }
  if (agent_.hello().empty()) return;
  for (const auto& [id, enclave] : std::map(enclaves_)) enclave->channel_up();
}

void Broker::watch_memory() {
  memory_.look();
  memory_timer_.expires_after(kLookAtMemory);
  memory_timer_.async_wait([this](const std::error_code& error) {
    if (!error && !stopping_) watch_memory();
  });
}

wire::GuestReport Broker::whole_report() {
  memory_.look();
  wire::GuestReport out;
  out.set_whole(true);
  out.set_cpus(options_.cpus);
  out.set_untouched_bytes(memory_.untouched());
  for (const auto& [id, enclave] : enclaves_) *out.add_rows() = enclave->row();
  return out;
}

void Broker::enclave_changed(BrokerEnclave& enclave) {
  if (!host_ || !host_->up()) return;
  wire::Envelope message;
  *message.mutable_guest_report()->add_rows() = enclave.row();
  host_->notify(std::move(message));
}

void Broker::agent_request(wire::Envelope message, Connection::ReplyHandler on_reply) {
  if (host_ && host_->up()) return host_->request(std::move(message), std::move(on_reply));
  asio::post(io_, [on_reply = std::move(on_reply)] {
    wire::Envelope reply;
    *reply.mutable_failure() = make_failure(wire::Failure::UNREACHABLE, "no channel to the host", "", "");
    on_reply(reply);
  });
}

void Broker::agent_notify(wire::Envelope message) {
  if (host_ && host_->up()) host_->notify(std::move(message));
}

}  // namespace sealift::daemon

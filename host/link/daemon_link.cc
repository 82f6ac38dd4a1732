#include "host/link/daemon_link.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>
#include <asio/post.hpp>
#include <asio/steady_timer.hpp>
#include <filesystem>
#include <fstream>
#include <future>
#include <map>
#include <system_error>
#include <thread>
#include <utility>

#include "daemon/connection.h"
#include "daemon/endpoint.h"
#include "daemon/failure.h"
#include "host/link/enclave_worker.h"

extern char** environ;

namespace sealift::host {

namespace {

// Threads made while this lives inherit a mask that leaves the program's signals to the program's threads.
class AsyncSignalsBlocked {
 public:
  AsyncSignalsBlocked() {
    sigset_t blocked;
    ::sigfillset(&blocked);
    for (const int fault : {SIGILL, SIGSYS, SIGSEGV, SIGBUS, SIGFPE, SIGTRAP}) ::sigdelset(&blocked, fault);
    for (int kick = SIGRTMIN; kick <= SIGRTMAX; ++kick) ::sigdelset(&blocked, kick);
    ::pthread_sigmask(SIG_BLOCK, &blocked, &before_);
  }
  ~AsyncSignalsBlocked() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  AsyncSignalsBlocked(const AsyncSignalsBlocked&) = delete;
  AsyncSignalsBlocked& operator=(const AsyncSignalsBlocked&) = delete;

 private:
  sigset_t before_;
};

std::array<std::uint8_t, 16> attempt_of(const std::string& bytes) {
  std::array<std::uint8_t, 16> out{};
  if (bytes.size() == out.size()) std::copy(bytes.begin(), bytes.end(), out.begin());
  return out;
}

}  // namespace

Program this_program() {
  Program out;
  std::error_code ignored;  // without them the daemon says that the program cannot be started elsewhere
  out.exe = std::filesystem::read_symlink("/proc/self/exe", ignored).string();
  out.cwd = std::filesystem::current_path(ignored).string();
  std::ifstream cmdline("/proc/self/cmdline", std::ios::binary);
  for (std::string arg; std::getline(cmdline, arg, '\0');) out.argv.push_back(arg);
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) out.env.emplace_back(*entry);
  return out;
}

struct DaemonLink::Impl : std::enable_shared_from_this<Impl> {
  explicit Impl(Options given) : options(std::move(given)), retry_timer(io), guard(io.get_executor()) {
    if (options.socket.empty()) options.socket = daemon::default_socket();
    retry = options.first_retry;
  }

  void start() {
    const AsyncSignalsBlocked mask;
    thread = std::thread([this] { io.run(); });
    asio::post(io, [this] { connect(); });
  }

  // On the caller's thread.
  void stop() {
    asio::post(io, [this] {
      stopping = true;
      retry_timer.cancel();
      if (connection) connection->close("the program ends");
      workers.clear();
      guard.reset();
    });
    thread.join();
  }

  // --- Everything below runs on the link's thread ---

  void connect() {
    daemon::connect_unix(io, options.socket, [self = shared_from_this()](const std::error_code& error, auto socket) {
      if (self->stopping) return;
      if (error) return self->retry_later();
      self->attach(std::move(socket));
    });
  }

  void retry_later() {
    if (stopping) return;
    retry_timer.expires_after(retry);
    retry = std::min(retry * 2, options.last_retry);
    retry_timer.async_wait([self = shared_from_this()](const std::error_code& error) {
      if (!error && !self->stopping) self->connect();
    });
  }

  void attach(daemon::Connection::Socket socket) {
    wire::Hello hello;
    hello.set_role(wire::PEER_ROLE_PROCESS);
    hello.set_name(std::filesystem::path(this_program().exe).filename().string());
    daemon::Connection::Callbacks callbacks;
    callbacks.on_up = [self = shared_from_this()](const wire::Hello&) {
      self->retry = self->options.first_retry;
      self->is_up = true;
      for (const auto& [id, worker] : self->workers) self->announce(*worker);
      for (const auto& waiting : std::exchange(self->waiting_for_up, {})) waiting();
    };
    callbacks.on_message = [self = shared_from_this()](wire::Envelope& message) { self->route(message); };
    callbacks.on_down = [self = shared_from_this()](const std::string&) {
      self->is_up = false;
      self->connection.reset();
      for (const auto& [id, worker] : self->workers) worker->connection_lost();
      self->retry_later();
    };
    connection = daemon::Connection::start(std::move(socket), hello, std::move(callbacks));
  }

  void announce(const EnclaveWorker& worker) {
    wire::Envelope message;
    *message.mutable_register_() = worker.registration();
    // A refusal is the daemon's to log; the link has nobody to tell.
    connection->request(std::move(message), [](const wire::Envelope&) {});
  }

  void route(wire::Envelope& message) {
    const auto worker = workers.find(local_id_of(message));
    if (worker != workers.end()) return worker->second->handle(connection, message);
    connection->reply(message.id(), daemon::make_failure(wire::Failure::NOT_FOUND, "no such enclave here", "", ""));
  }

  static std::uint64_t local_id_of(const wire::Envelope& message) {
    switch (message.body_case()) {
      case wire::Envelope::kControl:
        return message.control().local_id();
      case wire::Envelope::kQuiesce:
        return message.quiesce().local_id();
      case wire::Envelope::kDumpBegin:
        return message.dump_begin().local_id();
      case wire::Envelope::kRecord:
        return message.record().local_id();
      case wire::Envelope::kRecordsTaken:
        return message.records_taken().local_id();
      case wire::Envelope::kRelease:
        return message.release().local_id();
      case wire::Envelope::kHold:
        return message.hold().local_id();
      case wire::Envelope::kRebuild:
        return message.rebuild().local_id();
      case wire::Envelope::kRefill:
        return message.refill().local_id();
      default:
        return 0;
    }
  }

  void add(std::uint64_t id, EnclaveInfo info, ControlPort& port, std::string token) {
    auto worker = std::make_unique<EnclaveWorker>(job_threads, id, std::move(info), port, std::move(token),
                                                  [weak = weak_from_this()](std::function<void()> job) {
                                                    if (const auto self = weak.lock())
                                                      asio::post(self->io, std::move(job));
                                                  });
    const auto& added = *workers.emplace(id, std::move(worker)).first->second;
    if (is_up) announce(added);
  }

  void remove(std::uint64_t id) {
    workers.erase(id);
    if (!is_up) return;
    wire::Envelope message;
    message.mutable_unregister()->set_local_id(id);
    connection->notify(std::move(message));
  }

  void adopt(const std::string& token, const std::shared_ptr<std::promise<Result<Adoption>>>& promise) {
    if (!is_up) {
      waiting_for_up.emplace_back([self = shared_from_this(), token, promise] { self->adopt(token, promise); });
      return;
    }
    wire::Envelope message;
    message.mutable_adopt()->set_token(token);
    connection->request(std::move(message), [promise](const wire::Envelope& reply) {
      if (!reply.has_adoption()) return promise->set_value(Errc::kUnknownAttempt);
      const wire::Adoption& in = reply.adoption();
      Adoption out{in.elrange_base(), in.elrange_size(), attempt_of(in.attempt()), {}, in.image(), in.name()};
      if (in.mrenclave().size() == out.mrenclave.size()) {
        std::copy(in.mrenclave().begin(), in.mrenclave().end(), out.mrenclave.begin());
      }
      promise->set_value(out);
    });
  }

  Options options;
  asio::io_context io;
  asio::steady_timer retry_timer;
  asio::executor_work_guard<asio::io_context::executor_type> guard;
  std::thread thread;
  std::chrono::milliseconds retry{};
  std::shared_ptr<daemon::Connection> connection;
  // Two at the least: a large enclave's dump does not keep another's calls waiting.
  JobThreads job_threads{std::max(2u, std::thread::hardware_concurrency())};
  std::map<std::uint64_t, std::unique_ptr<EnclaveWorker>> workers;
  std::vector<std::function<void()>> waiting_for_up;
  bool stopping = false;
  std::atomic<bool> is_up = false;
  std::atomic<std::uint64_t> next_id = 1;
};

DaemonLink::DaemonLink() : DaemonLink(Options{}) {}

DaemonLink::DaemonLink(Options options) : impl_(std::make_shared<Impl>(std::move(options))) {
  impl_->start();
}

DaemonLink::~DaemonLink() {
  impl_->stop();
  impl_->waiting_for_up.clear();  // they hold the Impl
}

DaemonLink::EnclaveId DaemonLink::add(EnclaveInfo info, ControlPort& port, std::string adopt_token) {
  const EnclaveId id = impl_->next_id++;
  asio::post(impl_->io, [impl = impl_, id, info = std::move(info), &port, token = std::move(adopt_token)]() mutable {
    impl->add(id, std::move(info), port, std::move(token));
  });
  return id;
}

void DaemonLink::updated(EnclaveId id) {
  asio::post(impl_->io, [impl = impl_, id] {
    const auto worker = impl->workers.find(id);
    if (worker != impl->workers.end() && impl->is_up) impl->announce(*worker->second);
  });
}

void DaemonLink::remove(EnclaveId id) {
  std::promise<void> done;
  asio::post(impl_->io, [impl = impl_, id, &done] {
    impl->remove(id);
    done.set_value();
  });
  done.get_future().wait();
}

Result<Adoption> DaemonLink::adopt(const std::string& token, std::chrono::milliseconds timeout) {
  auto promise = std::make_shared<std::promise<Result<Adoption>>>();
  auto future = promise->get_future();
  asio::post(impl_->io, [impl = impl_, token, promise] { impl->adopt(token, promise); });
  if (future.wait_for(timeout) != std::future_status::ready) return Errc::kNoSession;
  return future.get();
}

void DaemonLink::adopt_failed(const std::string& token, Errc error, const std::string& text) {
  asio::post(impl_->io, [impl = impl_, token, error, text] {
    if (!impl->is_up) return;
    wire::Envelope message;
    message.mutable_adopt_failed()->set_token(token);
    message.mutable_adopt_failed()->set_errc(static_cast<std::uint32_t>(error));
    message.mutable_adopt_failed()->set_text(text);
    impl->connection->notify(std::move(message));
  });
}

bool DaemonLink::connected() const {
  return impl_->is_up;
}

}  // namespace sealift::host

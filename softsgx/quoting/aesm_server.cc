#include "softsgx/quoting/aesm_server.h"

#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <asio/local/stream_protocol.hpp>
#include <asio/read.hpp>
#include <asio/steady_timer.hpp>
#include <asio/write.hpp>
#include <chrono>
#include <cstring>
#include <memory>
#include <stdexcept>

namespace softsgx::quoting {
namespace {

using Socket = asio::local::stream_protocol::socket;
using Endpoint = asio::local::stream_protocol::endpoint;

// Removes a socket that a killed service left behind. Anything else at the path is left for bind to complain about.
void remove_stale(asio::io_context& io, const std::string& path) {
  struct stat file {};
  if (::lstat(path.c_str(), &file) != 0 || !S_ISSOCK(file.st_mode)) return;
  Socket probe(io);
  asio::error_code error;
  probe.connect(Endpoint(path), error);
  if (!error) throw std::runtime_error("a quoting service already listens on " + path);
  if (error == asio::error::connection_refused) ::unlink(path.c_str());
}

}  // namespace

struct AesmServer::State : std::enable_shared_from_this<State> {
  State(asio::io_context& context, const AesmService& answers) : io(context), service(answers), acceptor(context) {}
  void accept();

  asio::io_context& io;
  const AesmService& service;
  asio::local::stream_protocol::acceptor acceptor;
  std::size_t sessions = 0;
};

// One request and its response. Keeps itself alive while an operation is pending.
class AesmServer::Session : public std::enable_shared_from_this<Session> {
 public:
  Session(std::shared_ptr<State> state, Socket socket)
      : state_(std::move(state)),
        socket_(std::move(socket)),
        deadline_(state_->io, std::chrono::seconds(kSessionSeconds)) {
    ++state_->sessions;
  }
  ~Session() {
    if (state_->sessions-- == kMaxSessions && state_->acceptor.is_open()) state_->accept();
  }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  void start() {
    deadline_.async_wait([self = weak_from_this()](const asio::error_code& error) {
      const auto session = self.lock();
      asio::error_code ignored;  // the peer may be gone already
      if (!error && session) session->socket_.close(ignored);
    });
    asio::async_read(socket_, asio::buffer(length_),
                     [self = shared_from_this()](const asio::error_code& error, std::size_t) {
                       if (!error) self->read_request();
                     });
  }

 private:
  void read_request() {
    std::uint32_t size = 0;
    std::memcpy(&size, length_.data(), sizeof size);
    if (size > kMaxRequest) return;
    message_.resize(size);
    asio::async_read(socket_, asio::buffer(message_),
                     [self = shared_from_this()](const asio::error_code& error, std::size_t) {
                       if (!error) self->write_response();
                     });
  }

  void write_response() {
    const std::string response = state_->service.answer(message_);
    const auto size = static_cast<std::uint32_t>(response.size());
    message_.assign(reinterpret_cast<const char*>(&size), sizeof size);
    message_ += response;
    asio::async_write(socket_, asio::buffer(message_),
                      [self = shared_from_this()](const asio::error_code&, std::size_t) {});
  }

  std::shared_ptr<State> state_;
  Socket socket_;
  asio::steady_timer deadline_;
  std::array<char, sizeof(std::uint32_t)> length_{};
  std::string message_;
};

AesmServer::AesmServer(asio::io_context& io, const AesmService& service, std::string path)
    : path_(std::move(path)), state_(std::make_shared<State>(io, service)) {
  if (path_.size() >= sizeof(sockaddr_un::sun_path)) throw std::runtime_error("socket path too long: " + path_);
  remove_stale(io, path_);
  auto& acceptor = state_->acceptor;
  asio::error_code error;
  acceptor.open(Endpoint(path_).protocol(), error);
  if (!error) acceptor.bind(Endpoint(path_), error);
  if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error) throw std::runtime_error("cannot listen on " + path_ + ": " + error.message());
  state_->accept();
}

AesmServer::~AesmServer() {
  asio::error_code ignored;  // nothing is left to do about a socket that does not close
  state_->acceptor.close(ignored);
  ::unlink(path_.c_str());
}

void AesmServer::State::accept() {
  acceptor.async_accept([self = shared_from_this()](const asio::error_code& error, Socket socket) {
    if (error == asio::error::operation_aborted) return;
    if (!error) std::make_shared<Session>(self, std::move(socket))->start();
    if (self->sessions < kMaxSessions) self->accept();
  });
}

}  // namespace softsgx::quoting

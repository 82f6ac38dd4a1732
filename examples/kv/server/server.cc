#include "examples/kv/server/server.h"

#include <asio/awaitable.hpp>
#include <asio/buffer.hpp>
#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/redirect_error.hpp>
#include <asio/steady_timer.hpp>
#include <asio/use_awaitable.hpp>
#include <asio/write.hpp>
#include <cstdio>

#include "examples/kv/calls.h"
#include "examples/kv/server/inbox.h"

namespace kv {
namespace {

using asio::ip::tcp;

constexpr char kOversized[] = "-ERR the command would not fit the enclave's message slot of 1 MiB\r\n";
constexpr char kBroken[] = "-ERR Protocol error: broken inside of a command that is too large\r\n";

// One client's connection. Not moved while in use.
class Connection {
 public:
  Connection(tcp::socket socket, sealift::Enclave& enclave, std::uint64_t client)
      : socket_(std::move(socket)), enclave_(enclave), client_(client) {
    std::error_code ignored;  // a socket that cannot do it is merely slower
    socket_.set_option(tcp::no_delay(true), ignored);
  }

  asio::awaitable<void> serve() {
    std::error_code error;
    while (!error) {
      const std::span<char> space = inbox_.space();
      auto done = asio::redirect_error(asio::use_awaitable, error);
      const std::size_t n = co_await socket_.async_read_some(asio::buffer(space.data(), space.size()), done);
      if (error) break;
      inbox_.received(n);
      while (!error && answer_next()) {
        co_await asio::async_write(socket_, asio::buffer(reply_), done);
        if (closing_) co_return;
      }
      if (closing_) co_return;
    }
  }

 private:
  // Puts the next answer into reply_. False: none to give now.
  bool answer_next() {
    const Inbox::Item item = inbox_.next();
    switch (item.kind) {
      case Inbox::Kind::kNothing:
        return false;
      case Inbox::Kind::kBatch:
        return call(item.bytes);
      case Inbox::Kind::kOversized:
        reply_ = kOversized;
        return true;
      case Inbox::Kind::kBroken:
        reply_ = kBroken;
        closing_ = true;
        return true;
    }
    return false;
  }

  bool call(std::string_view batch) {
    auto answer = enclave_.call(kExecute, client_, std::string(batch));
    const bool sound = answer && answer->consumed <= batch.size() && (answer->consumed > 0 || answer->close);
    if (!sound) {
      // Whether it had its effect is unknown: the client must not get an answer. That the enclave has migrated is
      // nothing to report here.
      closing_ = true;
      const sealift::Errc why = answer ? sealift::Errc::kMalformedCall : answer.error();
      if (why != sealift::Errc::kDestroyed) {
        std::fprintf(stderr, "kv: client %llu: no answer from the enclave: %s\n",
                     static_cast<unsigned long long>(client_), sealift::errc_name(why));
      }
      return false;
    }
    reply_ = std::move(answer->reply);
    closing_ = answer->close;
    inbox_.consumed(answer->consumed);
    return true;
  }

  tcp::socket socket_;
  sealift::Enclave& enclave_;
  const std::uint64_t client_;
  Inbox inbox_;
  std::string reply_;
  bool closing_ = false;
};

asio::awaitable<void> serve(tcp::socket socket, sealift::Enclave& enclave, std::uint64_t client) {
  Connection connection(std::move(socket), enclave, client);
  co_await connection.serve();
}

}  // namespace

Server::Server(sealift::Enclave& enclave, unsigned workers) : enclave_(enclave) {
  for (unsigned i = 0; i < workers; ++i) {
    workers_.push_back(std::make_unique<Worker>());
    Worker& worker = *workers_.back();
    worker.thread = std::thread([&worker] { worker.io.run(); });
  }
}

void Server::accept_from(tcp::acceptor& acceptor) {
  asio::co_spawn(acceptor.get_executor(), accept(acceptor), asio::detached);
}

asio::awaitable<void> Server::accept(tcp::acceptor& acceptor) {
  constexpr std::chrono::milliseconds kAgain{100};
  std::error_code error;
  auto done = asio::redirect_error(asio::use_awaitable, error);
  for (std::uint64_t client = 1;; ++client) {
    Worker& worker = *workers_[client % workers_.size()];
    tcp::socket socket = co_await acceptor.async_accept(worker.io, done);
    if (error == asio::error::operation_aborted) co_return;
    if (!error) {
      asio::co_spawn(worker.io, serve(std::move(socket), enclave_, client), asio::detached);
      continue;
    }
    std::fprintf(stderr, "kv: cannot accept a connection: %s\n", error.message().c_str());
    // Most likely all file descriptors are in use, and stay so for a moment.
    asio::steady_timer later(acceptor.get_executor(), kAgain);
    co_await later.async_wait(done);
  }
}

void Server::stop() {
  for (const auto& worker : workers_) worker->io.stop();
  for (const auto& worker : workers_) {
    if (worker->thread.joinable()) worker->thread.join();
  }
  workers_.clear();  // and with them every connection
}

}  // namespace kv

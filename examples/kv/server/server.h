// Sockets in front of the enclave.
#pragma once

#include <asio/awaitable.hpp>
#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <memory>
#include <thread>
#include <vector>

#include "sealift/enclave.h"

namespace kv {

// Worker threads, each with connections of its own. A worker that waits for the enclave (a call, or a migration) lets
// its connections wait: they are answered when the call has returned, and never before.
//
// Used from one thread; stop() and the destructor join the workers.
class Server {
 public:
  // `enclave` must outlive this.
  Server(sealift::Enclave& enclave, unsigned workers);
  ~Server() { stop(); }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Accepts connections, on the acceptor's executor, until that is stopped.
  void accept_from(asio::ip::tcp::acceptor& acceptor);
  // Closes every connection. Calls that are in the enclave are waited for.
  void stop();

 private:
  struct Worker {
    asio::io_context io{1};
    asio::executor_work_guard<asio::io_context::executor_type> busy{io.get_executor()};
    std::thread thread;
  };

  asio::awaitable<void> accept(asio::ip::tcp::acceptor& acceptor);

  sealift::Enclave& enclave_;
  std::vector<std::unique_ptr<Worker>> workers_;
};

}  // namespace kv

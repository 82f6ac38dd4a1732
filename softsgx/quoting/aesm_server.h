// Serves AesmService on a Unix stream socket.
#pragma once

#include <asio/io_context.hpp>
#include <cstddef>
#include <memory>
#include <string>

#include "softsgx/quoting/aesm_service.h"

namespace softsgx::quoting {

// Runs on the io_context's thread, which must be one. Each connection brings one request and gets one response;
// whoever takes longer than kSessionSeconds to send or to read is cut off, and above kMaxSessions new ones wait in the
// socket's queue.
class AesmServer {
 public:
  static constexpr int kSessionSeconds = 10;
  static constexpr std::size_t kMaxSessions = 64;

  // Binds `path`. A socket file that nobody listens on any more is replaced; throws std::runtime_error with one line
  // if somebody does, or if the path cannot be bound. `service` must outlive it.
  AesmServer(asio::io_context& io, const AesmService& service, std::string path);
  // Stops accepting and removes the socket file.
  ~AesmServer();
  AesmServer(const AesmServer&) = delete;
  AesmServer& operator=(const AesmServer&) = delete;

 private:
  class Session;
  struct State;  // shared with the sessions, which may outlive the server in the io_context's queue

  std::string path_;
  std::shared_ptr<State> state_;
};

}  // namespace softsgx::quoting

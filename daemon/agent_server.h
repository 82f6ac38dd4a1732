// AgentServer: the agent process's side of the wire protocol. It listens on a Unix socket, turns each message into one
// call of AgentPort, and pushes what links want to send and what events there are.
//
// AgentPort mirrors class Agent (trusted/agent/agent.h), whose comments say what each call means; the agent process
// implements it by typed calls into the agent enclave. Calls come one at a time, on the io_context's thread.
//
// A connection that ends takes the links that it opened with it. Sessions and attempts stay: a restarted daemon sends
// the enclave's hello again and has its session back.
#pragma once

#include <array>
#include <asio/io_context.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "migration/errc.h"
#include "migration/result.h"

namespace sealift::daemon {

using Bytes = std::vector<std::uint8_t>;
using ByteView = std::span<const std::uint8_t>;

class AgentPort {
 public:
  struct Info {
    Bytes hello;  // messages::AgentHello
    Bytes instance_key;
    Bytes mrenclave;
    Bytes mrsigner;
    bool quote_ready = false;
  };
  struct LocalReply {
    std::uint64_t session = 0;
    Bytes confirm;
  };
  // As agent::LinkPhase and agent::EventKind.
  struct LinkStatus {
    std::uint32_t phase = 0;
    Errc error = Errc::kOk;
    std::uint64_t verdict_expires = 0;
    friend bool operator==(const LinkStatus&, const LinkStatus&) = default;
  };
  struct Event {
    std::uint32_t kind = 0;
    Errc error = Errc::kOk;
    std::uint64_t link = 0;
    std::array<std::uint8_t, 16> attempt{};
  };
  struct AttemptStatus {
    bool as_source = false;
    std::uint32_t state = 0;  // ledger::State
    bool holds_key = false;
  };

  virtual ~AgentPort() = default;
  [[nodiscard]] virtual Info info() = 0;
  [[nodiscard]] virtual Result<LocalReply> local_hello(ByteView enclave_hello) = 0;
  [[nodiscard]] virtual Result<Bytes> local_message(std::uint64_t session, ByteView sealed) = 0;
  [[nodiscard]] virtual Result<Bytes> local_poll(std::uint64_t session) = 0;
  virtual void local_close(std::uint64_t session) = 0;
  [[nodiscard]] virtual Result<std::uint64_t> link_open(bool is_server) = 0;
  [[nodiscard]] virtual Errc link_feed(std::uint64_t link, ByteView from_network) = 0;
  [[nodiscard]] virtual Result<Bytes> link_take(std::uint64_t link) = 0;
  [[nodiscard]] virtual Result<LinkStatus> link_state(std::uint64_t link) = 0;
  virtual void link_close(std::uint64_t link) = 0;
  [[nodiscard]] virtual Errc offer(const std::array<std::uint8_t, 16>& attempt, std::uint64_t link) = 0;
  [[nodiscard]] virtual Errc cancel(const std::array<std::uint8_t, 16>& attempt) = 0;
  [[nodiscard]] virtual Errc announce(std::uint64_t session, std::uint64_t link) = 0;
  [[nodiscard]] virtual Errc request_grant(std::uint64_t session, std::uint64_t link) = 0;
  virtual void forget(const std::array<std::uint8_t, 16>& attempt) = 0;
  [[nodiscard]] virtual std::optional<Event> next_event() = 0;
  [[nodiscard]] virtual Result<AttemptStatus> attempt_status(const std::array<std::uint8_t, 16>& attempt) = 0;
};

class AgentServer {
 public:
  // Throws std::system_error if the socket cannot be made. A stale socket file is replaced; one that answers is not.
  // `port` and `io` must outlive the server.
  AgentServer(asio::io_context& io, const std::string& socket_path, AgentPort& port, std::string name);
  ~AgentServer();
  AgentServer(const AgentServer&) = delete;
  AgentServer& operator=(const AgentServer&) = delete;

  // Pushes what the port has to say now. Needed only after the port changed by other means than this server's calls,
  // for instance when a quote was installed.
  void pump();

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace sealift::daemon

// QmpClient: one connection to a running QEMU's monitor (QMP over a Unix socket).
//
// QEMU serves one client a socket at a time: a connection is held while a move needs it and closed afterwards.
//
// Threads: the io_context's. Ownership: keeps itself alive while the socket is open; after on_down no callback comes
// any more. No callback comes from inside a call.
#pragma once

#include <array>
#include <asio/io_context.hpp>
#include <asio/local/stream_protocol.hpp>
#include <asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "vm/problem.h"
#include "vm/qmp_decoder.h"

namespace sealift::vm {

struct QmpReply {
  enum class Error {
    kNone,
    kRefused,  // QEMU answered with an error; `text` is QEMU's
    kLost,     // the connection went down, or QEMU did not answer in time
  };
  nlohmann::json value;
  Error error = Error::kNone;
  std::string text;
  [[nodiscard]] bool ok() const noexcept { return error == Error::kNone; }
};

struct QmpCommand {
  std::string name;
  nlohmann::json arguments = nlohmann::json::object();
};

class QmpClient : public std::enable_shared_from_this<QmpClient> {
 public:
  struct Callbacks {
    std::function<void(const std::string& name, const nlohmann::json& data)> on_event;
    std::function<void(const std::string& why)> on_down;  // once; not after close()
  };
  struct Connected {
    std::shared_ptr<QmpClient> client;  // null: `problem` says why
    Problem problem;
    // Nobody listens on the socket: the QEMU that did has ended. A dead QEMU runs nothing.
    bool gone = false;
  };
  using Handler = std::function<void(const QmpReply&)>;

  // Connects, takes the greeting and leaves the negotiation mode, all within `patience`, which each command has, too.
  static void connect(asio::io_context& io, const std::string& path, std::chrono::milliseconds patience,
                      Callbacks callbacks, std::function<void(Connected)> done);
  ~QmpClient() = default;
  QmpClient(const QmpClient&) = delete;
  QmpClient& operator=(const QmpClient&) = delete;

  void execute(QmpCommand command, Handler on_reply);
  // Out of band: QEMU's monitor thread does it at once, also while a migration that is stuck holds QEMU's main lock. A
  // QEMU that cannot (its greeting says so) queues it like any other.
  void execute_oob(QmpCommand command, Handler on_reply);
  // One after the other; the replies of all. Stops after kLost.
  using BatchHandler = std::function<void(const std::vector<QmpReply>&)>;
  void batch(std::vector<QmpCommand> commands, BatchHandler done);
  // One after the other up to the first that fails; its reply, or the last one's.
  void sequence(std::vector<QmpCommand> commands, Handler done);
  void close();

  [[nodiscard]] bool open() const noexcept { return !down_; }

 private:
  QmpClient(asio::io_context& io, std::chrono::milliseconds patience, Callbacks callbacks);
  void start(const std::string& path, std::function<void(Connected)> done);
  void connected(std::shared_ptr<QmpClient> client, Problem problem, bool gone);
  void send(const char* verb, QmpCommand command, Handler on_reply);
  void read();
  void write();
  void dispatch(const nlohmann::json& message);
  void arm(std::uint64_t id);
  void go_down(const std::string& why);
  void batch_from(std::shared_ptr<std::vector<QmpCommand>> commands, std::shared_ptr<std::vector<QmpReply>> replies,
                  bool stop_at_refusal, BatchHandler done);

  struct Waiting {
    Handler handler;
    std::string command;
    std::chrono::steady_clock::time_point deadline;
  };

  asio::io_context& io_;
  asio::local::stream_protocol::socket socket_;
  asio::steady_timer timer_;
  const std::chrono::milliseconds patience_;
  std::string path_;
  Callbacks callbacks_;
  std::function<void(Connected)> on_connected_;
  QmpDecoder decoder_;
  std::array<char, 16384> space_{};
  std::deque<std::string> queue_;
  bool writing_ = false;
  std::map<std::uint64_t, Waiting> waiting_;  // ids grow, and so do deadlines
  std::uint64_t next_id_ = 1;
  bool greeted_ = false;
  bool oob_ = false;
  bool down_ = false;
};

}  // namespace sealift::vm

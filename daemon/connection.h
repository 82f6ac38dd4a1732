// Connection: one peer of any kind over one stream socket: framing, the first message, requests and replies.
//
// Threads: none of its own. Everything, callbacks included, happens on the io_context's one thread.
// Ownership: keeps itself alive while the socket is open; after on_down no callback comes any more.
//
// A callback may close the connection, or drop the last outside reference to it.
#pragma once

#include <asio/generic/stream_protocol.hpp>
#include <asio/steady_timer.hpp>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>

#include "daemon/frame.h"
#include "daemon/wire.pb.h"

namespace sealift::daemon {

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  using Socket = asio::generic::stream_protocol::socket;
  // The peer's reply, or one with a `failure` (kind UNREACHABLE if the connection went down first).
  using ReplyHandler = std::function<void(const wire::Envelope&)>;

  struct Callbacks {
    std::function<void(const wire::Hello&)> on_up;    // the peer's first message fits ours
    std::function<void(wire::Envelope&)> on_message;  // a request (id != 0) or a notice
    std::function<void(const std::string&)> on_down;  // once, with the reason
  };

  // Takes a connected socket. `mine` is sent at once; its version range is filled in here.
  static std::shared_ptr<Connection> start(Socket socket, wire::Hello mine, Callbacks callbacks);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  void notify(wire::Envelope message);
  void request(wire::Envelope message, ReplyHandler on_reply);
  void reply(std::uint64_t id, wire::Envelope message);
  void reply(std::uint64_t id, wire::Failure failure);
  // on_down follows, not from inside this call.
  void close(std::string why);
  // Sends what is queued first.
  void close_after_flush(std::string why);

  [[nodiscard]] bool open() const noexcept { return !down_; }
  [[nodiscard]] bool up() const noexcept { return up_ && !down_; }
  [[nodiscard]] std::size_t queued_bytes() const noexcept { return queued_bytes_; }
  [[nodiscard]] asio::any_io_executor executor() { return socket_.get_executor(); }
  [[nodiscard]] Socket& socket() noexcept { return socket_; }

 private:
  Connection(Socket socket, wire::Hello mine, Callbacks callbacks);
  void send(const wire::Envelope& message);
  void read();
  void take();
  void write();
  void dispatch(wire::Envelope& message);
  void first_message(const wire::Envelope& message);
  void go_down(const std::string& why);

  Socket socket_;
  asio::steady_timer hello_timer_;
  wire::Hello mine_;
  Callbacks callbacks_;
  FrameDecoder decoder_;
  std::deque<std::string> queue_;
  std::vector<std::string> writing_;
  std::size_t queued_bytes_ = 0;
  std::unordered_map<std::uint64_t, ReplyHandler> waiting_;
  std::uint64_t next_id_ = 1;
  bool up_ = false;
  bool down_ = false;
  bool flush_and_close_ = false;
  std::string close_reason_;
};

}  // namespace sealift::daemon

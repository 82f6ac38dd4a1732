// Client: the command line's blocking connection to sealiftd.
//
// Threads: one at a time. Ownership: owns its socket.
#pragma once

#include <functional>
#include <stdexcept>
#include <string>

#include "daemon/frame.h"
#include "daemon/wire.pb.h"

namespace sealift::cli {

// What sealiftd answered instead of a result, or why it could not be asked.
class CommandError : public std::runtime_error {
 public:
  explicit CommandError(wire::Failure failure);
  [[nodiscard]] const wire::Failure& failure() const noexcept { return failure_; }

 private:
  wire::Failure failure_;
};

class Client {
 public:
  // Throws CommandError (UNREACHABLE, VERSION) if there is no daemon that understands us.
  explicit Client(const std::string& socket_path);
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  using OnNotice = std::function<void(const wire::Envelope&)>;
  // Sends one request and waits for its reply. Notices that come in between go to `on_notice`. Throws CommandError if
  // the reply is a failure or the daemon goes.
  wire::Envelope call(wire::Envelope request, const OnNotice& on_notice = {});
  // A call that waits throws, and so does each one after it. Any thread, as long as the client lives.
  void interrupt() noexcept;

 private:
  void send(const wire::Envelope& message);
  wire::Envelope receive();

  int fd_ = -1;
  daemon::FrameDecoder decoder_;
  std::uint64_t next_id_ = 1;
};

}  // namespace sealift::cli

#include "cli/client.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "daemon/failure.h"

namespace sealift::cli {

namespace {

[[noreturn]] void unreachable(const std::string& what, const std::string& object, const std::string& advice) {
  throw CommandError(daemon::make_failure(wire::Failure::UNREACHABLE, what, object, advice));
}

}  // namespace

CommandError::CommandError(wire::Failure failure)
    : std::runtime_error(daemon::to_line(failure)), failure_(std::move(failure)) {}

Client::Client(const std::string& socket_path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (socket_path.size() >= sizeof(address.sun_path)) {
    unreachable("socket path too long", socket_path, "give a shorter one with --socket");
  }
  std::memcpy(address.sun_path, socket_path.c_str(), socket_path.size() + 1);
  fd_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd_ < 0 || ::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    const std::string why = std::strerror(errno);
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
    unreachable("no sealiftd", socket_path, why + "; start sealiftd, or name its socket with --socket");
  }
  wire::Envelope hello;
  hello.mutable_hello()->set_version_min(daemon::kProtocolMin);
  hello.mutable_hello()->set_version_max(daemon::kProtocolMax);
  hello.mutable_hello()->set_role(wire::PEER_ROLE_CLI);
  hello.mutable_hello()->set_name("sealift");
  try {
    send(hello);
    const wire::Envelope theirs = receive();
    if (!theirs.has_hello() || !daemon::negotiate(hello.hello(), theirs.hello())) {
      throw CommandError(daemon::make_failure(wire::Failure::VERSION, "sealiftd speaks another version of the protocol",
                                              socket_path, "install the same version of both"));
    }
  } catch (...) {
    ::close(std::exchange(fd_, -1));
    throw;
  }
}

Client::~Client() {
  if (fd_ >= 0) ::close(fd_);
}

wire::Envelope Client::call(wire::Envelope request, const OnNotice& on_notice) {
  const std::uint64_t id = next_id_++;
  request.set_id(id);
  send(request);
  for (;;) {
    wire::Envelope message = receive();
    if (message.reply() && message.id() == id) {
      if (message.has_failure()) throw CommandError(message.failure());
      return message;
    }
    if (!message.reply() && on_notice) on_notice(message);
  }
}

void Client::interrupt() noexcept {
  ::shutdown(fd_, SHUT_RDWR);
}

void Client::send(const wire::Envelope& message) {
  const auto bytes = daemon::encode(message);
  if (!bytes) throw CommandError(daemon::make_failure(wire::Failure::BAD_REQUEST, "request too large", "", ""));
  std::size_t done = 0;
  while (done < bytes->size()) {
    const ssize_t count = ::send(fd_, bytes->data() + done, bytes->size() - done, MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) unreachable("lost sealiftd", "", "see its log");
    done += static_cast<std::size_t>(count);
  }
}

wire::Envelope Client::receive() {
  wire::Envelope message;
  for (;;) {
    const daemon::FrameStatus status = decoder_.next(message);
    if (status == daemon::FrameStatus::kFrame) return message;
    if (status != daemon::FrameStatus::kNeedMore) unreachable("sealiftd sends nonsense", describe(status), "");
    const auto space = decoder_.space();
    const ssize_t count = ::recv(fd_, space.data(), space.size(), 0);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) unreachable("lost sealiftd", "", "what it was asked to do may go on; see `sealift status`");
    decoder_.filled(static_cast<std::size_t>(count));
  }
}

}  // namespace sealift::cli

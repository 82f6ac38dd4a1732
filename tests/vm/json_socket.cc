#include "tests/vm/json_socket.h"

#include <openssl/evp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <thread>
#include <vector>

namespace sealift::vm_test {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kConnectPatience = std::chrono::seconds(30), kAnswerPatience = std::chrono::seconds(60);
constexpr auto kPollInterval = std::chrono::milliseconds(10);

int try_connect(const std::string& path) {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) throw std::runtime_error(path + " is too long for a Unix socket");
  std::memcpy(address.sun_path, path.data(), path.size());
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return fd;
  close(fd);
  return -1;
}

std::string decode_base64(const std::string& text) {
  if (text.empty()) return {};
  std::vector<unsigned char> out(text.size());
  const int n =
      EVP_DecodeBlock(out.data(), reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
  if (n < 0) throw std::runtime_error("the guest agent's answer is no base64");
  const auto padding = static_cast<std::size_t>(std::count(text.begin(), text.end(), '='));
  return {out.begin(), out.begin() + n - static_cast<std::ptrdiff_t>(padding)};
}

}  // namespace

JsonSocket::JsonSocket(const std::string& path) : path_(path) {
  const auto deadline = Clock::now() + kConnectPatience;
  while ((fd_ = try_connect(path)) < 0) {
    if (Clock::now() > deadline) throw std::runtime_error("nobody listens on " + path);
    std::this_thread::sleep_for(kPollInterval);
  }
}

JsonSocket::~JsonSocket() {
  close(fd_);
}

void JsonSocket::send(const json& message, const std::string& prefix) {
  const std::string line = prefix + message.dump() + "\n";
  for (std::size_t at = 0; at < line.size();) {
    const ssize_t n = ::send(fd_, line.data() + at, line.size() - at, MSG_NOSIGNAL);
    if (n < 0) throw std::runtime_error("cannot write to " + path_ + ": " + std::strerror(errno));
    at += static_cast<std::size_t>(n);
  }
}

json JsonSocket::receive(std::chrono::milliseconds patience) {
  const auto deadline = Clock::now() + patience;
  for (;;) {
    const std::size_t end = buffer_.find('\n');
    if (end != std::string::npos) {
      std::string line = buffer_.substr(0, end);
      buffer_.erase(0, end + 1);
      if (const std::size_t mark = line.rfind('\xff'); mark != std::string::npos) line.erase(0, mark + 1);
      json message = json::parse(line, nullptr, false);
      if (!message.is_discarded()) return message;
      continue;
    }
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    pollfd wait{fd_, POLLIN, 0};
    if (left <= 0 || poll(&wait, 1, static_cast<int>(left)) <= 0) throw std::runtime_error(path_ + ": no answer");
    char bytes[4096];
    const ssize_t n = read(fd_, bytes, sizeof bytes);
    if (n <= 0) throw std::runtime_error(path_ + ": closed");
    buffer_.append(bytes, static_cast<std::size_t>(n));
  }
}

Qmp::Qmp(const std::string& path) : socket_(path) {
  (void)socket_.receive(kAnswerPatience);  // the greeting
  execute("qmp_capabilities");
}

json Qmp::execute(const std::string& command, const json& arguments) {
  socket_.send({{"execute", command}, {"arguments", arguments}});
  for (;;) {
    const json answer = socket_.receive(kAnswerPatience);
    if (answer.contains("return")) return answer["return"];
    if (answer.contains("error")) throw std::runtime_error(command + ": " + answer.dump());
  }
}

GuestAgent::GuestAgent(const std::string& path) : socket_(path) {
  // Makes the agent forget what it may have read of another client's request.
  const auto token = static_cast<std::int64_t>(Clock::now().time_since_epoch().count() & 0xffffffff);
  socket_.send({{"execute", "guest-sync-delimited"}, {"arguments", {{"id", token}}}}, "\xff");
  for (;;) {
    const json answer = socket_.receive(kAnswerPatience);
    if (answer.contains("return") && answer["return"] == token) return;
  }
}

json GuestAgent::execute(const std::string& command, const json& arguments) {
  socket_.send({{"execute", command}, {"arguments", arguments}});
  const json answer = socket_.receive(kAnswerPatience);
  if (!answer.contains("return")) throw std::runtime_error(command + ": " + answer.dump());
  return answer["return"];
}

GuestAgent::Outcome GuestAgent::run(const std::string& command, std::chrono::milliseconds patience) {
  const json started = execute("guest-exec", {{"path", "/bin/sh"},
                                              {"arg", {"-c", command + " 2>&1"}},
                                              {"env", {"PATH=/opt/sealift/bin:/usr/sbin:/usr/bin:/sbin:/bin"}},
                                              {"capture-output", true}});
  const auto deadline = Clock::now() + patience;
  for (;;) {
    const json status = execute("guest-exec-status", {{"pid", started["pid"]}});
    if (status["exited"].get<bool>()) {
      return {status.value("exitcode", -1), decode_base64(status.value("out-data", ""))};
    }
    if (Clock::now() > deadline) throw std::runtime_error("in the guest: " + command + ": still running");
    std::this_thread::sleep_for(kPollInterval);
  }
}

}  // namespace sealift::vm_test

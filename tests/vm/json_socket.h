// QEMU's two JSON protocols over Unix sockets: QMP (the machine) and the guest agent's (a command in the guest).
//
// Synchronous, for tests; every wait is bounded. Errors are std::runtime_error with what was asked and what came back.
#pragma once

#include <chrono>
#include <nlohmann/json.hpp>
#include <string>

namespace sealift::vm_test {

using nlohmann::json;

class JsonSocket {
 public:
  // Connects as soon as somebody listens there.
  explicit JsonSocket(const std::string& path);
  ~JsonSocket();
  JsonSocket(const JsonSocket&) = delete;
  JsonSocket& operator=(const JsonSocket&) = delete;

  void send(const json& message, const std::string& prefix = "");
  // The next line that is JSON. 0xff, with which the guest agent marks a restart, is skipped.
  [[nodiscard]] json receive(std::chrono::milliseconds patience);

 private:
  int fd_ = -1;
  std::string path_;
  std::string buffer_;
};

// QMP. Events are kept aside.
class Qmp {
 public:
  explicit Qmp(const std::string& path);
  json execute(const std::string& command, const json& arguments = json::object());

 private:
  JsonSocket socket_;
};

// Commands in the guest. A new one is made after a migration, on the target's socket.
class GuestAgent {
 public:
  explicit GuestAgent(const std::string& path);
  struct Outcome {
    int status = -1;
    std::string output;
  };
  // /bin/sh -c COMMAND, at most `patience` long.
  Outcome run(const std::string& command, std::chrono::milliseconds patience = std::chrono::seconds(60));

 private:
  json execute(const std::string& command, const json& arguments);
  JsonSocket socket_;
};

}  // namespace sealift::vm_test

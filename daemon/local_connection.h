// What a daemon and a broker have in common towards the programs and commands of their own host.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "daemon/connection.h"

namespace sealift::daemon {

// Messages of a program with enclaves, of a command, and the end of either. None comes after on_down.
struct LocalHandlers {
  using OnMessage = std::function<void(const std::shared_ptr<Connection>&, wire::Envelope&)>;
  OnMessage on_process, on_command;
  std::function<void(const std::shared_ptr<Connection>&)> on_down;
};

// Greets an accepted connection as the daemon `name`, and closes it if the other side is neither a process nor a
// command. `pid` is for the log. Threads and ownership as Connection's.
[[nodiscard]] std::shared_ptr<Connection> start_local(Connection::Socket socket, const std::string& name,
                                                      std::uint32_t pid, LocalHandlers handlers);

}  // namespace sealift::daemon

#include "daemon/local_connection.h"

#include <spdlog/spdlog.h>

#include <utility>

namespace sealift::daemon {

std::shared_ptr<Connection> start_local(Connection::Socket socket, const std::string& name, std::uint32_t pid,
                                        LocalHandlers handlers) {
  wire::Hello hello;
  hello.set_role(wire::PEER_ROLE_DAEMON);
  hello.set_name(name);
  // Filled in once the connection exists; the callbacks come later.
  auto self = std::make_shared<std::weak_ptr<Connection>>();
  auto role = std::make_shared<wire::PeerRole>(wire::PEER_ROLE_UNSPECIFIED);
  Connection::Callbacks callbacks;
  callbacks.on_up = [self, role](const wire::Hello& theirs) {
    *role = theirs.role();
    if (*role != wire::PEER_ROLE_PROCESS && *role != wire::PEER_ROLE_CLI) {
      if (const auto connection = self->lock()) connection->close("neither a process nor a command");
    }
  };
  callbacks.on_message = [self, role, on_process = std::move(handlers.on_process),
                          on_command = std::move(handlers.on_command)](wire::Envelope& message) {
    const auto connection = self->lock();
    if (!connection) return;
    if (*role == wire::PEER_ROLE_CLI) return on_command(connection, message);
    on_process(connection, message);
  };
  callbacks.on_down = [self, pid, on_down = std::move(handlers.on_down)](const std::string& why) {
    spdlog::debug("process {}: {}", pid, why);
    on_down(self->lock());
  };
  auto connection = Connection::start(std::move(socket), hello, std::move(callbacks));
  *self = connection;
  return connection;
}

}  // namespace sealift::daemon

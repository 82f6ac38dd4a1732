// Names of sockets, and connecting to them.
#pragma once

#include <asio/any_io_executor.hpp>
#include <asio/io_context.hpp>
#include <functional>
#include <optional>
#include <string>

#include "daemon/connection.h"

namespace sealift::daemon {

inline constexpr const char* kDefaultPort = "7419";

struct HostPort {
  std::string host;
  std::string port;
  [[nodiscard]] std::string str() const;  // an IPv6 address in brackets
};
// "host", "host:port", "[v6]", "[v6]:port", ":port" (any address; for listening). Nothing if it is none of these.
[[nodiscard]] std::optional<HostPort> parse_host_port(const std::string& text);

// Where sealiftd listens unless told otherwise: $SEALIFT_SOCKET, or $XDG_RUNTIME_DIR/sealift/sealiftd.sock if there is
// a daemon's socket or no /run/sealift, or /run/sealift/sealiftd.sock.
[[nodiscard]] std::string default_socket();

using Connected = std::function<void(const std::error_code&, Connection::Socket)>;
void connect_unix(asio::io_context& io, const std::string& path, Connected done);
// Resolves and tries each address. The socket notices a dead peer within about 20 s also when nothing is sent.
void connect_tcp(asio::io_context& io, const HostPort& where, Connected done);
// The same for a socket that was accepted.
void watch_liveness(int fd);

}  // namespace sealift::daemon

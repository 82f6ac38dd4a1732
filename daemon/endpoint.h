// Names of sockets, and connecting to them.
#pragma once

#include <asio/any_io_executor.hpp>
#include <asio/io_context.hpp>
#include <asio/local/stream_protocol.hpp>
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
// Makes an accepted socket notice a dead peer as well.
void watch_liveness(int fd);
// Binds and listens, mode 0600, in a directory that is made (0700) if need be. A socket file nobody answers behind is
// replaced. Throws std::system_error.
[[nodiscard]] asio::local::stream_protocol::acceptor listen_unix(asio::io_context& io, const std::string& path);

}  // namespace sealift::daemon

// Names of sockets, and connecting to them.
#pragma once

#include <asio/any_io_executor.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
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

// Who is at the other end of an accepted Unix socket, if it is the same user, or root. The file's mode says so too;
// this holds if it was changed.
[[nodiscard]] std::optional<std::uint32_t> trusted_pid(int fd);

using Connected = std::function<void(const std::error_code&, Connection::Socket)>;
void connect_unix(asio::io_context& io, const std::string& path, Connected done);
// Resolves and tries each address. The socket notices a dead peer within about 20 s also when nothing is sent.
void connect_tcp(asio::io_context& io, const HostPort& where, Connected done);
// `channel`: "unix:PATH", an absolute path, or HOST:PORT. invalid_argument in `done` if it is none of these.
void connect_channel(asio::io_context& io, const std::string& channel, Connected done);
// The path in it, or empty if it is HOST:PORT.
[[nodiscard]] std::string channel_path(const std::string& channel);
// Makes an accepted socket notice a dead peer as well.
void watch_liveness(int fd);
// Binds and listens, mode 0600, in a directory that is made (0700) if need be. A socket file nobody answers behind is
// replaced. Throws std::system_error.
[[nodiscard]] asio::local::stream_protocol::acceptor listen_unix(asio::io_context& io, const std::string& path);
[[nodiscard]] asio::ip::tcp::acceptor listen_tcp(asio::io_context& io, const HostPort& where);
// HOST:PORT where it really listens, also if port 0 was asked for.
[[nodiscard]] std::string address_of(const asio::ip::tcp::acceptor& acceptor);

}  // namespace sealift::daemon

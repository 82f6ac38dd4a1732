#include "daemon/endpoint.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <asio/connect.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/local/stream_protocol.hpp>
#include <asio/post.hpp>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <system_error>
#include <utility>

namespace sealift::daemon {

std::string HostPort::str() const {
  return host.find(':') == std::string::npos ? host + ":" + port : "[" + host + "]:" + port;
}

std::optional<HostPort> parse_host_port(const std::string& text) {
  HostPort out{"", kDefaultPort};
  std::string rest;
  if (!text.empty() && text.front() == '[') {
    const std::size_t close = text.find(']');
    if (close == std::string::npos) return std::nullopt;
    out.host = text.substr(1, close - 1);
    rest = text.substr(close + 1);
    if (out.host.empty()) return std::nullopt;
  } else {
    const std::size_t colon = text.find(':');
    out.host = text.substr(0, colon);
    if (colon != std::string::npos) rest = text.substr(colon);
  }
  if (rest.empty()) return out.host.empty() ? std::nullopt : std::optional(out);
  if (rest.front() != ':') return std::nullopt;
  out.port = rest.substr(1);
  if (out.port.empty() || out.port.size() > 5 ||
      !std::all_of(out.port.begin(), out.port.end(), [](char c) { return c >= '0' && c <= '9'; }) ||
      std::stoi(out.port) > 65535) {
    return std::nullopt;
  }
  return out;
}

std::string default_socket() {
  if (const char* named = std::getenv("SEALIFT_SOCKET"); named != nullptr && *named != '\0') return named;
  const std::string system = "/run/sealift/sealiftd.sock";
  const char* runtime = std::getenv("XDG_RUNTIME_DIR");
  if (runtime == nullptr || *runtime == '\0') return system;
  const std::string mine = std::string(runtime) + "/sealift/sealiftd.sock";
  struct stat info {};
  if (::stat(mine.c_str(), &info) == 0) return mine;
  return ::stat("/run/sealift", &info) == 0 ? system : mine;
}

void connect_unix(asio::io_context& io, const std::string& path, Connected done) {
  using Protocol = asio::local::stream_protocol;
  if (path.size() >= sizeof(sockaddr_un::sun_path)) {
    asio::post(io, [&io, done = std::move(done)] {
      done(std::make_error_code(std::errc::filename_too_long), Connection::Socket(io));
    });
    return;
  }
  auto socket = std::make_shared<Protocol::socket>(io);
  socket->async_connect(Protocol::endpoint(path), [socket, done = std::move(done)](const std::error_code& error) {
    done(error, Connection::Socket(std::move(*socket)));
  });
}

asio::local::stream_protocol::acceptor listen_unix(asio::io_context& io, const std::string& path) {
  using Protocol = asio::local::stream_protocol;
  if (path.size() >= sizeof(sockaddr_un::sun_path)) {
    throw std::system_error(std::make_error_code(std::errc::filename_too_long), path);
  }
  const std::filesystem::path parent = std::filesystem::path(path).parent_path();
  if (!parent.empty() && std::filesystem::create_directories(parent)) {
    std::filesystem::permissions(parent, std::filesystem::perms::owner_all);
  }
  Protocol::socket probe(io);
  std::error_code error;
  probe.connect(Protocol::endpoint(path), error);
  if (!error) throw std::system_error(std::make_error_code(std::errc::address_in_use), path);
  struct stat info {};
  if (error == asio::error::connection_refused && ::lstat(path.c_str(), &info) == 0 && S_ISSOCK(info.st_mode)) {
    ::unlink(path.c_str());
  }
  Protocol::acceptor acceptor(io);
  acceptor.open();
  // bind() makes the file with the umask's rights; nobody else may ever connect to it.
  const mode_t before = ::umask(0177);
  acceptor.bind(Protocol::endpoint(path), error);
  ::umask(before);
  if (error) throw std::system_error(error, path);
  acceptor.listen();
  return acceptor;
}

void watch_liveness(int fd) {
  const int on = 1;
  const int idle_s = 5;
  const int interval_s = 5;
  const int probes = 3;
  const unsigned unacked_ms = 20'000;
  // Best effort: without these options only a dead peer is noticed later.
  (void)::setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
  (void)::setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
  (void)::setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof(interval_s));
  (void)::setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
  (void)::setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &unacked_ms, sizeof(unacked_ms));
  (void)::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

void connect_tcp(asio::io_context& io, const HostPort& where, Connected done) {
  using asio::ip::tcp;
  auto resolver = std::make_shared<tcp::resolver>(io);
  resolver->async_resolve(
      where.host, where.port,
      [&io, resolver, done = std::move(done)](const std::error_code& error, const tcp::resolver::results_type& found) {
        if (error) return done(error, Connection::Socket(io));
        auto socket = std::make_shared<tcp::socket>(io);
        asio::async_connect(*socket, found, [socket, done](const std::error_code& failed, const tcp::endpoint&) {
          if (!failed) watch_liveness(socket->native_handle());
          done(failed, Connection::Socket(std::move(*socket)));
        });
      });
}

asio::ip::tcp::acceptor listen_tcp(asio::io_context& io, const HostPort& where) {
  using asio::ip::tcp;
  tcp::resolver resolver(io);
  const auto found = resolver.resolve(where.host, where.port, tcp::resolver::passive);
  tcp::acceptor acceptor(io);
  std::error_code error;
  acceptor.open(found.begin()->endpoint().protocol());
  acceptor.set_option(tcp::acceptor::reuse_address(true));
  acceptor.bind(found.begin()->endpoint(), error);
  if (error) throw std::system_error(error, where.str());
  acceptor.listen();
  return acceptor;
}

std::string address_of(const asio::ip::tcp::acceptor& acceptor) {
  const auto endpoint = acceptor.local_endpoint();
  return HostPort{endpoint.address().to_string(), std::to_string(endpoint.port())}.str();
}

std::optional<std::uint32_t> trusted_pid(int fd) {
  ucred peer{};
  socklen_t size = sizeof(peer);
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return std::nullopt;
  if (peer.uid != ::getuid() && peer.uid != 0) return std::nullopt;
  return static_cast<std::uint32_t>(peer.pid);
}

std::string channel_path(const std::string& channel) {
  constexpr std::string_view kUnix = "unix:";
  if (channel.starts_with(kUnix)) return channel.substr(kUnix.size());
  return channel.starts_with('/') ? channel : std::string();
}

void connect_channel(asio::io_context& io, const std::string& channel, Connected done) {
  if (const std::string path = channel_path(channel); !path.empty()) return connect_unix(io, path, std::move(done));
  const auto where = parse_host_port(channel);
  if (where && !where->host.empty()) return connect_tcp(io, *where, std::move(done));
  asio::post(io, [&io, done = std::move(done)] {
    done(std::make_error_code(std::errc::invalid_argument), Connection::Socket(io));
  });
}

}  // namespace sealift::daemon

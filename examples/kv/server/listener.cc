#include "examples/kv/server/listener.h"

#include <sys/socket.h>

#include <asio/steady_timer.hpp>
#include <stdexcept>

#include "examples/kv/server/address.h"

namespace kv {
namespace {

using asio::ip::tcp;
using ReusePort = asio::detail::socket_option::boolean<SOL_SOCKET, SO_REUSEPORT>;

[[noreturn]] void fail(const tcp::endpoint& address, const std::error_code& error) {
  const bool taken = error == asio::error::address_in_use;
  throw std::runtime_error(
      "cannot listen on " + address_text(address) + ": " +
      (taken ? "another program has that address: choose another with --listen" : error.message()));
}

}  // namespace

Listener::Listener(asio::io_context& io, const tcp::endpoint& address) : io_(io), wanted_(address), acceptor_(io) {
  std::error_code error = bind_alone();
  if (error == asio::error::address_in_use) {
    acceptor_.set_option(ReusePort(true));
    acceptor_.bind(wanted_, error);
    shared_ = true;
  }
  if (error) fail(wanted_, error);
}

// Sharing is allowed only once it is bound: so that it fails when anyone else is there.
std::error_code Listener::bind_alone() {
  std::error_code error;
  acceptor_.open(wanted_.protocol(), error);
  if (error) return error;
  acceptor_.set_option(tcp::acceptor::reuse_address(true));
  acceptor_.bind(wanted_, error);
  if (!error) acceptor_.set_option(ReusePort(true));
  return error;
}

void Listener::take_over(std::chrono::milliseconds patience) {
  // Nobody tells when an address becomes free.
  constexpr std::chrono::milliseconds kAgain{10};
  const auto deadline = std::chrono::steady_clock::now() + patience;
  for (;;) {
    acceptor_.close();
    const std::error_code error = bind_alone();
    if (!error) break;
    if (error != asio::error::address_in_use || std::chrono::steady_clock::now() >= deadline) fail(wanted_, error);
    asio::steady_timer(io_, kAgain).wait();
  }
  shared_ = false;
}

void Listener::listen(std::chrono::milliseconds patience) {
  if (shared_) take_over(patience);
  std::error_code error;
  acceptor_.listen(tcp::acceptor::max_listen_connections, error);
  if (error) fail(acceptor_.local_endpoint(), error);
}

std::string Listener::address() const {
  return address_text(acceptor_.local_endpoint());
}

}  // namespace kv

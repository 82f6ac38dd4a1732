// Where clients connect: an address that a migrated server can take over from its predecessor on the same machine.
#pragma once

#include <asio/ip/tcp.hpp>
#include <string>

namespace kv {

// "HOST:PORT", also "[::1]:PORT". Throws std::runtime_error with one line.
[[nodiscard]] asio::ip::tcp::endpoint parse_address(const std::string& text);

// Binds before the enclave is opened, listens after: a server that cannot have its address must not take an enclave
// over, and one that waits for an enclave must not let clients in.
//
// While the enclave is being migrated from a server on this machine, that one still listens at the address. Its socket
// allows sharing (SO_REUSEPORT, same user), and it closes it as soon as the enclave has gone.
class Listener {
 public:
  // Throws std::runtime_error with one line when the address is not to be had.
  Listener(asio::any_io_executor executor, const asio::ip::tcp::endpoint& address);
  // The address is in use by a server like this one: right only for an enclave that comes from there.
  [[nodiscard]] bool shared() const { return shared_; }
  void listen();
  [[nodiscard]] std::string address() const;
  [[nodiscard]] asio::ip::tcp::acceptor& acceptor() { return acceptor_; }

 private:
  asio::ip::tcp::acceptor acceptor_;
  bool shared_ = false;
};

}  // namespace kv

// Where clients connect: an address that a migrated server can take over from its predecessor on the same machine.
#pragma once

#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <chrono>
#include <string>
#include <system_error>

namespace kv {

// Binds before the enclave is opened, listens after: a server that cannot have its address must not take an enclave
// over, and one that waits for an enclave must not let clients in.
//
// While the enclave is being migrated from a server on this machine, that one still listens at the address. Its socket
// allows sharing (SO_REUSEPORT, same user), so that this one can bind too, and it is closed as soon as the enclave has
// gone. Only then does this one listen: two servers at one address would each get some of the clients.
class Listener {
 public:
  // Throws std::runtime_error with one line when the address is not to be had.
  Listener(asio::io_context& io, const asio::ip::tcp::endpoint& address);
  // The address is in use by a server like this one: right only for an enclave that comes from there.
  [[nodiscard]] bool shared() const { return shared_; }
  // Lets clients in. When shared(), waits until the other server has closed, or throws std::runtime_error.
  void listen(std::chrono::milliseconds patience = std::chrono::seconds(10));
  [[nodiscard]] std::string address() const;
  [[nodiscard]] asio::ip::tcp::acceptor& acceptor() { return acceptor_; }

 private:
  [[nodiscard]] std::error_code bind_alone();
  void take_over(std::chrono::milliseconds patience);

  asio::io_context& io_;
  const asio::ip::tcp::endpoint wanted_;
  asio::ip::tcp::acceptor acceptor_;
  bool shared_ = false;
};

}  // namespace kv

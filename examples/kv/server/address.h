// Addresses as people write them.
#pragma once

#include <asio/ip/tcp.hpp>
#include <string>

namespace kv {

// "IP:PORT", "[IPv6]:PORT" or "localhost:PORT". Throws std::runtime_error with one line.
[[nodiscard]] asio::ip::tcp::endpoint parse_address(const std::string& text);
[[nodiscard]] std::string address_text(const asio::ip::tcp::endpoint& address);

}  // namespace kv

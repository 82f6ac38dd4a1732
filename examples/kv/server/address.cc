#include "examples/kv/server/address.h"

#include <charconv>
#include <sstream>
#include <stdexcept>

namespace kv {

using asio::ip::tcp;

tcp::endpoint parse_address(const std::string& text) {
  const std::size_t colon = text.rfind(':');
  std::string host = text.substr(0, colon == std::string::npos ? 0 : colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  std::error_code error;
  const auto ip = asio::ip::make_address(host == "localhost" ? "127.0.0.1" : host, error);
  std::uint16_t port = 0;
  const char* const last = text.data() + text.size();
  const char* const first = colon == std::string::npos ? last : text.data() + colon + 1;
  const auto [stop, bad] = std::from_chars(first, last, port);
  if (error || first == last || bad != std::errc() || stop != last) {
    throw std::runtime_error("\"" + text + "\" is no address: write IP:PORT, for instance 127.0.0.1:6379");
  }
  return {ip, port};
}

std::string address_text(const tcp::endpoint& address) {
  std::ostringstream out;
  out << address;
  return out.str();
}

}  // namespace kv

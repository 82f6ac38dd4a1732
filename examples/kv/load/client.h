// A connection to whichever server of a list answers, made again when it breaks.
#pragma once

#include <asio/awaitable.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/steady_timer.hpp>
#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kv::load {

// One reply: a status, an error, an integer or a bulk string. An array is its elements, one after the other.
struct Answer {
  char type = 0;                    // '+', '-', ':' or '$'
  std::optional<std::string> text;  // nothing: the null bulk string
};

struct Servers {
  std::vector<asio::ip::tcp::endpoint> addresses;
  std::chrono::milliseconds timeout{10'000};   // for an answer; then the connection counts as broken
  std::chrono::milliseconds patience{60'000};  // for any server to be there
};

// Used by one coroutine at a time.
class Client {
 public:
  // `servers` and `stopping` must outlive this. Once `stopping`, a connection that is lost is not made again.
  Client(asio::io_context& io, const Servers& servers, const bool& stopping)
      : servers_(servers), stopping_(stopping), socket_(io), timer_(io), watchdog_(io) {}

  // False: no server for as long as patience lasts, or stopping. Tries the servers in turn, first the one after the
  // last.
  [[nodiscard]] asio::awaitable<bool> connect();
  [[nodiscard]] bool connected() const { return connected_; }

  // Sends `requests` and waits for `count` answers, giving each to `each` as it comes. False: the connection broke;
  // `each` has seen the answers that came before that.
  using Each = std::function<void(std::size_t index, const Answer& answer)>;
  [[nodiscard]] asio::awaitable<bool> exchange(std::string requests, std::size_t count, Each each);

 private:
  [[nodiscard]] asio::awaitable<bool> connect_to(const asio::ip::tcp::endpoint& address);
  [[nodiscard]] asio::awaitable<bool> read_answer(Answer& answer);
  [[nodiscard]] asio::awaitable<bool> read_line(std::string& line);
  [[nodiscard]] asio::awaitable<bool> need(std::size_t bytes);
  // Closes the socket unless disarmed in time.
  void arm();
  void disarm();
  void close();

  const Servers& servers_;
  const bool& stopping_;
  asio::ip::tcp::socket socket_;
  asio::steady_timer timer_, watchdog_;
  std::string in_;
  std::size_t at_ = 0;  // of in_: understood
  std::size_t next_ = 0;
  bool connected_ = false;
};

}  // namespace kv::load

#include "examples/kv/load/client.h"

#include <asio/buffer.hpp>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>
#include <asio/write.hpp>
#include <charconv>

namespace kv::load {
namespace {

using asio::ip::tcp;
using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kBetweenRounds{10};

// Here and in run.cc co_await stands in a statement of its own: GCC 12 can lose its place in a coroutine (it then
// traps) when co_await is an if's condition.

}  // namespace

void Client::arm() {
  watchdog_.expires_after(servers_.timeout);
  watchdog_.async_wait([this](std::error_code cancelled) {
    if (!cancelled) close();
  });
}

void Client::disarm() {
  watchdog_.cancel();
}

void Client::close() {
  std::error_code ignored;  // it is closed in any case
  socket_.close(ignored);
  connected_ = false;
}

asio::awaitable<bool> Client::connect() {
  const auto deadline = Clock::now() + servers_.patience;
  std::error_code ignored;  // a timer that nobody cancels
  while (!stopping_) {
    for (std::size_t i = 0; i < servers_.addresses.size(); ++i) {
      const tcp::endpoint& address = servers_.addresses[next_++ % servers_.addresses.size()];
      const bool connected = co_await connect_to(address);
      if (connected) co_return true;
    }
    if (Clock::now() >= deadline) break;
    timer_.expires_after(kBetweenRounds);
    co_await timer_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  }
  co_return false;
}

asio::awaitable<bool> Client::connect_to(const tcp::endpoint& address) {
  close();
  in_.clear();
  at_ = 0;
  std::error_code error;
  arm();
  co_await socket_.async_connect(address, asio::redirect_error(asio::use_awaitable, error));
  disarm();
  connected_ = !error && socket_.is_open();
  if (connected_) socket_.set_option(tcp::no_delay(true), error);
  co_return connected_;
}

asio::awaitable<bool> Client::exchange(std::string requests, std::size_t count, Each each) {
  std::error_code error;
  arm();
  co_await asio::async_write(socket_, asio::buffer(requests), asio::redirect_error(asio::use_awaitable, error));
  bool good = !error;
  Answer answer;
  for (std::size_t i = 0; good && i < count; ++i) {
    good = co_await read_answer(answer);
    if (good) each(i, answer);
  }
  disarm();
  if (!good) close();
  in_.erase(0, at_);
  at_ = 0;
  co_return good;
}

// False as soon as the bytes are no reply: to a client, a server that talks nonsense is a connection that is broken.
asio::awaitable<bool> Client::read_answer(Answer& answer) {
  std::string line;
  do {
    const bool good = co_await read_line(line);
    if (!good || line.empty()) co_return false;
    answer.type = line[0];
  } while (answer.type == '*');
  answer.text = line.substr(1);
  if (answer.type != '$') co_return answer.type == '+' || answer.type == '-' || answer.type == ':';
  std::int64_t size = 0;
  const auto [stop, bad] = std::from_chars(line.data() + 1, line.data() + line.size(), size);
  if (bad != std::errc() || stop != line.data() + line.size() || size < -1) co_return false;
  answer.text.reset();
  if (size < 0) co_return true;
  const auto bytes = static_cast<std::size_t>(size);
  const bool there = co_await need(bytes + 2);
  if (!there) co_return false;
  answer.text = in_.substr(at_, bytes);
  at_ += bytes + 2;
  co_return true;
}

asio::awaitable<bool> Client::read_line(std::string& line) {
  std::size_t end = in_.find("\r\n", at_);
  while (end == std::string::npos) {
    const bool more = co_await need(in_.size() - at_ + 1);
    if (!more) co_return false;
    end = in_.find("\r\n", at_);
  }
  line = in_.substr(at_, end - at_);
  at_ = end + 2;
  co_return true;
}

asio::awaitable<bool> Client::need(std::size_t bytes) {
  constexpr std::size_t kChunk = 64 * 1024;
  std::error_code error;
  while (in_.size() - at_ < bytes) {
    const std::size_t before = in_.size();
    in_.resize(before + kChunk);
    const std::size_t n = co_await socket_.async_read_some(asio::buffer(in_.data() + before, kChunk),
                                                           asio::redirect_error(asio::use_awaitable, error));
    in_.resize(before + n);
    if (error) co_return false;
  }
  co_return true;
}

}  // namespace kv::load

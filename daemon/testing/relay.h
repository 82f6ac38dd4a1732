// Relay: a monitor that a test can close under sealiftd.
#pragma once

#include <array>
#include <asio/buffer.hpp>
#include <asio/io_context.hpp>
#include <asio/local/stream_protocol.hpp>
#include <asio/post.hpp>
#include <asio/write.hpp>
#include <memory>
#include <string>
#include <thread>
#include <utility>

namespace sealift::daemon::testing {

// Relays one connection at a time to QEMU's.
class Relay {
 public:
  Relay(const std::string& path, std::string to) : to_(std::move(to)), acceptor_(io_, Protocol::endpoint(path)) {
    accept();
    thread_ = std::thread([this] { io_.run(); });
  }
  ~Relay() {
    io_.stop();
    thread_.join();
  }
  void drop() {
    asio::post(io_, [this] { close(); });
  }

 private:
  using Protocol = asio::local::stream_protocol;
  struct Link {
    explicit Link(asio::io_context& io) : near(io), far(io) {}
    Protocol::socket near, far;
    std::array<char, 4096> up{}, down{};
  };
  void accept() {
    acceptor_.async_accept([this](const std::error_code& error, Protocol::socket socket) {
      if (error) return;
      close();
      link_ = std::make_shared<Link>(io_);
      link_->near = std::move(socket);
      link_->far.connect(Protocol::endpoint(to_));
      pump(link_, link_->near, link_->far, link_->up);
      pump(link_, link_->far, link_->near, link_->down);
      accept();
    });
  }
  void pump(const std::shared_ptr<Link>& link, Protocol::socket& from, Protocol::socket& to,
            std::array<char, 4096>& by) {
    from.async_read_some(asio::buffer(by), [=, this, &from, &to, &by](const std::error_code& error, std::size_t count) {
      std::error_code failed;
      if (!error) asio::write(to, asio::buffer(by, count), failed);
      if (!error && !failed) return pump(link, from, to, by);
      from.close(failed);
      to.close(failed);
    });
  }
  void close() {
    if (!link_) return;
    std::error_code ignored;
    link_->near.close(ignored);
    link_->far.close(ignored);
    link_.reset();
  }

  std::string to_;
  asio::io_context io_;
  Protocol::acceptor acceptor_;
  std::shared_ptr<Link> link_;
  std::thread thread_;
};

}  // namespace sealift::daemon::testing

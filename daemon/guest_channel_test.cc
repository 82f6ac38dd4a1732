// Sessions over a stream that has none of its own, and that may change its other end at any byte.
#include "daemon/guest_channel.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <asio/buffer.hpp>
#include <asio/read.hpp>
#include <asio/write.hpp>
#include <optional>
#include <utility>

namespace sealift::daemon {
namespace {

using channel::Frame;
using channel::Kind;
using channel::Scanner;

std::string frame(const std::string& payload, std::uint64_t session = 7) {
  return channel::encode({Kind::kData, session, payload});
}

TEST(GuestChannelScanner, FindsFramesInPieces) {
  const std::string bytes = frame("one") + frame("") + frame(std::string(channel::kMaxPayload, 'x'));
  Scanner scanner;
  std::vector<std::string> found;
  for (const char c : bytes) {
    scanner.add(std::string_view(&c, 1));
    while (auto next = scanner.next()) found.push_back(next->payload);
  }
  EXPECT_EQ(found, (std::vector<std::string>{"one", "", std::string(channel::kMaxPayload, 'x')}));
}

TEST(GuestChannelScanner, SkipsWhatIsNoFrame) {
  Scanner scanner;
  scanner.add("garbage SLG" + frame("a") + "SLGC" + frame("b"));
  EXPECT_EQ(scanner.next()->payload, "a");
  EXPECT_EQ(scanner.next()->payload, "b");
  scanner.add(std::string(100, '\0') + "SLGC");
  EXPECT_FALSE(scanner.next()) << "the stray magic may still become a frame";
  scanner.add(frame("c"));
  EXPECT_EQ(scanner.next()->payload, "c");
}

TEST(GuestChannelScanner, RefusesAChangedByte) {
  for (std::size_t at = 0; at < frame("payload").size(); ++at) {
    std::string bytes = frame("payload");
    bytes[at] = static_cast<char>(bytes[at] ^ 0x10);
    Scanner scanner;
    scanner.add(bytes + std::string(channel::kMaxPayload + 64, '\0') + frame("next"));
    const auto found = scanner.next();
    ASSERT_TRUE(found) << at;
    EXPECT_EQ(found->payload, "next") << at;
  }
}

TEST(GuestChannelScanner, ALengthOutOfBoundsIsNotWaitedFor) {
  std::string bytes = frame("x");
  bytes[17] = '\x7f';  // the length's second byte: more than a frame may have
  Scanner scanner;
  scanner.add(bytes + frame("y"));
  EXPECT_EQ(scanner.next()->payload, "y");
}

// One end under test, and the socket of its session.
class End {
 public:
  End(asio::io_context& io, int fd, GuestChannel::Side side) : io_(io) {
    GuestChannel::Callbacks callbacks;
    callbacks.on_session = [this](Connection::Socket socket) {
      ++sessions;
      got.clear();
      ended = false;
      socket_ = std::make_shared<Connection::Socket>(std::move(socket));
      read();
    };
    callbacks.on_down = [this] { down = true; };
    channel_ = GuestChannel::start(io, fd, side, false, std::move(callbacks));
  }
  ~End() {
    channel_->close();
    if (socket_) socket_->close();  // ends the read into buffer_; its handler still runs, later
  }
  void say(const std::string& text) { asio::write(*socket_, asio::buffer(text)); }
  void hang_up() {
    socket_->close();
    socket_.reset();
  }

  int sessions = 0;
  std::string got;
  bool ended = false, down = false;

 private:
  void read() {
    const auto socket = socket_;
    socket->async_read_some(asio::buffer(buffer_),
                            [this, socket, alive = std::weak_ptr(alive_)](const std::error_code& error, std::size_t n) {
                              if (alive.expired() || socket != socket_) return;
                              if (error) {
                                ended = true;
                                return;
                              }
                              got.append(buffer_.data(), n);
                              read();
                            });
  }

  asio::io_context& io_;
  std::shared_ptr<GuestChannel> channel_;
  std::shared_ptr<Connection::Socket> socket_;
  std::array<char, 4096> buffer_{};
  std::shared_ptr<int> alive_ = std::make_shared<int>();
};

class GuestChannelTest : public ::testing::Test {
 protected:
  static std::pair<int, int> pair() {
    int ends[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    return {ends[0], ends[1]};
  }
  void until(const std::function<bool()>& condition) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!condition() && std::chrono::steady_clock::now() < deadline) {
      io_.restart();
      io_.run_for(std::chrono::milliseconds(5));
    }
    ASSERT_TRUE(condition());
  }
  // Moves what is there from one descriptor to the other, at most `limit` bytes.
  static std::size_t carry(int from, int to, std::size_t limit = 1 << 20) {
    std::string bytes(limit, '\0');
    const ssize_t n = ::recv(from, bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (n <= 0) return 0;
    EXPECT_EQ(::send(to, bytes.data(), static_cast<std::size_t>(n), MSG_NOSIGNAL), n);
    return static_cast<std::size_t>(n);
  }
  static std::string expect(std::size_t n) { return std::string(n, 'z'); }

  asio::io_context io_;
};

TEST_F(GuestChannelTest, BothWaysWhoeverIsFirst) {
  for (const bool guest_first : {true, false}) {
    const auto [a, b] = pair();
    std::optional<End> guest, host;
    if (guest_first) guest.emplace(io_, a, GuestChannel::Side::kGuest);
    if (!guest_first) host.emplace(io_, b, GuestChannel::Side::kHost);
    io_.run_for(std::chrono::milliseconds(250));  // knocks more than once
    if (!guest) guest.emplace(io_, a, GuestChannel::Side::kGuest);
    if (!host) host.emplace(io_, b, GuestChannel::Side::kHost);
    until([&] { return guest->sessions == 1 && host->sessions == 1; });
    guest->say("from the guest");
    host->say(expect(100'000));
    until([&] { return guest->got.size() == 100'000 && host->got.size() == 14; });
    EXPECT_EQ(guest->got, expect(100'000));
    EXPECT_EQ(host->got, "from the guest");
    EXPECT_EQ(guest->sessions, 1);
    EXPECT_EQ(host->sessions, 1);
  }
}

TEST_F(GuestChannelTest, AStreamThatEndsIsTold) {
  const auto [a, b] = pair();
  End guest(io_, a, GuestChannel::Side::kGuest);
  {
    End host(io_, b, GuestChannel::Side::kHost);
    until([&] { return guest.sessions == 1; });
  }
  until([&] { return guest.down && guest.ended; });
}

// The guest's descriptor stays; at its other end another host's daemon takes over in the middle of a frame.
TEST_F(GuestChannelTest, AnotherHostInTheMiddleOfAFrame) {
  const auto [guest_fd, wire] = pair();
  const auto [first_wire, first_fd] = pair();
  End guest(io_, guest_fd, GuestChannel::Side::kGuest);
  std::optional<End> first(std::in_place, io_, first_fd, GuestChannel::Side::kHost);
  until([&, wire = wire, first_wire = first_wire] {
    carry(wire, first_wire);
    carry(first_wire, wire);
    return guest.sessions == 1 && first->sessions == 1;
  });
  first->say(expect(3000));
  // Half of it arrives.
  until([&, wire = wire, first_wire = first_wire] { return carry(first_wire, wire, 1000) == 1000; });
  io_.run_for(std::chrono::milliseconds(20));
  first.reset();
  ::close(first_wire);

  const auto [second_wire, second_fd] = pair();
  End second(io_, second_fd, GuestChannel::Side::kHost);
  until([&, wire = wire, second_wire = second_wire] {
    carry(wire, second_wire);
    carry(second_wire, wire);
    return guest.sessions == 2 && second.sessions == 1;
  });
  EXPECT_FALSE(guest.down);
  guest.say("hello");
  second.say("there");
  until([&, wire = wire, second_wire = second_wire] {
    carry(wire, second_wire);
    carry(second_wire, wire);
    return guest.got == "there" && second.got == "hello";
  });
  ::close(wire);
  ::close(second_wire);
}

// The broker is replaced: the host hears that its session is over, and has another.
TEST_F(GuestChannelTest, AnotherBroker) {
  const auto [host_fd, wire] = pair();
  End host(io_, host_fd, GuestChannel::Side::kHost);
  for (int broker = 1; broker <= 2; ++broker) {
    const auto [guest_fd, guest_wire] = pair();
    End guest(io_, guest_fd, GuestChannel::Side::kGuest);
    until([&, wire = wire, guest_wire = guest_wire] {
      carry(wire, guest_wire);
      carry(guest_wire, wire);
      return guest.sessions == 1 && host.sessions == broker;
    });
    guest.say("I am " + std::to_string(broker));
    until([&, wire = wire, guest_wire = guest_wire] {
      carry(guest_wire, wire);
      return host.got == "I am " + std::to_string(broker);
    });
    ::close(guest_wire);
  }
  ::close(wire);
}

TEST_F(GuestChannelTest, ASessionThatIsGivenUpIsFollowedByAnother) {
  const auto [a, b] = pair();
  End guest(io_, a, GuestChannel::Side::kGuest);
  End host(io_, b, GuestChannel::Side::kHost);
  until([&] { return guest.sessions == 1 && host.sessions == 1; });
  host.hang_up();
  until([&] { return guest.sessions == 2 && host.sessions == 2; });
  guest.hang_up();
  until([&] { return guest.sessions == 3 && host.sessions == 3; });
}

}  // namespace
}  // namespace sealift::daemon

// Addresses, taken and handed over. Real sockets on loopback.
#include "examples/kv/server/listener.h"

#include <gtest/gtest.h>

#include <asio/io_context.hpp>
#include <thread>

#include "examples/kv/server/address.h"

namespace kv {
namespace {

using asio::ip::tcp;

const tcp::endpoint kAnyPort{asio::ip::address_v4::loopback(), 0};

TEST(Listener, PortZeroTakesAFreeOne) {
  asio::io_context io;
  Listener listener(io, kAnyPort);
  listener.listen();
  EXPECT_FALSE(listener.shared());
  EXPECT_NE(parse_address(listener.address()).port(), 0);
}

TEST(Listener, AnAddressOfAnotherProgramIsRefusedBeforeAnythingElseHappens) {
  asio::io_context io;
  const tcp::acceptor other(io, kAnyPort);
  try {
    const Listener listener(io, other.local_endpoint());
    FAIL() << "bound";
  } catch (const std::runtime_error& e) {
    EXPECT_NE(std::string(e.what()).find("another program has that address"), std::string::npos) << e.what();
  }
}

TEST(Listener, ASuccessorWaitsBoundAndTakesOverWhenItsPredecessorCloses) {
  asio::io_context io;
  auto first = std::make_unique<Listener>(io, kAnyPort);
  first->listen();
  const tcp::endpoint address = parse_address(first->address());
  Listener second(io, address);
  EXPECT_TRUE(second.shared());
  // Until then every client gets to the first.
  for (int i = 0; i < 8; ++i) {
    tcp::socket client(io);
    client.connect(address);
    const tcp::socket accepted = first->acceptor().accept();
    EXPECT_EQ(accepted.remote_endpoint(), client.local_endpoint());
  }
  EXPECT_THROW(second.listen(std::chrono::milliseconds(30)), std::runtime_error) << "two at one address";
  std::thread closer([&first] { first.reset(); });
  second.listen();
  closer.join();
  EXPECT_FALSE(second.shared());
  tcp::socket client(io);
  client.connect(address);
  EXPECT_EQ(second.acceptor().accept().remote_endpoint(), client.local_endpoint());
}

TEST(Listener, AnAddressIsAnIpAndAPort) {
  EXPECT_EQ(parse_address("127.0.0.1:80").port(), 80);
  EXPECT_TRUE(parse_address("[::1]:80").address().is_v6());
  EXPECT_TRUE(parse_address("localhost:0").address().is_loopback());
  for (const char* bad : {"", ":", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", "127.0.0.1:-1",
                          "127.0.0.1:80 ", "nowhere:80", ":80"}) {
    EXPECT_THROW((void)parse_address(bad), std::runtime_error) << bad;
  }
}

}  // namespace
}  // namespace kv

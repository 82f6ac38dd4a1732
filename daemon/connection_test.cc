#include "daemon/connection.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <asio/io_context.hpp>
#include <asio/local/connect_pair.hpp>
#include <asio/local/stream_protocol.hpp>
#include <asio/write.hpp>
#include <optional>
#include <vector>

namespace sealift::daemon {
namespace {

using Unix = asio::local::stream_protocol;

// One Connection and the bare socket at its other end.
class ConnectionTest : public ::testing::Test {
 protected:
  ConnectionTest() : far_(io_) {}

  std::shared_ptr<Connection> start() {
    Unix::socket near(io_);
    asio::local::connect_pair(near, far_);
    return wrap(std::move(near), &messages_, &down_);
  }

  std::shared_ptr<Connection> wrap(Unix::socket socket, std::vector<wire::Envelope>* messages,
                                   std::optional<std::string>* down) {
    wire::Hello hello;
    hello.set_role(wire::PEER_ROLE_DAEMON);
    Connection::Callbacks callbacks;
    callbacks.on_up = [this](const wire::Hello& theirs) { up_.push_back(theirs); };
    callbacks.on_message = [messages](wire::Envelope& message) { messages->push_back(message); };
    callbacks.on_down = [down](const std::string& why) { *down = why; };
    return Connection::start(Connection::Socket(std::move(socket)), hello, std::move(callbacks));
  }

  void say(const std::string& bytes) { asio::write(far_, asio::buffer(bytes)); }
  void say(const wire::Envelope& message) { say(encode(message).value()); }
  void say_hello(std::uint32_t low = kProtocolMin, std::uint32_t high = kProtocolMax) {
    wire::Envelope hello;
    hello.mutable_hello()->set_version_min(low);
    hello.mutable_hello()->set_version_max(high);
    hello.mutable_hello()->set_role(wire::PEER_ROLE_CLI);
    say(hello);
  }
  void run_until(const std::function<bool()>& done) {
    while (!done() && io_.run_one() > 0) {
    }
  }
  void run_until_down() {
    run_until([this] { return down_.has_value(); });
  }

  asio::io_context io_;
  Unix::socket far_;
  std::vector<wire::Hello> up_;
  std::vector<wire::Envelope> messages_;
  std::optional<std::string> down_;
};

TEST_F(ConnectionTest, ComesUpWithTheFirstMessage) {
  const auto connection = start();
  EXPECT_FALSE(connection->up());
  say_hello();
  run_until([this] { return !up_.empty(); });
  EXPECT_TRUE(connection->up());
  EXPECT_EQ(up_[0].role(), wire::PEER_ROLE_CLI);
}

TEST_F(ConnectionTest, RefusesAnythingElseFirst) {
  const auto connection = start();
  wire::Envelope message;
  message.mutable_ps_request();
  say(message);
  run_until_down();
  EXPECT_EQ(down_, "the first message is no hello");
  EXPECT_TRUE(messages_.empty());
}

TEST_F(ConnectionTest, RefusesAVersionAndSaysSo) {
  const auto connection = start();
  say_hello(kProtocolMax + 1, kProtocolMax + 3);
  run_until_down();
  std::string bytes(4096, '\0');
  bytes.resize(far_.read_some(asio::buffer(bytes)));
  FrameDecoder decoder;
  std::copy(bytes.begin(), bytes.end(), reinterpret_cast<char*>(decoder.space().data()));
  decoder.filled(bytes.size());
  wire::Envelope out;
  ASSERT_EQ(decoder.next(out), FrameStatus::kFrame);
  EXPECT_TRUE(out.has_hello());
  ASSERT_EQ(decoder.next(out), FrameStatus::kFrame);
  EXPECT_EQ(out.failure().kind(), wire::Failure::VERSION);
}

TEST_F(ConnectionTest, GarbageTakesItDown) {
  const auto connection = start();
  say_hello();
  say(std::string(64, '\xff'));
  run_until_down();
  EXPECT_EQ(down_, "frame too large");
}

// All of it comes with one read; what else this thread has to do is done in between.
TEST_F(ConnectionTest, AFloodLetsOthersHaveTheirTurn) {
  const auto connection = start();
  say_hello();
  run_until([this] { return !up_.empty(); });
  constexpr std::size_t kFlood = 1'000;
  wire::Envelope message;
  message.mutable_ps_request();
  std::string flood;
  for (std::size_t i = 0; i < kFlood; ++i) flood += encode(message).value();
  say(flood);
  run_until([this] { return !messages_.empty(); });
  std::size_t served = 0;
  asio::post(io_, [&] { served = messages_.size(); });
  run_until([this] { return messages_.size() == kFlood; });
  EXPECT_GT(served, 0u);
  EXPECT_LT(served, kFlood / 2);
}

TEST_F(ConnectionTest, AReplyToNothingTakesItDown) {
  const auto connection = start();
  say_hello();
  wire::Envelope message;
  message.set_id(99);
  message.set_reply(true);
  say(message);
  run_until_down();
  EXPECT_EQ(down_, "a reply to nothing");
}

TEST_F(ConnectionTest, RequestsGetTheirReplies) {
  const auto connection = start();
  say_hello();
  std::vector<std::uint64_t> order;
  for (std::uint64_t i = 1; i <= 3; ++i) {
    wire::Envelope request;
    request.mutable_ps_request();
    connection->request(request, [&order, i](const wire::Envelope& reply) {
      EXPECT_TRUE(reply.has_ps_reply());
      order.push_back(i);
    });
  }
  for (const std::uint64_t id : {2, 3, 1}) {
    wire::Envelope reply;
    reply.set_id(id);
    reply.set_reply(true);
    reply.mutable_ps_reply();
    say(reply);
  }
  run_until([&] { return order.size() == 3; });
  EXPECT_EQ(order, (std::vector<std::uint64_t>{2, 3, 1}));
}

TEST_F(ConnectionTest, PendingRequestsFailWhenThePeerVanishes) {
  const auto connection = start();
  say_hello();
  wire::Failure::Kind kind = wire::Failure::KIND_UNSPECIFIED;
  wire::Envelope request;
  request.mutable_ps_request();
  connection->request(request, [&](const wire::Envelope& reply) {
    kind = reply.failure().kind();
    EXPECT_FALSE(down_.has_value()) << "replies fail before on_down";
  });
  far_.close();
  run_until_down();
  EXPECT_EQ(kind, wire::Failure::UNREACHABLE);
}

TEST_F(ConnectionTest, ARequestOnADeadConnectionFailsToo) {
  const auto connection = start();
  far_.close();
  run_until_down();
  bool failed = false;
  connection->request(wire::Envelope(), [&](const wire::Envelope& reply) { failed = reply.has_failure(); });
  EXPECT_FALSE(failed) << "not from inside the call";
  io_.restart();
  run_until([&] { return failed; });
  EXPECT_TRUE(failed);
}

TEST_F(ConnectionTest, APeerThatDoesNotReadIsDropped) {
  const auto connection = start();
  say_hello();
  run_until([this] { return !up_.empty(); });
  wire::Envelope big;
  big.mutable_record()->set_record(std::string(1u << 20, 'x'));
  for (int i = 0; i < 70; ++i) connection->notify(big);
  run_until_down();
  EXPECT_EQ(down_, "the peer does not read");
}

TEST_F(ConnectionTest, CloseAfterFlushSendsEverythingFirst) {
  Unix::socket near(io_);
  Unix::socket other(io_);
  asio::local::connect_pair(near, other);
  std::vector<wire::Envelope> got;
  std::optional<std::string> other_down;
  const auto receiver = wrap(std::move(other), &got, &other_down);
  const auto sender = wrap(std::move(near), &messages_, &down_);
  run_until([&] { return up_.size() == 2; });
  wire::Envelope big;
  big.mutable_record()->set_record(std::string(1u << 20, 'x'));
  for (int i = 0; i < 8; ++i) sender->notify(big);
  sender->close_after_flush("done");
  run_until([&] { return other_down.has_value(); });
  EXPECT_EQ(got.size(), 8u);
  EXPECT_EQ(down_, "done");
}

TEST_F(ConnectionTest, ACallbackMayDropTheLastReference) {
  Unix::socket near(io_);
  asio::local::connect_pair(near, far_);
  std::shared_ptr<Connection> connection;
  Connection::Callbacks callbacks;
  callbacks.on_message = [&](wire::Envelope&) {
    connection->close("enough");
    connection.reset();
  };
  callbacks.on_down = [&](const std::string& why) { down_ = why; };
  connection = Connection::start(Connection::Socket(std::move(near)), wire::Hello(), std::move(callbacks));
  say_hello();
  wire::Envelope message;
  message.mutable_ps_request();
  say(message);
  run_until_down();
  EXPECT_EQ(down_, "enough");
}

}  // namespace
}  // namespace sealift::daemon

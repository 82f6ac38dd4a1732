#include "daemon/connection.h"

#include <asio/buffer.hpp>
#include <asio/post.hpp>
#include <asio/write.hpp>
#include <chrono>
#include <utility>

#include "daemon/failure.h"

namespace sealift::daemon {

namespace {

// Flow control keeps streams far below this; who reaches it does not read what it asked for.
constexpr std::size_t kMaxQueuedBytes = 64u << 20;
constexpr std::size_t kMaxGather = 16;
constexpr int kAtOnce = 64;
constexpr std::chrono::seconds kHelloTimeout{10};

}  // namespace

std::shared_ptr<Connection> Connection::start(Socket socket, wire::Hello mine, Callbacks callbacks) {
  mine.set_version_min(kProtocolMin);
  mine.set_version_max(kProtocolMax);
  std::shared_ptr<Connection> self(new Connection(std::move(socket), std::move(mine), std::move(callbacks)));
  wire::Envelope hello;
  *hello.mutable_hello() = self->mine_;
  self->send(hello);
  self->hello_timer_.expires_after(kHelloTimeout);
  self->hello_timer_.async_wait([weak = std::weak_ptr(self)](const std::error_code& error) {
    const auto locked = weak.lock();
    if (!error && locked && !locked->up_) locked->go_down("no first message in time");
  });
  self->read();
  return self;
}

Connection::Connection(Socket socket, wire::Hello mine, Callbacks callbacks)
    : socket_(std::move(socket)),
      hello_timer_(socket_.get_executor()),
      mine_(std::move(mine)),
      callbacks_(std::move(callbacks)) {}

Connection::~Connection() = default;

void Connection::notify(wire::Envelope message) {
  message.set_id(0);
  message.set_reply(false);
  send(message);
}

void Connection::request(wire::Envelope message, ReplyHandler on_reply) {
  if (down_) {
    // Never from inside the call: the caller may be in the middle of changing its own state.
    asio::post(executor(), [on_reply = std::move(on_reply)] {
      wire::Envelope lost;
      *lost.mutable_failure() = make_failure(wire::Failure::UNREACHABLE, "connection lost", "", "");
      on_reply(lost);
    });
    return;
  }
  const std::uint64_t id = next_id_++;
  message.set_id(id);
  message.set_reply(false);
  waiting_.emplace(id, std::move(on_reply));
  send(message);
}

void Connection::reply(std::uint64_t id, wire::Envelope message) {
  if (id == 0) return;
  message.set_id(id);
  message.set_reply(true);
  send(message);
}

void Connection::reply(std::uint64_t id, wire::Failure failure) {
  wire::Envelope message;
  *message.mutable_failure() = std::move(failure);
  reply(id, std::move(message));
}

void Connection::close(std::string why) {
  if (down_) return;
  asio::post(executor(), [self = shared_from_this(), why = std::move(why)] { self->go_down(why); });
}

void Connection::close_after_flush(std::string why) {
  if (down_) return;
  flush_and_close_ = true;
  close_reason_ = std::move(why);
  if (queue_.empty() && writing_.empty()) close(close_reason_);
}

void Connection::send(const wire::Envelope& message) {
  if (down_ || flush_and_close_) return;
  auto bytes = encode(message);
  if (!bytes) {
    close("a message of ours is too large to send");
    return;
  }
  queued_bytes_ += bytes->size();
  queue_.push_back(std::move(*bytes));
  if (queued_bytes_ > kMaxQueuedBytes) {
    close("the peer does not read");
    return;
  }
  if (writing_.empty()) write();
}

void Connection::write() {
  std::vector<asio::const_buffer> buffers;
  while (!queue_.empty() && writing_.size() < kMaxGather) {
    writing_.push_back(std::move(queue_.front()));
    queue_.pop_front();
  }
  buffers.reserve(writing_.size());
  for (const std::string& bytes : writing_) buffers.push_back(asio::buffer(bytes));
  asio::async_write(socket_, buffers, [self = shared_from_this()](const std::error_code& error, std::size_t count) {
    self->writing_.clear();
    self->queued_bytes_ -= count;
    if (self->down_) return;
    if (error) return self->go_down(error.message());
    if (!self->queue_.empty()) return self->write();
    if (self->flush_and_close_) self->go_down(self->close_reason_);
  });
}

void Connection::read() {
  const auto space = decoder_.space();
  socket_.async_read_some(asio::buffer(space.data(), space.size()),
                          [self = shared_from_this()](const std::error_code& error, std::size_t count) {
                            if (self->down_) return;
                            if (error) return self->go_down(error.message());
                            self->decoder_.filled(count);
                            self->take();
                          });
}

// A few at a time: a peer that sends a great many must not keep this thread from the others.
void Connection::take() {
  wire::Envelope message;
  for (int taken = 0; taken < kAtOnce; ++taken) {
    const FrameStatus status = decoder_.next(message);
    if (status == FrameStatus::kNeedMore) return read();
    if (status != FrameStatus::kFrame) return go_down(describe(status));
    dispatch(message);
    if (down_) return;
  }
  asio::post(executor(), [self = shared_from_this()] {
    if (!self->down_) self->take();
  });
}

void Connection::dispatch(wire::Envelope& message) {
  if (!up_) return first_message(message);
  if (!message.reply()) {
    if (callbacks_.on_message) callbacks_.on_message(message);
    return;
  }
  const auto waiting = waiting_.find(message.id());
  if (waiting == waiting_.end()) return go_down("a reply to nothing");
  const ReplyHandler handler = std::move(waiting->second);
  waiting_.erase(waiting);
  handler(message);
}

void Connection::first_message(const wire::Envelope& message) {
  if (!message.has_hello()) return go_down("the first message is no hello");
  if (!negotiate(mine_, message.hello())) {
    const std::string range =
        std::to_string(message.hello().version_min()) + "-" + std::to_string(message.hello().version_max());
    wire::Envelope refusal;
    *refusal.mutable_failure() = make_failure(wire::Failure::VERSION, "protocol version not supported", range,
                                              "upgrade the older of the two programs");
    send(refusal);
    return close_after_flush("protocol version " + range + " not supported");
  }
  up_ = true;
  hello_timer_.cancel();
  if (callbacks_.on_up) callbacks_.on_up(message.hello());
}

void Connection::go_down(const std::string& why) {
  if (down_) return;
  down_ = true;
  const auto self = shared_from_this();  // the callbacks may drop the last reference
  hello_timer_.cancel();
  std::error_code ignored;  // closing: nothing is left to tell anybody
  socket_.close(ignored);
  queue_.clear();
  wire::Envelope lost;
  *lost.mutable_failure() = make_failure(wire::Failure::UNREACHABLE, "connection lost", why, "");
  auto waiting = std::exchange(waiting_, {});
  const Callbacks callbacks = std::exchange(callbacks_, {});
  for (const auto& [id, handler] : waiting) handler(lost);
  if (callbacks.on_down) callbacks.on_down(why);
}

}  // namespace sealift::daemon

#include "daemon/guest_channel.h"

#include <fcntl.h>

#include <asio/buffer.hpp>
#include <asio/local/connect_pair.hpp>
#include <asio/write.hpp>
#include <cstring>
#include <random>
#include <utility>

namespace sealift::daemon {

namespace channel {

namespace {

struct Header {
  std::uint32_t magic, kind;
  std::uint64_t session;
  std::uint32_t length, check;
};
static_assert(sizeof(Header) == 24);

std::uint32_t fnv1a(std::string_view bytes, std::uint32_t hash = 2166136261u) {
  for (const char c : bytes) hash = (hash ^ static_cast<std::uint8_t>(c)) * 16777619u;
  return hash;
}

std::uint32_t check_of(const Header& header, std::string_view payload) {
  const std::string_view head(reinterpret_cast<const char*>(&header), offsetof(Header, check));
  return fnv1a(payload, fnv1a(head));
}

}  // namespace

std::string encode(const Frame& frame) {
  Header header{kMagic, static_cast<std::uint32_t>(frame.kind), frame.session,
                static_cast<std::uint32_t>(frame.payload.size()), 0};
  header.check = check_of(header, frame.payload);
  return std::string(reinterpret_cast<const char*>(&header), sizeof(header)) + frame.payload;
}

std::optional<Frame> Scanner::next() {
  static const std::string kMagicBytes(reinterpret_cast<const char*>(&kMagic), sizeof(kMagic));
  for (;;) {
    const std::size_t at = buffer_.find(kMagicBytes);
    // The magic's first bytes may be the last ones here.
    buffer_.erase(0, at != std::string::npos ? at : buffer_.size() - std::min(buffer_.size(), sizeof(kMagic) - 1));
    Header header;
    if (at == std::string::npos || buffer_.size() < sizeof(header)) return std::nullopt;
    std::memcpy(&header, buffer_.data(), sizeof(header));
    if (header.length <= kMaxPayload) {
      if (buffer_.size() < sizeof(header) + header.length) return std::nullopt;
      Frame frame{static_cast<Kind>(header.kind), header.session, buffer_.substr(sizeof(header), header.length)};
      if (check_of(header, frame.payload) == header.check) {
        buffer_.erase(0, sizeof(header) + header.length);
        return frame;
      }
    }
    buffer_.erase(0, 1);  // it only looked like one, or its end was lost
  }
}

}  // namespace channel

namespace {

using channel::Kind;

constexpr std::chrono::milliseconds kKnock{200};
// A device without a listener cannot be waited for: it reads as ended at once, again and again.
constexpr std::chrono::milliseconds kIdle{20};
constexpr std::size_t kEnoughQueued = 1u << 20;

std::uint64_t random_session() {
  std::random_device device;
  const std::uint64_t session = std::uint64_t{device()} << 32 | device();
  return session == 0 ? 1 : session;
}

}  // namespace

std::shared_ptr<GuestChannel> GuestChannel::start(asio::io_context& io, int fd, Side side, bool lasting,
                                                  Callbacks callbacks) {
  std::shared_ptr<GuestChannel> self(new GuestChannel(io, fd, side, lasting, std::move(callbacks)));
  asio::post(io, [self] {
    if (self->closed_) return;
    self->read();
    self->knock();
  });
  return self;
}

GuestChannel::GuestChannel(asio::io_context& io, int fd, Side side, bool lasting, Callbacks callbacks)
    : io_(io),
      stream_(io, fd),
      side_(side),
      lasting_(lasting),
      callbacks_(std::move(callbacks)),
      knock_timer_(io),
      idle_timer_(io) {
  stream_.non_blocking(true);
  // A program that is started meanwhile would keep the stream open after us.
  ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  if (side_ == Side::kHost) {
    session_ = random_session();
    // Makes up for what the peer may still wait for of a frame that was cut off.
    out_.assign(channel::kMaxPayload + 64, '\0');
  }
}

void GuestChannel::close() {
  if (std::exchange(closed_, true)) return;
  knock_timer_.cancel();
  idle_timer_.cancel();
  end_session();
  std::error_code ignored;  // closing
  stream_.close(ignored);
  callbacks_ = {};
}

void GuestChannel::down() {
  if (closed_) return;
  const auto on_down = std::move(callbacks_.on_down);
  close();
  if (on_down) on_down();
}

// --- The stream ---------------------------------------------------------------------------------------------------

void GuestChannel::read() {
  stream_.async_read_some(asio::buffer(in_), [self = shared_from_this()](const std::error_code& error, std::size_t n) {
    if (self->closed_) return;
    if (error) return self->lasting_ ? self->idle() : self->down();
    self->scanner_.add(std::string_view(self->in_.data(), n));
    while (auto frame = self->scanner_.next()) {
      self->on_frame(std::move(*frame));
      if (self->closed_) return;
    }
    self->read();
  });
}

void GuestChannel::idle() {
  if (pair_) {
    end_session();
    session_ = side_ == Side::kGuest ? 0 : random_session();
    knock();
  }
  idle_timer_.expires_after(kIdle);
  idle_timer_.async_wait([self = shared_from_this()](const std::error_code& error) {
    if (!error && !self->closed_) self->read();
  });
}

void GuestChannel::send(Kind kind, std::uint64_t session, std::string payload) {
  out_ += channel::encode({kind, session, std::move(payload)});
  write();
}

void GuestChannel::write() {
  if (!writing_.empty() || out_.empty()) return;
  writing_.swap(out_);
  asio::async_write(stream_, asio::buffer(writing_),
                    [self = shared_from_this()](const std::error_code& error, std::size_t) {
                      if (self->closed_) return;
                      self->writing_.clear();
                      // Of a device: nobody is there, so what it was does not matter any more. The next knock tries
                      // again.
                      if (error) return self->lasting_ ? self->out_.clear() : self->down();
                      self->write();
                      if (self->out_.size() < kEnoughQueued && std::exchange(self->paused_, false)) self->read_pair();
                    });
}

// --- Sessions -----------------------------------------------------------------------------------------------------

void GuestChannel::knock() {
  const bool done = side_ == Side::kGuest ? session_ != 0 : accepted_;
  knock_timer_.cancel();
  if (done || closed_) return;
  // Not again while the last one has not left.
  if (writing_.empty()) send(side_ == Side::kGuest ? Kind::kWho : Kind::kOpen, session_);
  knock_later();
}

void GuestChannel::on_frame(channel::Frame frame) {
  if (frame.kind == Kind::kData) {
    if (frame.session != session_ || !pair_) return;
    to_pair_ += frame.payload;
    return write_pair();
  }
  side_ == Side::kGuest ? guest_frame(std::move(frame)) : host_frame(std::move(frame));
}

void GuestChannel::guest_frame(channel::Frame frame) {
  if (frame.kind != Kind::kOpen || frame.session == 0) return;
  if (frame.session != session_) {
    out_.clear();  // of the session before
    open_session(frame.session);
  }
  send(Kind::kAccept, session_);
}

void GuestChannel::host_frame(channel::Frame frame) {
  if (frame.kind == Kind::kAccept && frame.session == session_ && !accepted_) {
    accepted_ = true;
    return open_session(session_);
  }
  if (frame.kind != Kind::kWho || !accepted_) return;
  // Another broker, or the same one anew: what was said before is forgotten.
  end_session();
  session_ = random_session();
  knock_later();
}

// A guest that ends its sessions as fast as they begin shall not keep its host busy.
void GuestChannel::knock_later() {
  knock_timer_.expires_after(kKnock);
  knock_timer_.async_wait([self = shared_from_this()](const std::error_code& error) {
    if (!error) self->knock();
  });
}

void GuestChannel::open_session(std::uint64_t session) {
  end_session();
  session_ = session;
  accepted_ = true;
  pair_ = std::make_shared<asio::local::stream_protocol::socket>(io_);
  asio::local::stream_protocol::socket theirs(io_);
  asio::local::connect_pair(*pair_, theirs);
  read_pair();
  callbacks_.on_session(Connection::Socket(std::move(theirs)));
}

void GuestChannel::end_session() {
  accepted_ = false;
  paused_ = false;
  to_pair_.clear();
  if (const auto pair = std::exchange(pair_, nullptr)) {
    std::error_code ignored;  // the other end hears of it
    pair->close(ignored);
  }
}

void GuestChannel::read_pair() {
  const auto pair = pair_;
  if (!pair) return;
  pair->async_read_some(asio::buffer(from_pair_),
                        [self = shared_from_this(), pair](const std::error_code& error, std::size_t n) {
                          if (self->closed_ || self->pair_ != pair) return;
                          if (error) {  // whoever had the socket gave it up: a new session, then
                            self->end_session();
                            self->session_ = self->side_ == Side::kGuest ? 0 : random_session();
                            return self->side_ == Side::kGuest ? self->knock() : self->knock_later();
                          }
                          self->send(Kind::kData, self->session_, std::string(self->from_pair_.data(), n));
                          if (self->out_.size() < kEnoughQueued) return self->read_pair();
                          self->paused_ = true;
                        });
}

void GuestChannel::write_pair() {
  if (!writing_pair_.empty() || to_pair_.empty() || !pair_) return;
  writing_pair_.swap(to_pair_);
  asio::async_write(*pair_, asio::buffer(writing_pair_),
                    [self = shared_from_this(), pair = pair_](const std::error_code&, std::size_t) {
                      self->writing_pair_.clear();
                      if (!self->closed_) self->write_pair();
                    });
}

}  // namespace sealift::daemon

#include "tests/vm/lying_broker.h"

#include <sys/socket.h>
#include <unistd.h>

#include <asio/buffer.hpp>
#include <asio/post.hpp>
#include <asio/write.hpp>
#include <optional>
#include <utility>

#include "daemon/frame.h"

namespace sealift::vm_test {

namespace {

using daemon::GuestChannel;
using Protocol = asio::local::stream_protocol;

// Above all that a broker counts to.
constexpr std::uint64_t kOwnIds = std::uint64_t{1} << 40;
constexpr std::size_t kKept = 100'000;

}  // namespace

// One session of one of the two channels. What comes before both are there waits.
struct LyingBroker::Session {
  Session(bool of_host, daemon::Connection::Socket given) : host(of_host), socket(std::move(given)) {}
  const bool host;
  daemon::Connection::Socket socket;
  daemon::FrameDecoder decoder;
  bool paired = false;
  std::vector<wire::Envelope> early;
  std::string out, writing;
};

LyingBroker::LyingBroker(const std::string& path, std::string to)
    : to_(std::move(to)), acceptor_(io_, Protocol::endpoint(path)), next_id_(kOwnIds) {
  accept();
  thread_ = std::thread([this] { io_.run(); });
}

LyingBroker::~LyingBroker() {
  asio::post(io_, [this] {
    std::error_code ignored;
    acceptor_.close(ignored);
    drop();
    io_.stop();
  });
  thread_.join();
}

void LyingBroker::when_guest_speaks(Hook hook) {
  const std::lock_guard lock(mutex_);
  guest_speaks_ = std::move(hook);
}

void LyingBroker::when_host_speaks(Hook hook) {
  const std::lock_guard lock(mutex_);
  host_speaks_ = std::move(hook);
}

std::vector<wire::Envelope> LyingBroker::answers() const {
  const std::lock_guard lock(mutex_);
  return answers_;
}

std::vector<wire::Envelope> LyingBroker::heard_of_guest() const {
  const std::lock_guard lock(mutex_);
  return heard_;
}

void LyingBroker::forget() {
  const std::lock_guard lock(mutex_);
  answers_.clear();
  heard_.clear();
}

void LyingBroker::say(wire::Envelope message) {
  if (auto bytes = daemon::encode(message)) say_bytes(std::move(*bytes));
}

void LyingBroker::ask(wire::Envelope message) {
  asio::post(io_, [this, message = std::move(message)]() mutable {
    message.set_id(next_id_++);
    message.set_reply(false);
    if (host_) write(host_, daemon::encode(message).value_or(""));
  });
}

void LyingBroker::say_bytes(std::string bytes) {
  asio::post(io_, [this, bytes = std::move(bytes)]() mutable {
    if (host_) write(host_, std::move(bytes));
  });
}

void LyingBroker::write_to_channel(const std::string& bytes) {
  asio::post(io_, [this, bytes] {
    // What does not fit is cut off: it is garbage anyway.
    if (host_fd_ >= 0) (void)::send(host_fd_, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  });
}

// --- Channels and sessions ----------------------------------------------------------------------------------------

void LyingBroker::accept() {
  acceptor_.async_accept([this](const std::error_code& error, Protocol::socket socket) {
    if (error) return;
    drop();
    Protocol::socket guest(io_);
    std::error_code failed;
    guest.connect(Protocol::endpoint(to_), failed);
    if (!failed) {
      host_fd_ = ::dup(socket.native_handle());
      const auto callbacks = [this](bool host) {
        GuestChannel::Callbacks on;
        on.on_session = [this, host](daemon::Connection::Socket session) { begin(host, std::move(session)); };
        on.on_down = [this] { drop(); };
        return on;
      };
      host_channel_ = GuestChannel::start(io_, socket.release(), GuestChannel::Side::kGuest, false, callbacks(true));
      guest_channel_ = GuestChannel::start(io_, guest.release(), GuestChannel::Side::kHost, false, callbacks(false));
    }
    accept();
  });
}

void LyingBroker::drop() {
  for (Channel* channel : {&host_channel_, &guest_channel_}) {
    if (const auto each = std::exchange(*channel, nullptr)) each->close();
  }
  if (host_fd_ >= 0) ::close(std::exchange(host_fd_, -1));
  for (auto* session : {&host_, &guest_}) {
    if (const auto each = std::exchange(*session, nullptr)) each->socket.close();
  }
}

// A session of one side belongs to one of the other: a new one asks for a new one there.
void LyingBroker::begin(bool host, daemon::Connection::Socket socket) {
  if (host) ++sessions_;
  auto& mine = host ? host_ : guest_;
  auto& other = host ? guest_ : host_;
  if (mine) mine->socket.close();
  mine = std::make_shared<Session>(host, std::move(socket));
  if (other && other->paired) std::exchange(other, nullptr)->socket.close();
  read(mine);
  pair();
}

void LyingBroker::end(const std::shared_ptr<Session>& session) {
  auto& mine = session->host ? host_ : guest_;
  auto& other = session->host ? guest_ : host_;
  if (mine != session) return;
  mine->socket.close();
  mine.reset();
  if (session->paired && other) std::exchange(other, nullptr)->socket.close();
}

void LyingBroker::pair() {
  if (!host_ || !guest_) return;
  host_->paired = guest_->paired = true;
  for (const auto& session : {host_, guest_}) {
    for (wire::Envelope& message : std::exchange(session->early, {})) pass(session->host, std::move(message));
  }
}

void LyingBroker::read(const std::shared_ptr<Session>& session) {
  const auto space = session->decoder.space();
  session->socket.async_read_some(
      asio::buffer(space.data(), space.size()), [this, session](const std::error_code& error, std::size_t count) {
        if (error) return end(session);
        session->decoder.filled(count);
        wire::Envelope message;
        while (session->decoder.next(message) == daemon::FrameStatus::kFrame) {
          session->paired ? pass(session->host, message) : session->early.push_back(message);
        }
        if (session == (session->host ? host_ : guest_)) read(session);
      });
}

void LyingBroker::pass(bool from_host, wire::Envelope message) {
  Hook hook;
  {
    const std::lock_guard lock(mutex_);
    if (from_host && message.reply() && message.id() >= kOwnIds) {
      if (answers_.size() < kKept) answers_.push_back(std::move(message));
      return;
    }
    if (!from_host && heard_.size() < kKept) heard_.push_back(message);
    hook = from_host ? host_speaks_ : guest_speaks_;
  }
  if (hook && !hook(message)) return;
  const auto to = from_host ? guest_ : host_;
  if (to) write(to, daemon::encode(message).value_or(""));
}

void LyingBroker::write(const std::shared_ptr<Session>& session, std::string bytes) {
  session->out += bytes;
  if (!session->writing.empty() || session->out.empty()) return;
  session->writing.swap(session->out);
  asio::async_write(session->socket, asio::buffer(session->writing),
                    [this, session](const std::error_code& error, std::size_t) {
                      session->writing.clear();
                      if (!error) write(session, "");
                    });
}

}  // namespace sealift::vm_test

// GuestChannel: one end of the stream between a guest's broker and its host's sealiftd, made into sessions.
//
// A virtio-serial port has no connections: when a VM moves, the broker's descriptor stays open and another host's
// daemon is at the other end, in the middle of whatever was being said. So bytes travel in small frames with a checksum
// and the number of a session, which the host's end opens. A frame of another session is dropped; bytes that are no
// frame are skipped until one begins. Each session is handed out as a fresh socket, on which daemon/connection.h does
// the rest; when a session ends, its socket is closed. Over TCP and Unix sockets the same is used, so that there is one
// way.
//
// Frame: u32 magic ‖ u32 kind ‖ u64 session ‖ u32 length ‖ u32 FNV-1a of all the rest ‖ payload of `length` bytes.
// It detects accidents, not attacks: whoever can write to the channel is the host or the guest, and neither is trusted.
//
// Threads: the io_context's. Keeps itself alive until closed or down; callbacks come from the io_context.
#pragma once

#include <array>
#include <asio/io_context.hpp>
#include <asio/local/stream_protocol.hpp>
#include <asio/posix/stream_descriptor.hpp>
#include <asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "daemon/connection.h"

namespace sealift::daemon {

namespace channel {

inline constexpr std::uint32_t kMagic = 0x43474c53;  // "SLGC"
inline constexpr std::size_t kMaxPayload = 4000;     // small: half a frame in a lost session is soon made up for

enum class Kind : std::uint32_t {
  kWho = 1,     // guest: no session here yet
  kOpen = 2,    // host: this is our session
  kAccept = 3,  // guest: it is
  kData = 4,
};
struct Frame {
  Kind kind{};
  std::uint64_t session = 0;
  std::string payload;
};

[[nodiscard]] std::string encode(const Frame& frame);

// Finds frames in a stream, whatever is between them.
class Scanner {
 public:
  void add(std::string_view bytes) { buffer_.append(bytes); }
  [[nodiscard]] std::optional<Frame> next();

 private:
  std::string buffer_;
};

}  // namespace channel

class GuestChannel : public std::enable_shared_from_this<GuestChannel> {
 public:
  enum class Side { kGuest, kHost };
  struct Callbacks {
    std::function<void(Connection::Socket)> on_session;  // its other end closes when the session ends
    std::function<void()> on_down;                       // the stream has ended; once, not after close()
  };

  // Takes a stream descriptor: a socket, or a character device. A device on which nobody listens reads as ended; with
  // `lasting` that is waited for instead of reported.
  static std::shared_ptr<GuestChannel> start(asio::io_context& io, int fd, Side side, bool lasting,
                                             Callbacks callbacks);
  void close();

 private:
  GuestChannel(asio::io_context& io, int fd, Side side, bool lasting, Callbacks callbacks);
  void read();
  void on_frame(channel::Frame frame);
  void guest_frame(channel::Frame frame);
  void host_frame(channel::Frame frame);
  void knock();  // again and again, until there is a session
  void knock_later();
  void open_session(std::uint64_t session);
  void end_session();
  void read_pair();
  void write_pair();
  void send(channel::Kind kind, std::uint64_t session, std::string payload = {});
  void write();
  void idle();
  void down();

  asio::io_context& io_;
  asio::posix::stream_descriptor stream_;
  const Side side_;
  const bool lasting_;
  Callbacks callbacks_;
  asio::steady_timer knock_timer_, idle_timer_;
  channel::Scanner scanner_;
  std::array<char, 16384> in_{};
  std::array<char, channel::kMaxPayload> from_pair_{};
  std::string out_, writing_;
  bool paused_ = false;  // read_pair waits for out_ to drain
  std::uint64_t session_ = 0;
  bool accepted_ = false;
  std::shared_ptr<asio::local::stream_protocol::socket> pair_;  // our end
  std::string to_pair_, writing_pair_;
  bool closed_ = false;
};

}  // namespace sealift::daemon

// LyingBroker: what a host's sealiftd hears of a guest whose broker lies.
//
// It stands between QEMU's end of the broker's channel and the daemon, speaks both ends' protocol
// (daemon/guest_channel.h, daemon/frame.h), and lets a test change, swallow or invent messages. The guest's own broker
// stays honest, so that after the lie there is a truth to look at.
//
// Threads: its own; the hooks run on it. Everything may be called from any thread.
#pragma once

#include <asio/io_context.hpp>
#include <asio/local/stream_protocol.hpp>
#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "daemon/connection.h"
#include "daemon/guest_channel.h"

namespace sealift::vm_test {

class LyingBroker {
 public:
  // May change the message; false: it is swallowed.
  using Hook = std::function<bool(wire::Envelope&)>;

  // Serves one connection at a time at `path`, for the channel at `to`.
  LyingBroker(const std::string& path, std::string to);
  ~LyingBroker();
  LyingBroker(const LyingBroker&) = delete;
  LyingBroker& operator=(const LyingBroker&) = delete;

  void when_guest_speaks(Hook hook);  // to the host
  void when_host_speaks(Hook hook);
  // In the guest's name. A request of the liar's own has an id of its own: what comes back is kept here.
  void say(wire::Envelope message);
  void ask(wire::Envelope message);
  [[nodiscard]] std::vector<wire::Envelope> answers() const;
  void say_bytes(std::string bytes);                // within the session, between two messages
  void write_to_channel(const std::string& bytes);  // below sessions

  [[nodiscard]] std::vector<wire::Envelope> heard_of_guest() const;  // all that it has said, since `forget`
  void forget();
  [[nodiscard]] unsigned sessions() const { return sessions_; }  // that the host has begun

 private:
  using Channel = std::shared_ptr<daemon::GuestChannel>;
  struct Session;
  void accept();
  void begin(bool host, daemon::Connection::Socket socket);
  void end(const std::shared_ptr<Session>& session);
  void drop();
  void pair();
  void read(const std::shared_ptr<Session>& session);
  void pass(bool from_host, wire::Envelope message);
  void write(const std::shared_ptr<Session>& session, std::string bytes);

  const std::string to_;
  asio::io_context io_;
  asio::local::stream_protocol::acceptor acceptor_;
  Channel host_channel_, guest_channel_;
  int host_fd_ = -1;
  std::shared_ptr<Session> host_, guest_;
  std::uint64_t next_id_;

  mutable std::mutex mutex_;
  Hook guest_speaks_, host_speaks_;
  std::vector<wire::Envelope> answers_, heard_;
  std::atomic<unsigned> sessions_{0};
  std::thread thread_;
};

}  // namespace sealift::vm_test

// GuestPort's state, behind daemon/guest_port.h.
#pragma once

#include <asio/ip/tcp.hpp>
#include <asio/local/stream_protocol.hpp>
#include <asio/steady_timer.hpp>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "daemon/guest_channel.h"
#include "daemon/guest_move.h"
#include "daemon/guest_port.h"
#include "daemon/guest_session.h"

namespace sealift::daemon {

// Everything that is known of one guest, whether it is connected or not.
struct GuestState {
  explicit GuestState(asio::io_context& io) : redial(io), deadline(io) {}

  Guest known;
  std::string channel;  // attached: where to connect to; empty: it comes by itself
  asio::steady_timer redial;
  std::shared_ptr<GuestChannel> stream;
  std::shared_ptr<GuestSession> session;
  bool reported = false;  // its first report is here
  std::shared_ptr<std::set<std::uint64_t>> agent_sessions_left = std::make_shared<std::set<std::uint64_t>>();

  // The operation under way.
  std::uint64_t operation = 0;
  GuestPort::OnEvent on_event;
  GuestPort::Done done;
  asio::steady_timer deadline;

  std::unique_ptr<GuestMove> move;
};

struct GuestPort::Impl : public std::enable_shared_from_this<GuestPort::Impl> {
  explicit Impl(const GuestParts& given) : parts(given), offers(given.agent) {}

  // Channels.
  void accept(std::size_t which);
  void serve(int fd, const std::string& attached_as);
  void dial(const std::string& name);
  void dial_later(const std::string& name);
  void session_up(const std::shared_ptr<GuestSession>& session, const std::shared_ptr<GuestChannel>& stream,
                  const std::string& name);
  void session_down(const GuestSession* session, const std::string& name, const std::string& why);
  void report(const std::string& name, const wire::GuestReport& report);
  void drop(GuestState& guest, const std::string& why);

  // Operations.
  [[nodiscard]] GuestState* find(const std::string& name) const;
  // Null, with `done` told, if this cannot begin now.
  GuestState* begin(const std::string& name, const std::string& what, std::chrono::milliseconds limit, OnEvent on_event,
                    Done done);
  void finish(const std::string& name, std::uint64_t operation, wire::Failure failure);
  void command(const std::string& name, std::uint64_t operation, const wire::GuestCommand& command,
               std::function<void(const wire::Failure&)> then);
  void prepare(const std::string& name, const std::string& target, Done done);
  void confirm_tickets(const std::string& name, std::uint64_t operation, bool force);
  void undo(const std::string& name, std::uint64_t operation, const wire::Failure& why);
  void offer_new(GuestState& guest) const;
  std::unique_ptr<GuestMove> new_move(const HostPort& where, GuestJournal journal);
  void end_move(GuestState& guest);  // its attempts were taken back
  void keep_move(GuestState& guest);
  void sweep_moves();

  struct Listener {
    std::unique_ptr<asio::local::stream_protocol::acceptor> local;
    std::unique_ptr<asio::ip::tcp::acceptor> tcp;
    std::string path;
  };

  const GuestParts parts;
  OfferBook offers;
  std::vector<Listener> listeners;
  std::map<std::string, std::unique_ptr<GuestState>> guests;
  std::vector<std::unique_ptr<GuestMove>> moves;  // earlier ones, until each enclave runs
  std::set<std::shared_ptr<GuestChannel>> nameless;
  std::set<Watcher*> watchers;
  bool stopping = false;
};

}  // namespace sealift::daemon

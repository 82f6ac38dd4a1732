// Broker: `sealiftd --guest`, one in each virtual machine. To the guest's programs it is a sealiftd; what a sealiftd
// would ask of its agent it asks of the host's, over one channel that survives the guest's moves
// (daemon/guest_channel.h).
//
// The host tells it what to do with the guest's enclaves (wire::GuestCommand), one operation at a time. Neither is
// trusted by the other for more than that: the host can refuse to help, and the broker can lose its own guest's
// enclaves.
//
// Threads: everything happens on the thread that runs the io_context.
#pragma once

#include <asio/io_context.hpp>
#include <asio/local/stream_protocol.hpp>
#include <asio/steady_timer.hpp>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "daemon/broker_enclave.h"
#include "daemon/guest_channel.h"
#include "daemon/guest_memory.h"
#include "daemon/registry.h"

namespace sealift::daemon {

struct BrokerOptions {
  std::string name;     // of the guest, where the host does not know it better
  std::string socket;   // for the guest's programs
  std::string channel;  // a virtio-serial device, "unix:PATH" or the path of a socket, or HOST:PORT
  std::uint32_t cpus = 1;
  std::chrono::milliseconds retry{200};
};

class Broker : private BrokerEnclave::Host {
 public:
  // Throws std::system_error (a socket cannot be had; the text names it) or std::invalid_argument.
  Broker(asio::io_context& io, BrokerOptions options);
  ~Broker() override;
  Broker(const Broker&) = delete;
  Broker& operator=(const Broker&) = delete;

  void start();
  // Closes every socket: enclaves that have not committed go on by themselves.
  void stop();

 private:
  using EnclavePtr = std::shared_ptr<BrokerEnclave>;
  using Step = std::function<void(BrokerEnclave&, BrokerEnclave::Done)>;

  // The guest's programs and people.
  void accept();
  void welcome(Connection::Socket socket, std::uint32_t pid);
  void process_message(const std::shared_ptr<Connection>& from, std::uint32_t pid, wire::Envelope& message);
  void process_register(const std::shared_ptr<Connection>& from, std::uint32_t pid, const wire::Envelope& message);
  void prune();
  void cli_message(const std::shared_ptr<Connection>& from, const wire::Envelope& message);

  // The host.
  void open_channel();
  void channel_failed(const std::string& why);
  void begin_session(Connection::Socket socket);
  void session_down(const std::string& why);
  void host_message(wire::Envelope& message);
  void agent_info(const wire::AgentInfo& info);
  [[nodiscard]] wire::GuestReport whole_report();
  void watch_memory();

  // broker_operations.cc
  void command(std::uint64_t request, const wire::GuestCommand& command);
  void begin(std::uint64_t request);
  void finish(wire::Failure failure);
  void drop_operation();
  void prepare();
  void checkpoint(const wire::GuestCommand& command);
  void commit_held();
  void abort();
  void resume(std::chrono::milliseconds patience);
  void refresh();
  // `step` for each, `limit` at once; then `done`, unless the operation was dropped.
  void for_all(std::vector<EnclavePtr> enclaves, std::size_t limit, Step step, std::function<void()> done);
  void find_lost(std::function<void()> done);
  [[nodiscard]] std::vector<EnclavePtr> in_state(std::initializer_list<BrokerEnclave::Row::State> states) const;
  // The first of these enclaves that is still there and in none of the states, as a failure; none if there is none.
  // An operation answers for the enclaves that it began with: one that was lost in an earlier move, say, is not its
  // fault.
  [[nodiscard]] wire::Failure unless_all(const std::vector<EnclavePtr>& enclaves,
                                         std::initializer_list<BrokerEnclave::Row::State> states,
                                         const std::string& what) const;

  // BrokerEnclave::Host
  void agent_request(wire::Envelope message, Connection::ReplyHandler on_reply) override;
  void agent_notify(wire::Envelope message) override;
  [[nodiscard]] std::string agent_hello() const override { return agent_.hello(); }
  void enclave_changed(BrokerEnclave& enclave) override;
  void want_turn(BrokerEnclave& enclave) override;
  void turn_over() override;
  void give_turns();
  [[nodiscard]] std::size_t at_once() const;

  asio::io_context& io_;
  const BrokerOptions options_;
  Registry registry_;
  asio::local::stream_protocol::acceptor acceptor_;
  asio::steady_timer retry_timer_, patience_timer_, memory_timer_;
  std::set<std::shared_ptr<Connection>> locals_;
  std::map<std::uint64_t, EnclavePtr> enclaves_;
  std::uint64_t next_id_ = 1;

  std::shared_ptr<GuestChannel> channel_;
  std::shared_ptr<Connection> host_;
  wire::AgentInfo agent_;
  std::string last_complaint_;

  std::deque<std::weak_ptr<BrokerEnclave>> turns_;  // that wait for one
  std::size_t working_ = 0;                         // that have one

  std::uint64_t operation_ = 0;  // counts; what belongs to an older one does nothing
  std::uint64_t request_ = 0;    // of the operation under way; 0: none
  bool stopping_ = false;

  GuestMemory memory_ = GuestMemory::of_this_kernel();
};

}  // namespace sealift::daemon

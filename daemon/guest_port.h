// GuestPort: what the host's sealiftd can do with the enclaves inside virtual machines on this host.
//
// In each guest a broker (`sealiftd --guest`) knows the enclaves and moves them; it reaches this daemon over one
// channel (daemon/guest_channel.h) and is trusted with nothing: it may lie, stall or die, and what it then loses is its
// own guest's. This class keeps the channels, passes the guests' messages on to this machine's agent (reports of a
// guest's enclaves verify there, as both are on one machine), and tells brokers what to do.
//
// A move, as the orchestrator drives it:
//   source host:  prepare (before or during pre-copy; enclaves run on) → checkpoint (enclaves stop, their records lie
//   in
//                 guest memory, this machine's agent holds their tickets) → the hypervisor's switchover
//   target host:  attach the guest's channel, wait for guest_up, resume (enclaves are rebuilt in place and go on)
//   or, if the switchover failed: resume on the source host.
// `abort` undoes prepare, and a checkpoint that has not committed anything yet. After a checkpoint that committed, only
// `resume` makes the enclaves run again, on whichever host the guest then is.
//
// Threads: the io_context's, callbacks included. No callback comes from inside the call that takes it. An operation
// that is asked of a guest which is doing another, or which is not connected, fails at once (BUSY, UNREACHABLE). If the
// channel is lost during one, its Done hears UNREACHABLE with what is known; the broker by itself opens the gates of
// all enclaves that have not committed, keeps the others, and tells the truth at the next guest_up.
#pragma once

#include <asio/io_context.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "daemon/failure.h"
#include "daemon/wire.pb.h"
#include "migration/errc.h"

namespace sealift::daemon {

class AgentClient;
class Peer;
struct HostPort;
struct Options;

// What it needs of the daemon; all must outlive it.
struct GuestParts {
  asio::io_context& io;
  const Options& options;
  AgentClient& agent;
  std::function<std::shared_ptr<Peer>(const HostPort&)> peer_for;
};

// One enclave of a guest, as its broker says.
struct GuestEnclave {
  enum class State {
    kRunning,     // nothing is under way
    kPrepared,    // runs; both agents hold its attempt's key
    kHeld,        // quiescent, its records lie in guest memory; can still be aborted
    kCommitted,   // destroyed, its ticket is with the agent of the host that it was on; waits for `resume`
    kUnticketed,  // destroyed, but its ticket has not reached that agent yet: do not switch over; it is offered again
    kResuming,    // is being rebuilt here
    kLost,        // its EPC went without a checkpoint, or another instance was granted: it will not run again
  };
  std::uint64_t id = 0;  // the broker's number, the same for the enclave's life and on every host
  std::string name;
  std::uint32_t pid = 0;  // in the guest
  std::string lineage;    // 16 bytes
  std::uint64_t epoch = 0;
  std::string mrenclave;        // 32 bytes
  std::uint64_t pages = 0;      // in use, of 4096 bytes
  std::uint64_t epc_bytes = 0;  // that building it takes, SECS included
  std::uint64_t records = 0;    // bytes of records in guest memory; 0 unless held or committed
  State state = State::kRunning;
  std::string attempt;     // 16 bytes, once prepared
  Errc error = Errc::kOk;  // of the last step that failed
  std::string text;        // and what it was, one line
  std::uint32_t gate = 0;  // abi::GateState, as last known
  std::uint32_t threads = 0;
  std::string image;
  // Of the last checkpoint and resume, by the guest's clock (CLOCK_MONOTONIC, ms since the guest's start).
  double gate_closed_ms = 0, held_ms = 0, committed_ms = 0, rebuilt_ms = 0, gate_opened_ms = 0;
  [[nodiscard]] double downtime_ms() const {
    return gate_opened_ms > gate_closed_ms ? gate_opened_ms - gate_closed_ms : 0;
  }
};
[[nodiscard]] const char* name_of(GuestEnclave::State state) noexcept;

struct Guest {
  std::string name;
  bool connected = false;
  std::string operation;  // that is under way: "prepare", "checkpoint", "abort", "resume"; empty: none
  std::uint32_t cpus = 0;
  std::uint64_t untouched_bytes = 0;  // of its RAM: zeros, as it thinks
  std::vector<GuestEnclave> enclaves;
  [[nodiscard]] std::uint64_t epc_bytes() const;  // all of them together
  // That the last checkpoint took, of those that run: all their records, and all their commits. 0: none has one behind
  // it.
  [[nodiscard]] double checkpoint_ms() const;
  [[nodiscard]] bool all(GuestEnclave::State state) const;
};

struct GuestResult {
  wire::Failure failure;  // KIND_UNSPECIFIED: the operation did what it is for, for every enclave
  Guest guest;            // afterwards; each enclave has its own state and error
  [[nodiscard]] bool ok() const { return failure.kind() == wire::Failure::KIND_UNSPECIFIED; }
};

struct CheckpointOptions {
  // How long an enclave may take to come to rest. One that does not is let go on (Errc::kNotQuiescent).
  std::chrono::milliseconds quiesce{5'000};
  // What if some do not come to rest, or refuse: false: nothing commits, all gates open again, the result is a failure.
  // True: the others commit; those that are left behind run on here, and are lost if the VM moves.
  bool force = false;
};

class GuestPort {
 public:
  using Done = std::function<void(const GuestResult&)>;
  using OnEvent = std::function<void(const GuestEnclave&)>;  // an enclave has changed its state

  class Watcher {
   public:
    virtual ~Watcher() = default;
    virtual void guest_up(const std::string& guest) = 0;  // its first report is here
    virtual void guest_down(const std::string& guest) = 0;
  };

  explicit GuestPort(const GuestParts& parts);
  ~GuestPort();
  GuestPort(const GuestPort&) = delete;
  GuestPort& operator=(const GuestPort&) = delete;

  // Goes on with the moves that an earlier life of this daemon had begun (daemon/guest_journal.h): the keys of their
  // attempts are offered again. Does nothing else with guests; who wants them to run here asks for that.
  void recover();
  // Guests come to `channel` ("unix:PATH", a path, or "HOST:PORT") and say their names themselves. A name that is
  // connected already is refused. Throws std::system_error or std::invalid_argument.
  void listen(const std::string& channel);
  [[nodiscard]] std::vector<std::string> listen_addresses() const;  // where it really listens
  // Connects to `channel`, the host's end of a guest's virtio-serial port (QEMU: -chardev socket,server=on), and again
  // whenever that is lost, until `detach`. The guest is called `name` here, whatever its broker says. Attaching a known
  // name elsewhere moves it.
  void attach(const std::string& name, const std::string& channel);
  void detach(const std::string& name);
  void stop();

  // As last reported. `refresh` asks first, and calls `done` at the latest after half a second.
  [[nodiscard]] std::vector<Guest> guests() const;
  [[nodiscard]] std::optional<Guest> guest(const std::string& name) const;
  void refresh(const std::string& name, std::function<void()> done);

  // For the host that they left: which of these run in this host's guests, an epoch or more later, or
  // never will again.
  [[nodiscard]] wire::GuestTold running(const wire::GuestAsk& ask) const;

  // Brings the link to `target` (HOST:PORT of its sealiftd) up, lets every running enclave and this machine's agent
  // attest to each other, and gives each attempt's key to the target's agent, which is judged by each enclave's policy.
  // Everything runs on. What fails is reported per enclave, and all is undone: nothing stays prepared. An empty
  // `target` prepares for a resume on this host alone. Afterwards the link is kept up, and keys are offered again if it
  // breaks or this daemon is restarted, until each enclave runs or `abort`.
  void prepare(const std::string& guest, const std::string& target, Done done);
  // Needs `prepare`; enclaves that were opened since are prepared on the way. All are brought to rest and sealed into
  // guest memory, several at a time by the guest's CPUs; when all are, they commit.
  void checkpoint(const std::string& guest, const CheckpointOptions& options, OnEvent on_event, Done done);
  // Possible during prepare and checkpoint as well, whose Done then hears CANCELLED. Enclaves that have committed by
  // then stay so: the failure says BUSY, and `resume` is what helps.
  void abort(const std::string& guest, Done done);
  // Rebuilds every committed enclave where it was, on the machine the guest runs on now. Each is tried again until it
  // runs, is refused for good, or `patience` is over (it then stays committed; resume may be asked again).
  // Enclaves that run are left alone; a guest without any committed enclave is a success.
  void resume(const std::string& guest, std::chrono::milliseconds patience, OnEvent on_event, Done done);

  void watch(Watcher* watcher);
  void unwatch(Watcher* watcher);

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace sealift::daemon

// EnclaveWorker: performs, in order and beside the link's thread, what the daemon asks of one enclave.
//
// Threads: every method is called on the link's thread; the ControlPort is called by a job of the worker's, one at a
// time, but for status().
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "daemon/connection.h"
#include "host/link/control_port.h"
#include "host/link/daemon_link.h"
#include "host/link/held_records.h"
#include "host/link/job_threads.h"

namespace sealift::host {

class EnclaveWorker {
 public:
  using Send = std::function<void(std::function<void()>)>;  // runs something on the link's thread

  // `threads` outlives it.
  EnclaveWorker(JobThreads& threads, std::uint64_t id, EnclaveInfo info, ControlPort& port, std::string adopt_token,
                Send on_link_thread);
  // Waits for the call that is under way; drops what is queued.
  ~EnclaveWorker();
  EnclaveWorker(const EnclaveWorker&) = delete;
  EnclaveWorker& operator=(const EnclaveWorker&) = delete;

  [[nodiscard]] wire::Register registration() const;
  // A message for this enclave from the daemon at the other end of `from`.
  void handle(const std::shared_ptr<daemon::Connection>& from, wire::Envelope& message);
  void connection_lost();

 private:
  using Peer = std::weak_ptr<daemon::Connection>;
  // What must happen to the enclave if the daemon goes.
  enum class Part { kNone, kSource, kCommitted, kTarget, kRestored };

  void post(JobThreads::Job job);
  void control(const Peer& from, const wire::Envelope& message);
  void after_control(abi::ControlOp op, Errc error, const std::vector<std::byte>& out);
  void dump(const Peer& from, std::uint32_t window, std::uint64_t generation);
  [[nodiscard]] bool wait_for_credit(std::uint32_t window, std::uint64_t sent, std::uint64_t generation);
  void take_record(const Peer& from, const std::string& record, std::uint64_t generation);
  void release(const wire::Release& release);
  void hold(const Peer& from, std::uint64_t id, std::uint32_t budget_ms);
  void rebuild(const Peer& from, std::uint64_t id, const std::string& attempt);
  void cancel();
  void give_up();
  void stop_stream();
  void notify(const Peer& to, wire::Envelope message);
  void reply(const Peer& to, std::uint64_t id, Errc error, const std::vector<std::byte>& out = {},
             const std::string& text = "");
  void answer(const Peer& to, std::uint64_t id, wire::Envelope message);

  const std::uint64_t id_;
  const EnclaveInfo info_;
  ControlPort& port_;
  const Send on_link_thread_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::string adopt_token_;          // until it is granted
  std::string enclave_hello_;        // of the attempt under way
  std::uint64_t credits_ = 0;        // records that the daemon has taken
  std::uint64_t generation_ = 1;     // of the stream: what was started under an older one stops
  Part part_ = Part::kNone;          // jobs write
  std::uint64_t records_taken_ = 0;  // jobs only, as the next
  std::uint64_t taking_generation_ = 0;
  Errc record_error_ = Errc::kOk;
  HeldRecords records_;                             // inside a VM
  wire::HeldState held_;                            // under mutex_; attempt: empty unless committed so
  mutable std::optional<abi::Status> last_status_;  // link's thread: for when there is no enclave to ask

  JobThreads& threads_;
  const std::shared_ptr<JobThreads::Queue> queue_;  // its jobs use all of the above
};

}  // namespace sealift::host

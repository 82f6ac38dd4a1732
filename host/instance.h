// One enclave in this process: its memory, its threads, its control port.
//
// Host threads of an instance: those of the application that call in, and one of ours for every thread that was made
// inside (or that was in flight when the enclave was adopted), but for main while it rests. Lock order: none is held
// while inside the enclave, except a TCS's own entry lock.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "host/device.h"
#include "host/gate.h"
#include "host/image.h"
#include "host/link/control_port.h"
#include "host/stay.h"
#include "host/thread_group.h"
#include "sealift/enclave.h"

namespace sealift::host {

class Instance final : public Enclave, public ControlPort {
 public:
  // Builds the enclave. Neither role is latched yet.
  Instance(Image image, std::optional<std::uint64_t> base);
  ~Instance() override;

  // Latches *start*; returns when ecall threads are ready.
  void start(const std::vector<std::string>& arguments);
  // Latches *restore* for this attempt. The link does the rest; wait_adopted() returns when the grant came. Throws when
  // the attempt was abandoned.
  void begin_restore(const std::array<std::uint8_t, 16>& attempt);
  void wait_adopted();
  // Called before the enclave goes away: whoever uses the control port must have stopped.
  void on_close(std::function<void()> hook) { on_close_ = std::move(hook); }

  // Enclave
  Result<int> run_main() override;
  EnclaveStatus status() override;
  std::string crash_report() override { return gate_.report(); }
  void wait_until_gone() override { gate_.wait_gone(); }
  Errc raw_call(std::uint32_t id, const Bytes& arguments, Bytes& result) override;
  void set_handler(std::uint32_t id, Handler handler) override;

  // ControlPort
  Errc control(abi::ControlOp op, std::span<const std::byte> in, std::vector<std::byte>& out) override;
  Errc dump(const Output& output) override;
  Errc quiesce(std::chrono::milliseconds budget) override;
  Errc settle(std::chrono::milliseconds budget) override;
  Errc rebuild(const std::array<std::uint8_t, 16>& attempt, std::string& text) override;
  void trim() override;
  void resumed() override;
  void destroyed() override;
  void abandoned(Errc why) override;
  Errc status(abi::Status& out) override;

  [[nodiscard]] const Image& image() const { return image_; }
  [[nodiscard]] std::uint64_t base() const { return device_->base(); }

 private:
  struct Answer {
    std::uint64_t value, bytes;
  };

  [[nodiscard]] const EnclaveConfig& config() const { return config_; }
  [[nodiscard]] std::uint8_t* slot(std::uint32_t tcs) const;

  // Enters, and answers ocalls until something else than an ocall (or an idle ecall thread) comes back.
  [[nodiscard]] Result<Reply> drive(std::uint32_t tcs, abi::Request request, std::uint64_t a, std::uint64_t b);
  // control(), its output shown where it lies. control_mutex_ is held meanwhile.
  [[nodiscard]] Errc operate(abi::ControlOp op, std::span<const std::byte> in, const Output& output);
  // drive() on a host thread of ours, to the end of the enclave thread or until it serves ecalls.
  void spawn(std::uint32_t tcs, abi::Request request);
  void adopt_threads();

  [[nodiscard]] std::optional<std::uint32_t> take_idle();
  void give_idle(std::uint32_t tcs);
  // After gate_ has ended.
  void wake_waiting_threads();

  // ocalls.cc
  [[nodiscard]] Answer answer_ocall(std::uint32_t tcs, abi::OcallOp op, std::uint64_t bytes);
  [[nodiscard]] Answer spawn_requested(const std::uint8_t* slot);
  [[nodiscard]] Answer futex_wait(const std::uint8_t* slot);
  void futex_wake(std::uint64_t word);
  void wake_all_futexes();
  [[nodiscard]] std::vector<std::uint32_t> futex_values() const;
  // Changes every word to one that no thread can have seen, and wakes all.
  void renew_futexes(const std::vector<std::uint32_t>& values);
  [[nodiscard]] Answer clock(std::uint8_t* slot) const;
  [[nodiscard]] Answer syscall(std::uint8_t* slot) const;
  [[nodiscard]] Answer app_ocall(std::uint8_t* slot, std::uint64_t bytes);
  // Main has come to a place where it needs no host thread.
  [[nodiscard]] bool main_rests(abi::OcallOp op);

  const Image image_;
  const EnclaveConfig& config_;  // in image_, where it has to be looked for
  HostGate gate_;
  std::unique_ptr<Device> device_;
  Entries entries_;

  std::mutex control_mutex_;  // the control slot, and one control operation at a time
  // Of the link's calls, which never overlap.
  bool committed_held_ = false;              // kCommitHeld has succeeded: rebuild is what comes next
  bool rebuilt_ = false;                     // and has been done, for the grant
  std::vector<std::uint32_t> futexes_held_;  // as they were when it was rebuilt

  std::mutex mutex_;  // everything below
  std::condition_variable changed_;
  std::deque<std::uint32_t> idle_;  // TCSs whose ecall threads wait for calls
  std::map<std::uint32_t, Handler> handlers_;
  bool started_ = false;      // main has reached its waiting point
  bool main_wanted_ = false;  // run_main() was called
  bool main_rests_ = false;   // no host thread is with main, which waits to be wanted
  std::optional<int> main_status_;
  bool adopted_ = false;
  bool granted_ = false;
  bool called_ = false;  // the application has made a call: its handlers are complete
  std::function<void()> on_close_;

  ThreadGroup threads_;  // that spawn() has made; they use all of the above
};

}  // namespace sealift::host

// Entering TCSs: one stay each, with AEXs answered, kicks obeyed and a closed gate waited for.
//
// Thread-safe; two threads never enter the same TCS at once (each waits for the other's EEXIT).
#pragma once

#include <pthread.h>

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>

#include "host/gate.h"
#include "migration/abi.h"
#include "migration/config.h"
#include "migration/result.h"

namespace sealift::host {

struct Stay;
enum class AfterAex : std::uint64_t;

// What the enclave left with. Register values are the enclave's word.
struct Reply {
  abi::Exit reason{};
  std::uint64_t a = 0, b = 0, c = 0;
};

class Entries {
 public:
  Entries(std::uint64_t base, const EnclaveConfig& config, HostGate& gate)
      : base_(base), config_(config), gate_(gate) {}

  // Enters until the enclave leaves with something else than "gate closed". Errors: gate_.gone()'s cause, or the
  // enclave's own refusal.
  [[nodiscard]] Result<Reply> stay(std::uint32_t tcs, abi::Request request, std::uint64_t a, std::uint64_t b);
  // The control thread: never waits for the gate, AEXs are answered with ERESUME alone.
  [[nodiscard]] Result<Reply> control(abi::ControlOp op, std::uint64_t bytes);

  // A kick that arrives between the check and ERESUME is lost, on silicon as here, so kicks are repeated after this.
  static constexpr std::chrono::milliseconds kKickAgain{2};
  // Makes every thread that is inside take an AEX.
  void kick_all();
  // Blocks until a thread has parked or left since `seen`, or the period for kicking again is over. Returns the new
  // count.
  std::uint64_t wait_for_parking(std::uint64_t seen);
  [[nodiscard]] std::uint64_t parked_count() const { return parked_.load(); }

  // With our gate closed: every host thread has left, or waits parked in its own frame, and none will go in before the
  // gate opens. Only then does nothing depend on the enclave's memory: a thread that core counts as outside may still
  // have to execute the last instructions of its exit, and what it brings would be lost with them.
  [[nodiscard]] bool all_outside();
  // The records are safe: the enclave's memory may go at any time, which is no end of it.
  void may_vanish(bool may) { may_vanish_ = may; }
  // Another enclave is at the same address now. Threads that wait parked will enter it from their own frames.
  void rebuilt() { generation_.fetch_add(1); }

  // For sealift_at_aex. `generation`: of the enclave that the stay is in.
  AfterAex at_aex(std::uint32_t tcs, std::uint64_t& generation, Stay& stay);

 private:
  struct Slot {
    std::mutex entry;  // held for a whole stay
    std::mutex kick;   // guards the three below: a thread is never signalled after it has left
    pthread_t thread{};
    bool inside = false;
    bool waiting = false;  // parked, outside, until the gate opens
  };

  [[nodiscard]] std::uint64_t tcs_address(std::uint32_t tcs) const { return base_ + tcs_offset(config_, tcs); }
  // False: the gate was closed, and nothing was entered.
  [[nodiscard]] bool run(std::uint32_t tcs, Stay& stay);
  // Until the gate is open.
  [[nodiscard]] Errc wait_parked(Slot& slot);
  [[nodiscard]] Result<Reply> reply_of(std::uint32_t tcs, const Stay& stay);
  void note_parking();

  const std::uint64_t base_;
  const EnclaveConfig& config_;
  HostGate& gate_;
  std::array<Slot, abi::kMaxTcs> slots_;
  std::mutex parking_mutex_;
  std::condition_variable parking_;
  std::atomic<std::uint64_t> parked_{0};
  std::atomic<std::uint64_t> generation_{0};
  std::atomic<bool> may_vanish_{false};
};

}  // namespace sealift::host

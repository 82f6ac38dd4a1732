// Entering TCSs: one stay each, with AEXs answered, kicks obeyed and a closed gate waited for.
//
// Thread-safe; two threads never enter the same TCS at once (each waits for the other's EEXIT).
#pragma once

#include <pthread.h>

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>

#include "host/gate.h"
#include "migration/abi.h"
#include "migration/config.h"
#include "migration/result.h"

namespace sealift::host {

struct Stay;

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

  // Makes every thread that is inside take an AEX.
  void kick_all();
  // Blocks until a thread has parked or left since `seen`, or the period for kicking again is over. Returns the new
  // count.
  std::uint64_t wait_for_parking(std::uint64_t seen);
  [[nodiscard]] std::uint64_t parked_count() const { return parked_.load(); }

  // For sealift_at_aex.
  std::uint64_t at_aex(std::uint32_t tcs, Stay& stay);

 private:
  struct Slot {
    std::mutex entry;  // held for a whole stay
    std::mutex kick;   // guards the two below: a thread is never signalled after it has left
    pthread_t thread{};
    bool inside = false;
  };

  [[nodiscard]] std::uint64_t tcs_address(std::uint32_t tcs) const { return base_ + tcs_offset(config_, tcs); }
  void run(std::uint32_t tcs, Stay& stay);
  [[nodiscard]] Result<Reply> reply_of(std::uint32_t tcs, const Stay& stay);
  void note_parking();

  const std::uint64_t base_;
  const EnclaveConfig& config_;
  HostGate& gate_;
  std::array<Slot, abi::kMaxTcs> slots_;
  std::mutex parking_mutex_;
  std::condition_variable parking_;
  std::atomic<std::uint64_t> parked_{0};
};

}  // namespace sealift::host

// --single-step: an AEX at every instruction of an enclave, by the trap flag; the adversary of design.md, section 5.
//
// Reported to the enclave as interrupts (EXITINFO not valid), as a timer that always hits would be: hardware hides the
// trap flag from production enclaves. Known limits: an enclave that reads RFLAGS sees TF, one that clears it by POPF is
// re-armed one instruction later, and `rep` string instructions trap at every iteration.
#pragma once

#include <ucontext.h>

#include <cstdint>
#include <optional>

#include "softsgx/cpu/thread_record.h"

namespace softsgx {

struct StepWindow {
  bool enabled = false;
  bool relative = false;    // to ELRANGE's base
  std::uint64_t begin = 0;  // AEXs only while begin <= RIP < end; …
  std::uint64_t end = ~std::uint64_t{0};
  std::optional<std::uint64_t> tcs =
      std::nullopt;  // … and the thread is on the TCS at this offset in ELRANGE; else on any
};

class SingleStep {
 public:
  static void configure(const StepWindow& window) noexcept { window_ = window; }
  [[nodiscard]] static bool enabled() noexcept { return window_.enabled; }
  // Whether the enclave's RIP lies in the window.
  [[nodiscard]] static bool hits(const ThreadRecord& record, std::uint64_t rip) noexcept;
  // Sets or clears the trap flag of the frame, by whether it leaves to enclave mode.
  static void arm(ucontext_t& context, const ThreadRecord& record) noexcept;

 private:
  [[nodiscard]] static bool steps(const ThreadRecord& record) noexcept;
  static StepWindow window_;
};

}  // namespace softsgx

// Inter-processor interrupts: making threads that are inside an enclave leave it, and --aex-hz, which does so at
// random.
//
// An interrupt is kInterruptSignal, queued with a cookie; the handler makes the AEX and the program never sees a
// signal. A thread that is not inside ignores it, so it may see EINTR or a restarted system call in a rare race, as on
// silicon.
#pragma once

#include <csignal>
#include <cstdint>

namespace softsgx {

class Interrupts {
 public:
  // This signal is one of ours.
  [[nodiscard]] static bool is_interrupt(const siginfo_t& info) noexcept;
  // Tells another process under softsgx that its EPC is lost, should it not have noticed.
  static void tell_of_loss(int pid) noexcept;
  [[nodiscard]] static bool tells_of_loss(const siginfo_t& info) noexcept;
  // Interrupts every thread of the process that is inside an enclave (whose SECS is `secs`, if not kNotEpc).
  // Returns at once. Async-signal-safe.
  static void send_to_inside(std::uint32_t secs) noexcept;
  // Starts the --aex-hz thread: about `hz` interrupts a second for each thread inside, at exponentially distributed
  // intervals. Host context; once. False if the thread could not be made.
  static bool start_random(unsigned hz, std::uint64_t seed) noexcept;
};

}  // namespace softsgx

// The program's signal dispositions, as it set them, and the kernel's, which are ours.
//
// For every signal the program handles, and for the signals that enclave mode needs (kOwned), the kernel knows only
// softsgx_signal_entry, on the alternate stack, with all signals blocked: an AEX must come before any handler. The
// program's own wishes (handler, mask, flags) live here and are honoured by deliver.h.
// Reads are lock-free (a sequence lock), for signal handlers; writers block all signals meanwhile.
#pragma once

#include <csignal>
#include <cstdint>

namespace softsgx {

// The kernel's struct sigaction (64 signals; glibc's has 1024).
struct KernelAction {
  std::uint64_t handler = 0;  // SIG_DFL (0), SIG_IGN (1) or an address
  std::uint64_t flags = 0;
  std::uint64_t restorer = 0;
  std::uint64_t mask = 0;
};
inline constexpr std::uint64_t kDefaultHandler = 0, kIgnoreHandler = 1;
inline constexpr int kSignals = 64;

// The inter-processor interrupt of softsgx: makes a thread leave enclave mode. Queued with kInterruptCookie; the
// program may still use the signal itself, all others are its own.
inline constexpr int kInterruptSignal = 64;

[[nodiscard]] constexpr std::uint64_t signal_bit(int signal) noexcept {
  return std::uint64_t{1} << (signal - 1);
}

// Always handled, never blocked: ENCLU with SIGILL blocked would kill the process.
inline constexpr std::uint64_t kOwnedSignals = signal_bit(SIGILL) | signal_bit(SIGSYS) | signal_bit(SIGSEGV) |
                                               signal_bit(SIGBUS) | signal_bit(SIGFPE) | signal_bit(SIGTRAP) |
                                               signal_bit(kInterruptSignal);

class SignalTable {
 public:
  // Takes over the owned signals, and whatever handlers the process already has.
  static void install() noexcept;

  // In the child of fork: the table is the child's own now.
  static void after_fork() noexcept;

  // What sigaction(2) does, for the program. 0 or -errno. `old` may be null, `action` too. In a child of vfork, which
  // shares the table with its parent but not the kernel's dispositions, it is the kernel's alone.
  static int set(int signal, const KernelAction* action, KernelAction* old) noexcept;

  // The program's disposition. Async-signal-safe.
  [[nodiscard]] static KernelAction get(int signal) noexcept;

  // SA_RESETHAND: the program's disposition becomes SIG_DFL. Async-signal-safe.
  static void reset_to_default(int signal) noexcept;

  // Gives the signal back to the kernel with its default action, also one that we own. Async-signal-safe.
  static void surrender(int signal) noexcept;
};

// Blocks every signal of this thread while it lives: for locks that handlers take too.
class SignalsBlocked {
 public:
  SignalsBlocked() noexcept;
  ~SignalsBlocked();
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  std::uint64_t saved_ = 0;
};

}  // namespace softsgx

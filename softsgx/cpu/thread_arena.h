// Records and alternate stacks of all threads, in one aligned arena, and how a thread gets and loses its own.
#pragma once

#include <ucontext.h>

#include <cstddef>
#include <cstdint>

#include "softsgx/cpu/thread_record.h"

namespace softsgx {

class ThreadArena {
 public:
  static constexpr std::size_t kSlots = 8192;

  // Reserves the arena. False if the address space has no room. Once, before the first signal handler is installed.
  static bool create() noexcept;

  // Gives the calling thread a record and makes its slot the kernel's alternate stack. Null if all slots are taken.
  // Inside a signal handler pass the frame: its sigreturn installs the stack. Async-signal-safe; idempotent.
  static ThreadRecord* arm(ucontext_t* frame) noexcept;

  // The calling thread's record, or null if it was never armed. Host context only (uses TLS).
  [[nodiscard]] static ThreadRecord* current() noexcept;

  // The calling thread ends, or stops using enclaves: its record and stack are free.
  static void disarm() noexcept;

  // In the child of fork: forgets the other threads; the kernel dropped Syscall User Dispatch.
  static void after_fork() noexcept;

  // Record number `i` < kSlots; free ones have tid 0. For interrupts (interrupt.h).
  [[nodiscard]] static ThreadRecord& slot(std::size_t i) noexcept;
  // One past the highest slot that was ever used.
  [[nodiscard]] static std::size_t used_slots() noexcept;

  // Syscall User Dispatch for the calling thread, so that `syscall` inside an enclave traps. At the first EENTER.
  static bool arm_dispatch(ThreadRecord& record) noexcept;
};

}  // namespace softsgx

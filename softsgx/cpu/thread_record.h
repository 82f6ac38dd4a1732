// What the CPU layer keeps for one host thread, at the base of the thread's alternate signal stack.
//
// Rules.
//  1. Only its own thread, or that thread's signal handler, writes a record; `in_enclave`, `tid` and `generation` may
//     be read by any thread.
//  2. The assembly prologue (entry.S) reaches the record by masking RSP: no TLS, because FS base is the enclave's then.
//  3. Handlers run with every signal blocked, so a record is never seen half changed by a nested handler.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <csignal>
#include <cstddef>
#include <cstdint>

#include "softsgx/cpu/record_offsets.h"
#include "softsgx/isa/leaf.h"

namespace softsgx {

inline constexpr std::size_t kSlotBytes = SLOT_BYTES;  // record and alternate stack
inline constexpr std::size_t kRecordBytes = 4096;

// Values of the Syscall User Dispatch selector (<linux/prctl.h>).
inline constexpr std::uint8_t kSyscallsAllowed = 0;
inline constexpr std::uint8_t kSyscallsTrapped = 1;

struct alignas(64) ThreadRecord {
  // --- Read and written by entry.S. ---
  std::uint64_t host_fsbase = 0;
  std::uint64_t host_gsbase = 0;
  std::uint64_t enclave_fsbase = 0;
  std::uint64_t enclave_gsbase = 0;
  std::atomic<std::uint32_t> in_enclave = 0;  // mirrors lp.enclave_mode while no handler of this thread runs
  std::uint8_t selector = kSyscallsAllowed;
  bool dispatch_armed = false;  // Syscall User Dispatch is on in this thread

  // --- Read and written by patched.S. ---
  std::uint64_t entry_gsbase = 0;  // as the last EENTER or ERESUME set it
  std::uint64_t patched_mask = 0;  // the thread's signal mask, while the leaf has all blocked
  Registers patched;               // the leaf's, before and after

  // --- C++ only. ---
  std::atomic<EpcIndex> active_secs = kNotEpc;  // mirrors lp.secs
  std::atomic<pid_t> tid = 0;                   // 0: the slot is free
  std::uint64_t last_fault = 0;                 // address and …
  std::uint32_t fault_repeats = 0;  // … how often in a row it was "resolved": a loop means a bug, see trap.cc
  stack_t program_stack{};          // the program's own alternate stack (sigaltstack is virtual)
  LogicalProcessor lp;
};
static_assert(sizeof(ThreadRecord) <= kRecordBytes);
static_assert(offsetof(ThreadRecord, host_fsbase) == RECORD_HOST_FS);
static_assert(offsetof(ThreadRecord, host_gsbase) == RECORD_HOST_GS);
static_assert(offsetof(ThreadRecord, enclave_fsbase) == RECORD_ENCLAVE_FS);
static_assert(offsetof(ThreadRecord, enclave_gsbase) == RECORD_ENCLAVE_GS);
static_assert(offsetof(ThreadRecord, in_enclave) == RECORD_IN_ENCLAVE);
static_assert(offsetof(ThreadRecord, selector) == RECORD_SELECTOR);
static_assert(offsetof(ThreadRecord, dispatch_armed) == RECORD_DISPATCH_ARMED);
static_assert(offsetof(ThreadRecord, entry_gsbase) == RECORD_ENTRY_GS);
static_assert(offsetof(ThreadRecord, patched_mask) == RECORD_MASK);
// The general registers follow each other as in record_offsets.h.
static_assert(offsetof(ThreadRecord, patched) == RECORD_RAX && offsetof(Registers, rbx) == RECORD_RBX - RECORD_RAX);
static_assert(offsetof(Registers, rdi) == RECORD_RDI - RECORD_RAX && offsetof(Registers, r8) == RECORD_R8 - RECORD_RAX);
static_assert(offsetof(Registers, r15) == RECORD_R15 - RECORD_RAX);
static_assert(offsetof(Registers, rip) == RECORD_RIP - RECORD_RAX);
static_assert(offsetof(Registers, fsbase) == RECORD_FSBASE - RECORD_RAX);
static_assert(offsetof(Registers, gsbase) == RECORD_GSBASE - RECORD_RAX);

}  // namespace softsgx

// Entering and leaving enclave mode, in terms of a signal frame. Async-signal-safe.
#pragma once

#include <ucontext.h>

#include "softsgx/cpu/thread_record.h"
#include "softsgx/isa/enclu.h"

namespace softsgx {

// One byte of code at an address that the thread has fetched from. Inside it is read through the machine's own mapping:
// another thread may take the enclave's away meanwhile (lost EPC, munmap), and a fault in a handler is the process's
// end. False: nothing is there any more.
[[nodiscard]] bool code_byte(std::uint64_t at, const ThreadRecord& record, std::uint8_t& out) noexcept;
// The instruction at the frame's RIP is ENCLU (0f 01 d7), or CPUID. Only after a fault of that instruction.
[[nodiscard]] bool at_enclu(const ucontext_t& context, const ThreadRecord& record) noexcept;
[[nodiscard]] bool at_cpuid(const ucontext_t& context, const ThreadRecord& record) noexcept;

// Executes the ENCLU. On a fault the frame is unchanged.
Leaf execute_enclu(ucontext_t& context, ThreadRecord& record) noexcept;

// EENTER if the thread is outside, else EEXIT, on record.patched: rip is the ENCLU's. On a fault nothing has changed.
Leaf execute_patched(ThreadRecord& record) noexcept;

// Asynchronous exit: the frame becomes what the AEP sees. The record must be in enclave mode.
void asynchronous_exit(ucontext_t& context, ThreadRecord& record, const enclu::AexEvent& event) noexcept;

}  // namespace softsgx

// Entering and leaving enclave mode, in terms of a signal frame. Async-signal-safe.
#pragma once

#include <ucontext.h>

#include "softsgx/cpu/thread_record.h"
#include "softsgx/isa/enclu.h"

namespace softsgx {

// The instruction at the frame's RIP is ENCLU (0f 01 d7). Only after a #UD: then its bytes were fetched, and reading
// them cannot fault.
[[nodiscard]] bool at_enclu(const ucontext_t& context) noexcept;
[[nodiscard]] bool at_cpuid(const ucontext_t& context) noexcept;

// Executes the ENCLU. On a fault the frame is unchanged.
Leaf execute_enclu(ucontext_t& context, ThreadRecord& record) noexcept;

// EENTER if the thread is outside, else EEXIT, on record.patched: rip is the ENCLU's. On a fault nothing has changed.
Leaf execute_patched(ThreadRecord& record) noexcept;

// Asynchronous exit: the frame becomes what the AEP sees. The record must be in enclave mode.
void asynchronous_exit(ucontext_t& context, ThreadRecord& record, const enclu::AexEvent& event) noexcept;

}  // namespace softsgx

// Hands a signal to the program's handler, as the kernel would have.
//
// Called at the end of our own handler. Builds a second rt_sigframe where the program expects it (its stack below the
// red zone, or its alternate stack), and changes our own frame so that *its* sigreturn starts the program's handler,
// with the program's mask. The handler's return is an ordinary rt_sigreturn of that second frame. So one trap costs one
// signal delivery; nested signals, siglongjmp out of a handler, changes to the context and SA_NODEFER behave as ever.
// (Calling the handler from ours would keep our frame alive on the alternate stack, where the next signal overwrites
// it.)
#pragma once

#include <ucontext.h>

#include <csignal>

#include "softsgx/cpu/thread_record.h"

namespace softsgx {

// `info.si_signo` is the signal. `context` is our frame's, outside enclave mode already. Async-signal-safe.
void deliver_to_program(const siginfo_t& info, ucontext_t& context, const ThreadRecord& record) noexcept;

// Sends the signal again to this thread: it is delivered when the current handler returns.
void queue_again(const siginfo_t& info) noexcept;

}  // namespace softsgx

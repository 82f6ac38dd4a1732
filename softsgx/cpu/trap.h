// The signal handler behind every signal: decides what the CPU, the kernel and the program would each have seen.
#pragma once

#include <ucontext.h>

#include <csignal>

#include "softsgx/cpu/platform.h"
#include "softsgx/cpu/thread_record.h"

extern "C" {
// Called by entry.S with host FS and GS base, all signals blocked. `record` is null in a thread that was never armed.
void softsgx_on_signal(int signal, siginfo_t* info, void* context, softsgx::ThreadRecord* record);
}

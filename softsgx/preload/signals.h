// The signal system calls as the program means them: kernel calling convention, -errno on failure.
#pragma once

#include <csignal>
#include <cstdint>

#include "softsgx/cpu/signal_table.h"

namespace softsgx::preload {

long do_sigaction(int signal, const KernelAction* action, KernelAction* old) noexcept;
long do_sigprocmask(int how, const std::uint64_t* set, std::uint64_t* old) noexcept;
long do_sigaltstack(const stack_t* stack, stack_t* old) noexcept;

}  // namespace softsgx::preload

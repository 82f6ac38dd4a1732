// State of the preload library that its interposed functions ask for.
#pragma once

namespace softsgx::preload {

// False before the constructor has run, and for ever without SOFTSGX_MACHINE: then every function is libc's.
[[nodiscard]] bool active() noexcept;

// The program opens an enclave: what waits for that begins (--aex-hz). Host context.
void first_enclave();

}  // namespace softsgx::preload

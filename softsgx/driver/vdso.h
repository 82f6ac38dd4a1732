// The vDSO with __vdso_sgx_enter_enclave, in place of the kernel's for those who look it up by AT_SYSINFO_EHDR.
// libc keeps the kernel's own: it has found its functions before any library is initialised.
#pragma once

#include <link.h>

#include <cstdint>

namespace softsgx {

// Maps the image and points the auxiliary vector (in place, on the initial stack) to it. `envp` is main's: the vector
// follows it. False if there is no vDSO to replace. Once, before other threads exist.
bool install_vdso(char** envp) noexcept;

// Looks a symbol up in a loaded one-segment ELF image such as a vDSO; null if it is not there.
[[nodiscard]] void* vdso_symbol(const ElfW(Ehdr) * image, const char* name) noexcept;

// The ENCLU in the function, and where an exception there continues.
[[nodiscard]] std::uint64_t vdso_enclu_address() noexcept;
[[nodiscard]] std::uint64_t vdso_exception_address() noexcept;

}  // namespace softsgx

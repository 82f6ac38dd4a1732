// What CPUID tells the program about SGX (SDM 2A, CPUID; 3D, section 33.7): leaf 7 and the subleaves of leaf 0x12.
//
// With CPUID faulting (arch_prctl(ARCH_SET_CPUID)) every CPUID of every thread is presented. Where the CPU or
// hypervisor has none, --patch-cpuid replaces the instructions in the main program's code by `ud2`, which has the same
// length.
#pragma once

#include <ucontext.h>

#include <cstdint>

#include "softsgx/isa/machine.h"

namespace softsgx {

struct CpuidResult {
  std::uint32_t eax, ebx, ecx, edx;
};

class CpuidPresentation {
 public:
  // Turns CPUID faulting on for this thread and all that it will make; false if it is not available.
  static bool enable_faulting() noexcept;
  [[nodiscard]] static bool faulting() noexcept;
  // Replaces every CPUID in [begin, end) by ud2; addresses are remembered. How many. Host context, before other threads
  // run there. Instruction boundaries are not known: `0f a2` in data or inside another instruction would be hit too,
  // which is why this is only done on request.
  static std::size_t patch(std::uint64_t begin, std::uint64_t end);

  // The frame is at a patched CPUID: emulates it. Async-signal-safe, as all below.
  static bool emulate_patched(ucontext_t& context) noexcept;
  static void emulate(ucontext_t& context) noexcept;
  // CPUID with the machine's SGX leaves in place of the host's.
  [[nodiscard]] static CpuidResult present(const Machine& machine, std::uint32_t leaf, std::uint32_t subleaf) noexcept;
};

}  // namespace softsgx

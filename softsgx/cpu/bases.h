// FS and GS base on a kernel that does not keep what WRFSBASE and WRGSBASE write: before Linux 5.9, with `nofsgsbase`,
// or under a hypervisor without hardware support, where AT_HWCAP2 lacks the feature though the instructions may
// execute. At the next context switch such a kernel loads what arch_prctl set last.
//
// There both bases are set by system calls: softsgx's own at each crossing, and an enclave's, whose writes the driver
// makes trap (Enclave::trap_base_writes) and emulate() executes. Reads execute as they stand, or raise #UD and are
// emulated too.
#pragma once

#include <ucontext.h>

#include <cstddef>
#include <cstdint>

#include "softsgx/cpu/thread_record.h"

namespace softsgx {

class Bases {
 public:
  // Before the program has threads, and for good.
  static void use_system_calls() noexcept;
  [[nodiscard]] static bool by_system_calls() noexcept;

  // The calling thread's, in host context.
  [[nodiscard]] static std::uint64_t fs() noexcept;
  [[nodiscard]] static std::uint64_t gs() noexcept;

  // WR{FS,GS}BASE of a 64-bit register: f3 REX.W 0f ae /2, /3.
  static constexpr std::size_t kInsnBytes = 5, kOpcode = 3;
  static constexpr std::uint8_t kPrefix = 0xf3, kAccess = 0xae;
  // In the place of the opcode's second byte: UD1, of the same length and operands.
  static constexpr std::uint8_t kTrap = 0xb9;
  [[nodiscard]] static constexpr bool is_write(const std::uint8_t (&insn)[kInsnBytes]) noexcept {
    return is_access(insn) && insn[kOpcode] == kAccess && (insn[4] & 0x10) != 0;
  }

  // In the handler of a #UD inside: executes the instruction if it is one of the four. False: nothing has changed.
  static bool emulate(ucontext_t& context, ThreadRecord& record) noexcept;

 private:
  // All four; or what traps in their place.
  [[nodiscard]] static constexpr bool is_access(const std::uint8_t (&insn)[kInsnBytes]) noexcept {
    return insn[0] == kPrefix && (insn[1] & 0xfe) == 0x48 && insn[2] == 0x0f &&
           (insn[kOpcode] == kAccess || insn[kOpcode] == kTrap) && (insn[4] & 0xe0) == 0xc0;
  }
};

}  // namespace softsgx

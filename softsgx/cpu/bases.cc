#include "softsgx/cpu/bases.h"

#include <asm/prctl.h>

#include <algorithm>

#include "softsgx/cpu/context.h"
#include "softsgx/cpu/enclave_mode.h"
#include "softsgx/isa/raw_syscall.h"

extern "C" {
// Read by entry.S and patched.S.
[[gnu::visibility("hidden")]] std::uint8_t softsgx_bases_by_system_calls = 0;
}

namespace softsgx {
namespace {

constexpr std::uint64_t kUserEnd = (std::uint64_t{1} << 47) - 4096;  // the kernel refuses what lies above, as a base
constexpr int kRegisters[] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                              REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

std::uint64_t ask(int which) noexcept {
  std::uint64_t value = 0;
  raw::call(SYS_arch_prctl, static_cast<std::uint64_t>(which), raw::arg(&value));
  return value;
}

}  // namespace

void Bases::use_system_calls() noexcept {
  softsgx_bases_by_system_calls = 1;
}

bool Bases::by_system_calls() noexcept {
  return softsgx_bases_by_system_calls != 0;
}

std::uint64_t Bases::fs() noexcept {
  if (by_system_calls()) return ask(ARCH_GET_FS);
  std::uint64_t v;
  asm volatile("rdfsbase %0" : "=r"(v));
  return v;
}

std::uint64_t Bases::gs() noexcept {
  if (by_system_calls()) return ask(ARCH_GET_GS);
  std::uint64_t v;
  asm volatile("rdgsbase %0" : "=r"(v));
  return v;
}

bool Bases::emulate(ucontext_t& context, ThreadRecord& record) noexcept {
  if (!by_system_calls()) return false;
  std::uint8_t insn[kInsnBytes] = {};
  for (std::size_t i = 0; i < kInsnBytes; ++i) {
    if (!code_byte(rip(context) + i, record, insn[i])) return false;
  }
  if (!is_access(insn)) return false;
  greg_t& operand = context.uc_mcontext.gregs[kRegisters[(insn[1] & 1) << 3 | (insn[4] & 7)]];
  std::uint64_t& base = (insn[4] & 0x08) != 0 ? record.enclave_gsbase : record.enclave_fsbase;
  if ((insn[4] & 0x10) != 0) {
    const auto value = static_cast<std::uint64_t>(operand);
    if (value >= kUserEnd) return false;
    base = value;  // loaded on the way back
  } else {
    operand = static_cast<greg_t>(base);
  }
  set_rip(context, rip(context) + kInsnBytes);
  context.uc_mcontext.gregs[REG_EFL] &= ~static_cast<greg_t>(rflags::kRf);  // of the fault that brought us here
  return true;
}

}  // namespace softsgx

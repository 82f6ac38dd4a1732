#include "softsgx/cpu/context.h"

#include <cstring>

namespace softsgx {
namespace {

std::uint64_t get(const ucontext_t& c, int r) noexcept {
  return static_cast<std::uint64_t>(c.uc_mcontext.gregs[r]);
}

void put(ucontext_t& c, int r, std::uint64_t v) noexcept {
  c.uc_mcontext.gregs[r] = static_cast<greg_t>(v);
}

// struct _fpx_sw_bytes of <asm/sigcontext.h>, in the reserved end of the legacy region.
constexpr std::size_t kSwReserved = 464;
constexpr std::uint32_t kFpXstateMagic1 = 0x46505853;

}  // namespace

void read_registers(const ucontext_t& c, Registers& r) noexcept {
  r.rax = get(c, REG_RAX);
  r.rcx = get(c, REG_RCX);
  r.rdx = get(c, REG_RDX);
  r.rbx = get(c, REG_RBX);
  r.rsp = get(c, REG_RSP);
  r.rbp = get(c, REG_RBP);
  r.rsi = get(c, REG_RSI);
  r.rdi = get(c, REG_RDI);
  r.r8 = get(c, REG_R8);
  r.r9 = get(c, REG_R9);
  r.r10 = get(c, REG_R10);
  r.r11 = get(c, REG_R11);
  r.r12 = get(c, REG_R12);
  r.r13 = get(c, REG_R13);
  r.r14 = get(c, REG_R14);
  r.r15 = get(c, REG_R15);
  r.rip = get(c, REG_RIP);
  r.rflags = get(c, REG_EFL);
}

void write_registers(const Registers& r, ucontext_t& c) noexcept {
  put(c, REG_RAX, r.rax);
  put(c, REG_RCX, r.rcx);
  put(c, REG_RDX, r.rdx);
  put(c, REG_RBX, r.rbx);
  put(c, REG_RSP, r.rsp);
  put(c, REG_RBP, r.rbp);
  put(c, REG_RSI, r.rsi);
  put(c, REG_RDI, r.rdi);
  put(c, REG_R8, r.r8);
  put(c, REG_R9, r.r9);
  put(c, REG_R10, r.r10);
  put(c, REG_R11, r.r11);
  put(c, REG_R12, r.r12);
  put(c, REG_R13, r.r13);
  put(c, REG_R14, r.r14);
  put(c, REG_R15, r.r15);
  put(c, REG_RIP, r.rip);
  put(c, REG_EFL, r.rflags);
}

std::byte* xsave_image(const ucontext_t& c) noexcept {
  return reinterpret_cast<std::byte*>(c.uc_mcontext.fpregs);
}

std::size_t xsave_bytes(const ucontext_t& c) noexcept {
  struct {
    std::uint32_t magic1, extended_size;
  } sw;
  std::memcpy(&sw, xsave_image(c) + kSwReserved, sizeof sw);
  return sw.magic1 == kFpXstateMagic1 ? sw.extended_size : sgx::xsave::kLegacySize;
}

unsigned trap_number(const ucontext_t& c) noexcept {
  return static_cast<unsigned>(get(c, REG_TRAPNO));
}

std::uint32_t trap_error(const ucontext_t& c) noexcept {
  return static_cast<std::uint32_t>(get(c, REG_ERR));
}

void set_trap(ucontext_t& c, unsigned number, std::uint32_t error_code) noexcept {
  put(c, REG_TRAPNO, number);
  put(c, REG_ERR, error_code);
}

std::uint64_t rip(const ucontext_t& c) noexcept {
  return get(c, REG_RIP);
}

void set_rip(ucontext_t& c, std::uint64_t value) noexcept {
  put(c, REG_RIP, value);
}

}  // namespace softsgx

#include "softsgx/cpu/deliver.h"

#include <cstddef>
#include <cstring>

#include "softsgx/cpu/context.h"
#include "softsgx/cpu/signal_table.h"
#include "softsgx/cpu/xsave_layout.h"
#include "softsgx/isa/raw_syscall.h"

extern "C" void softsgx_restorer();

namespace softsgx {
namespace {

// What the kernel writes to the stack: struct rt_sigframe of the x86-64 ABI. Its ucontext ends after a 64-bit mask.
constexpr std::size_t kKernelUcontextBytes = offsetof(ucontext_t, uc_sigmask) + sizeof(std::uint64_t);
constexpr std::size_t kKernelSiginfoBytes = 128;
struct RtSigframe {
  std::uint64_t return_address;
  std::byte context[kKernelUcontextBytes];
  std::byte info[kKernelSiginfoBytes];
};
static_assert(sizeof(RtSigframe) == 8 + 304 + 128);
constexpr std::uint64_t kRedZone = 128;

std::uint64_t gpr(const ucontext_t& c, int r) noexcept {
  return static_cast<std::uint64_t>(c.uc_mcontext.gregs[r]);
}

bool on_stack(const stack_t& s, std::uint64_t sp) noexcept {
  const auto base = reinterpret_cast<std::uint64_t>(s.ss_sp);
  return sp > base && sp - base <= s.ss_size;
}

// Where the new frame's top goes (arch/x86's get_sigframe: alternate stack, if asked for and not in use).
std::uint64_t frame_top(const KernelAction& action, const stack_t& alternate, std::uint64_t sp) noexcept {
  if ((action.flags & SA_ONSTACK) && alternate.ss_size != 0 && !on_stack(alternate, sp)) {
    return reinterpret_cast<std::uint64_t>(alternate.ss_sp) + alternate.ss_size;
  }
  return sp - kRedZone;
}

// The program has no handler. A synchronous fault kills even if ignored (the kernel's force_sig); else SIG_IGN drops.
void default_action(const siginfo_t& info, const KernelAction& action, ucontext_t& context) noexcept {
  if (action.handler == kIgnoreHandler && info.si_code <= 0) return;
  SignalTable::surrender(info.si_signo);
  std::uint64_t mask;
  std::memcpy(&mask, &context.uc_sigmask, sizeof mask);
  mask &= ~signal_bit(info.si_signo);
  std::memcpy(&context.uc_sigmask, &mask, sizeof mask);
  queue_again(info);
}

}  // namespace

void queue_again(const siginfo_t& info) noexcept {
  const long pid = raw::call(SYS_getpid), tid = raw::call(SYS_gettid);
  raw::call(SYS_rt_tgsigqueueinfo, static_cast<std::uint64_t>(pid), static_cast<std::uint64_t>(tid),
            static_cast<std::uint64_t>(info.si_signo), raw::arg(&info));
}

void deliver_to_program(const siginfo_t& info, ucontext_t& context, const ThreadRecord& record) noexcept {
  const int signal = info.si_signo;
  const KernelAction action = SignalTable::get(signal);
  if (action.handler == kDefaultHandler || action.handler == kIgnoreHandler) {
    default_action(info, action, context);
    return;
  }

  const std::size_t fp_bytes = xsave_bytes(context);
  std::uint64_t sp = frame_top(action, record.program_stack, gpr(context, REG_RSP));
  const std::uint64_t fp = (sp - fp_bytes) & ~std::uint64_t{63};
  // As after a call: RSP + 8 is a multiple of 16.
  sp = ((fp - sizeof(RtSigframe)) & ~std::uint64_t{15}) - 8;
  auto* frame = reinterpret_cast<RtSigframe*>(sp);
  auto* copy = reinterpret_cast<ucontext_t*>(frame->context);
  std::memcpy(reinterpret_cast<void*>(fp), xsave_image(context), fp_bytes);
  std::memcpy(frame->context, &context, kKernelUcontextBytes);
  std::memcpy(frame->info, &info, kKernelSiginfoBytes);
  copy->uc_mcontext.fpregs = reinterpret_cast<fpregset_t>(fp);
  frame->return_address = reinterpret_cast<std::uint64_t>(&softsgx_restorer);

  // Our frame now describes the handler's first instruction.
  greg_t* g = context.uc_mcontext.gregs;
  g[REG_RIP] = static_cast<greg_t>(action.handler);
  g[REG_RSP] = static_cast<greg_t>(sp);
  g[REG_RDI] = signal;
  g[REG_RSI] = reinterpret_cast<greg_t>(frame->info);
  g[REG_RDX] = reinterpret_cast<greg_t>(frame->context);
  g[REG_RAX] = 0;
  g[REG_EFL] &= ~static_cast<greg_t>(rflags::kDf | rflags::kTf | rflags::kRf);
  XsaveLayout::reset(xsave_image(context));
  std::uint64_t mask;
  std::memcpy(&mask, &context.uc_sigmask, sizeof mask);
  mask |= action.mask;
  if (!(action.flags & SA_NODEFER)) mask |= signal_bit(signal);
  mask &= ~kOwnedSignals;
  std::memcpy(&context.uc_sigmask, &mask, sizeof mask);
  if (action.flags & SA_RESETHAND) SignalTable::reset_to_default(signal);
}

}  // namespace softsgx

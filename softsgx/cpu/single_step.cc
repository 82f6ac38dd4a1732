#include "softsgx/cpu/single_step.h"

#include "softsgx/isa/leaf.h"

namespace softsgx {

StepWindow SingleStep::window_;

bool SingleStep::steps(const ThreadRecord& record) noexcept {
  return !window_.tcs || record.lp.tcs_linaddr - record.lp.elrange_base == *window_.tcs;
}

bool SingleStep::hits(const ThreadRecord& record, std::uint64_t rip) noexcept {
  const std::uint64_t at = window_.relative ? rip - record.lp.elrange_base : rip;
  return window_.enabled && steps(record) && at >= window_.begin && at < window_.end;
}

void SingleStep::arm(ucontext_t& context, const ThreadRecord& record) noexcept {
  if (!window_.enabled) return;
  constexpr auto kTrapFlag = static_cast<greg_t>(rflags::kTf);
  greg_t& flags = context.uc_mcontext.gregs[REG_EFL];
  flags = record.lp.enclave_mode && steps(record) ? flags | kTrapFlag : flags & ~kTrapFlag;
}

}  // namespace softsgx

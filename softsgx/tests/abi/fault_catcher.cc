#include "softsgx/tests/abi/fault_catcher.h"

#include "softsgx/tests/abi/call.h"

namespace third_party {
namespace {

constexpr int kSignals[] = {SIGILL, SIGSEGV, SIGBUS, SIGFPE, SIGTRAP, SIGSYS};
thread_local Caught t_caught;

void handler(int signal, siginfo_t* info, void* raw) {
  auto& g = static_cast<ucontext_t*>(raw)->uc_mcontext.gregs;
  Caught& c = t_caught;
  ++c.count;
  c.signal = signal;
  c.code = info->si_code;
  c.address = reinterpret_cast<std::uint64_t>(info->si_addr);
  c.rip = static_cast<std::uint64_t>(g[REG_RIP]);
  c.rax = static_cast<std::uint64_t>(g[REG_RAX]);
  c.rbx = static_cast<std::uint64_t>(g[REG_RBX]);
  c.rcx = static_cast<std::uint64_t>(g[REG_RCX]);
  c.rsp = static_cast<std::uint64_t>(g[REG_RSP]);
  c.trap = static_cast<std::uint64_t>(g[REG_TRAPNO]);
  c.error = static_cast<std::uint64_t>(g[REG_ERR]);
  c.flags = static_cast<std::uint64_t>(g[REG_EFL]);
  if (c.rip == reinterpret_cast<std::uint64_t>(abi_call_enclu)) {
    g[REG_RIP] = reinterpret_cast<greg_t>(abi_call_fixup);
  } else if (c.rip != reinterpret_cast<std::uint64_t>(abi_call_aep)) {
    ::signal(signal, SIG_DFL);  // not ours: die of it
  }
}

}  // namespace

FaultCatcher::FaultCatcher() {
  struct sigaction a {};
  a.sa_sigaction = &handler;
  a.sa_flags = SA_SIGINFO;
  for (int i = 0; i < 6; ++i) sigaction(kSignals[i], &a, &old_[i]);
  t_caught = {};
}

FaultCatcher::~FaultCatcher() {
  for (int i = 0; i < 6; ++i) sigaction(kSignals[i], &old_[i], nullptr);
}

Caught& FaultCatcher::caught() {
  return t_caught;
}

}  // namespace third_party

#include "host/signals.h"

#include <ucontext.h>
#include <csignal>
#include <mutex>

#include "host/enclu.h"
#include "host/error.h"

namespace sealift::host {
namespace {

constexpr int kFaults[] = {SIGILL, SIGSEGV, SIGBUS, SIGFPE, SIGTRAP};

// Highest real-time signal but two: glibc uses the lowest, applications usually count from SIGRTMIN up.
int kick_signal() {
  return SIGRTMAX - 2;
}

struct sigaction previous[NSIG];  // written once, before the first enclave exists

// Async-signal-safe. True: the signal was an enclave's.
bool handle_enclave_fault(int signal, const siginfo_t* info, ucontext_t* context) {
  greg_t* g = context->uc_mcontext.gregs;
  const auto rip = static_cast<std::uint64_t>(g[REG_RIP]);
  const bool at_aep = rip == reinterpret_cast<std::uint64_t>(sealift_aep);
  const auto insn = reinterpret_cast<std::uint64_t>(sealift_enclu_insn);
  const bool at_enclu = rip >= insn && rip < insn + 7;
  if (!at_aep && !at_enclu) return false;
  Stay* stay = *reinterpret_cast<Stay**>(g[REG_RSP]);
  if (at_aep) {
    stay->exception = {1, static_cast<std::uint64_t>(signal), static_cast<std::uint64_t>(g[REG_TRAPNO]),
                       static_cast<std::uint64_t>(g[REG_ERR]), reinterpret_cast<std::uint64_t>(info->si_addr)};
    return true;  // goes on at the AEP, which asks sealift_at_aex
  }
  g[REG_RIP] = reinterpret_cast<greg_t>(sealift_enclu_fault);
  return true;
}

void pass_on(int signal, siginfo_t* info, void* context) {
  const struct sigaction& next = previous[signal];
  if ((next.sa_flags & SA_SIGINFO) != 0) {
    next.sa_sigaction(signal, info, context);
  } else if (next.sa_handler != SIG_IGN && next.sa_handler != SIG_DFL) {
    next.sa_handler(signal);
  } else if (next.sa_handler == SIG_DFL) {
    // The instruction faults again when we return, and then has its default effect.
    ::signal(signal, SIG_DFL);
  }
}

void on_fault(int signal, siginfo_t* info, void* context) {
  if (!handle_enclave_fault(signal, info, static_cast<ucontext_t*>(context))) pass_on(signal, info, context);
}

// Its arrival was the point: the AEX has happened, and the AEP's code asks whether to go in again.
void on_kick(int /*signal*/) {}

void install(int signal, struct sigaction action) {
  sigemptyset(&action.sa_mask);
  if (sigaction(signal, &action, &previous[signal]) != 0) {
    throw Error(Errc::kCrashed, "cannot install the handler of signal " + std::to_string(signal));
  }
}

}  // namespace

void install_signal_handlers() {
  static std::once_flag once;
  std::call_once(once, [] {
    for (const int signal : kFaults) {
      struct sigaction action {};
      action.sa_sigaction = on_fault;
      action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART | SA_NODEFER;
      install(signal, action);
    }
    struct sigaction action {};
    action.sa_handler = on_kick;
    action.sa_flags = SA_ONSTACK | SA_RESTART;
    install(kick_signal(), action);
  });
}

void kick(pthread_t thread) {
  pthread_kill(thread, kick_signal());
}

void unblock_enclave_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : kFaults) sigaddset(&set, signal);
  sigaddset(&set, kick_signal());
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

}  // namespace sealift::host

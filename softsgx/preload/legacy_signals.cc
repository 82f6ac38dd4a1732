// signal(3) and the other old interfaces. libc's own versions would reach the kernel past our sigaction.
#include <atomic>
#include <cerrno>
#include <csignal>

#include "softsgx/cpu/signal_table.h"
#include "softsgx/preload/next.h"

namespace softsgx::preload {
namespace {

// signal(3) and its relatives: one handler, fixed flags.
sighandler_t simple(int signal, sighandler_t handler, int flags, bool block_itself) noexcept {
  if (handler == SIG_ERR || signal < 1 || signal > kSignals) {
    errno = EINVAL;
    return SIG_ERR;
  }
  struct sigaction action {
  }, old;
  action.sa_handler = handler;
  action.sa_flags = flags;
  if (block_itself) sigaddset(&action.sa_mask, signal);
  return sigaction(signal, &action, &old) == 0 ? old.sa_handler : SIG_ERR;
}

std::atomic<std::uint64_t> g_interrupting = 0;  // siginterrupt(signal, 1)

int bsd_flags(int signal) noexcept {
  return g_interrupting & signal_bit(signal) ? 0 : SA_RESTART;
}

sigset_t only(int signal) noexcept {
  sigset_t s;
  sigemptyset(&s);
  sigaddset(&s, signal);
  return s;
}

// The BSD masks: signals 1 to 32 in an int.
int set_bsd_mask(int how, int mask) noexcept {
  sigset_t s, old;
  sigemptyset(&s);
  for (int n = 1; n <= 32; ++n) {
    if (static_cast<unsigned>(mask) >> (n - 1) & 1) sigaddset(&s, n);
  }
  if (sigprocmask(how, &s, &old) != 0) return -1;
  unsigned before = 0;
  for (int n = 1; n <= 32; ++n) before |= static_cast<unsigned>(sigismember(&old, n) == 1) << (n - 1);
  return static_cast<int>(before);
}

}  // namespace
}  // namespace softsgx::preload

using namespace softsgx::preload;  // NOLINT: the definitions below are libc's names

SOFTSGX_EXPORT sighandler_t signal(int signal, sighandler_t handler) noexcept {
  return simple(signal, handler, signal > 0 && signal <= softsgx::kSignals ? bsd_flags(signal) : 0, true);
}
SOFTSGX_EXPORT sighandler_t bsd_signal(int number, sighandler_t handler) noexcept {
  return signal(number, handler);
}
SOFTSGX_EXPORT sighandler_t ssignal(int number, sighandler_t handler) noexcept {
  return signal(number, handler);
}
SOFTSGX_EXPORT sighandler_t sysv_signal(int number, sighandler_t handler) noexcept {
  return simple(number, handler, static_cast<int>(SA_RESETHAND) | SA_NODEFER, false);
}
SOFTSGX_EXPORT sighandler_t __sysv_signal(int number, sighandler_t handler) noexcept {
  return sysv_signal(number, handler);
}

SOFTSGX_EXPORT int siginterrupt(int signal, int interrupt) noexcept {
  struct sigaction action;
  if (sigaction(signal, nullptr, &action) != 0) return -1;
  if (interrupt) {
    g_interrupting |= softsgx::signal_bit(signal);
    action.sa_flags &= ~SA_RESTART;
  } else {
    g_interrupting &= ~softsgx::signal_bit(signal);
    action.sa_flags |= SA_RESTART;
  }
  return sigaction(signal, &action, nullptr);
}

SOFTSGX_EXPORT int sighold(int signal) noexcept {
  const sigset_t s = only(signal);
  return sigprocmask(SIG_BLOCK, &s, nullptr);
}
SOFTSGX_EXPORT int sigrelse(int signal) noexcept {
  const sigset_t s = only(signal);
  return sigprocmask(SIG_UNBLOCK, &s, nullptr);
}
SOFTSGX_EXPORT int sigignore(int signal) noexcept {
  struct sigaction action {};
  action.sa_handler = SIG_IGN;
  return sigaction(signal, &action, nullptr);
}

// System V's: SIG_HOLD blocks, anything else installs and unblocks.
SOFTSGX_EXPORT sighandler_t sigset(int signal, sighandler_t handler) noexcept {
  const sigset_t s = only(signal);
  sigset_t before;
  struct sigaction old {};
  if (handler == SIG_HOLD) {
    if (sigprocmask(SIG_BLOCK, &s, &before) != 0 || sigaction(signal, nullptr, &old) != 0) return SIG_ERR;
  } else {
    struct sigaction action {};
    action.sa_handler = handler;
    if (sigaction(signal, &action, &old) != 0 || sigprocmask(SIG_UNBLOCK, &s, &before) != 0) return SIG_ERR;
  }
  return sigismember(&before, signal) == 1 ? SIG_HOLD : old.sa_handler;
}

SOFTSGX_EXPORT int sigblock(int mask) noexcept {
  return set_bsd_mask(SIG_BLOCK, mask);
}
SOFTSGX_EXPORT int sigsetmask(int mask) noexcept {
  return set_bsd_mask(SIG_SETMASK, mask);
}

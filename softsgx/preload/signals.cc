// sigaction, masks and alternate stacks: the program's view is virtual, see softsgx/cpu/signal_table.h.
#include "softsgx/preload/signals.h"

#include <pthread.h>

#include <atomic>
#include <cerrno>
#include <cstring>

#include "softsgx/cpu/thread_arena.h"
#include "softsgx/isa/raw_syscall.h"
#include "softsgx/preload/init.h"
#include "softsgx/preload/next.h"

extern "C" void softsgx_restorer();

namespace softsgx::preload {
namespace {

constexpr std::uint64_t kSaRestorer = 0x04000000;
// 32 and 33 belong to glibc's threads; its sigaction refuses them.
constexpr int kFirstReserved = 32, kLastReserved = 33;

std::uint64_t first_word(const sigset_t& set) noexcept {
  std::uint64_t v;
  std::memcpy(&v, &set, sizeof v);
  return v;
}

void set_first_word(sigset_t& set, std::uint64_t v) noexcept {
  sigemptyset(&set);
  std::memcpy(&set, &v, sizeof v);
}

std::uint64_t stack_pointer() noexcept {
  return reinterpret_cast<std::uint64_t>(__builtin_frame_address(0));
}

bool on(const stack_t& s, std::uint64_t sp) noexcept {
  const auto base = reinterpret_cast<std::uint64_t>(s.ss_sp);
  return s.ss_size != 0 && sp > base && sp - base <= s.ss_size;
}

int finish(long r) noexcept {
  if (r >= 0) return static_cast<int>(r);
  errno = static_cast<int>(-r);
  return -1;
}

}  // namespace

long do_sigaction(int signal, const KernelAction* action, KernelAction* old) noexcept {
  if (active()) return SignalTable::set(signal, action, old);
  return raw::call(SYS_rt_sigaction, static_cast<std::uint64_t>(signal), raw::arg(action), raw::arg(old),
                   sizeof(std::uint64_t));
}

long do_sigprocmask(int how, const std::uint64_t* set, std::uint64_t* old) noexcept {
  std::uint64_t wanted = 0;
  if (set) {
    wanted = *set;
    if (active() && how != SIG_UNBLOCK) wanted &= ~kOwnedSignals;
  }
  return raw::call(SYS_rt_sigprocmask, static_cast<std::uint64_t>(how), set ? raw::arg(&wanted) : 0, raw::arg(old),
                   sizeof wanted);
}

long do_sigaltstack(const stack_t* stack, stack_t* old) noexcept {
  ThreadRecord* r = active() ? ThreadArena::current() : nullptr;
  if (!r) return raw::call(SYS_sigaltstack, raw::arg(stack), raw::arg(old));
  const stack_t before = r->program_stack;
  const bool in_use = on(before, stack_pointer());
  if (stack) {
    if (in_use) return -EPERM;
    constexpr int kAutoDisarm = static_cast<int>(1u << 31);
    const int mode = stack->ss_flags & ~kAutoDisarm;
    if (mode != 0 && mode != SS_DISABLE && mode != SS_ONSTACK) return -EINVAL;
    if (mode == SS_DISABLE) {
      r->program_stack = {.ss_sp = nullptr, .ss_flags = SS_DISABLE, .ss_size = 0};
    } else if (stack->ss_size < static_cast<std::size_t>(MINSIGSTKSZ)) {
      return -ENOMEM;
    } else {
      r->program_stack = {.ss_sp = stack->ss_sp, .ss_flags = 0, .ss_size = stack->ss_size};
    }
  }
  if (old) {
    *old = before;
    old->ss_flags = before.ss_size == 0 ? SS_DISABLE : in_use ? SS_ONSTACK : 0;
  }
  return 0;
}

namespace {

KernelAction to_kernel(const struct sigaction& a) noexcept {
  return {.handler = reinterpret_cast<std::uint64_t>(a.sa_handler),
          .flags = static_cast<std::uint64_t>(static_cast<unsigned>(a.sa_flags)) | kSaRestorer,
          .restorer = reinterpret_cast<std::uint64_t>(&softsgx_restorer),
          .mask = first_word(a.sa_mask)};
}

void from_kernel(const KernelAction& k, struct sigaction& a) noexcept {
  std::memset(&a, 0, sizeof a);
  a.sa_handler = reinterpret_cast<void (*)(int)>(k.handler);
  a.sa_flags = static_cast<int>(k.flags);  // with SA_RESTORER, as glibc tells it
  set_first_word(a.sa_mask, k.mask);
}

}  // namespace
}  // namespace softsgx::preload

using namespace softsgx::preload;  // NOLINT: the definitions below are libc's names

SOFTSGX_EXPORT int sigaction(int signal, const struct sigaction* action, struct sigaction* old) noexcept {
  if (signal >= kFirstReserved && signal <= kLastReserved) return finish(-EINVAL);
  softsgx::KernelAction wanted, before;
  if (action) wanted = to_kernel(*action);
  const long r = do_sigaction(signal, action ? &wanted : nullptr, old ? &before : nullptr);
  if (r == 0 && old) from_kernel(before, *old);
  return finish(r);
}

SOFTSGX_EXPORT int __sigaction(int signal, const struct sigaction* action, struct sigaction* old) noexcept {
  return sigaction(signal, action, old);
}

SOFTSGX_EXPORT int pthread_sigmask(int how, const sigset_t* set, sigset_t* old) noexcept {
  std::uint64_t wanted = set ? first_word(*set) : 0, before = 0;
  // As glibc: its own two signals cannot be blocked.
  if (set && how != SIG_UNBLOCK) {
    wanted &= ~(softsgx::signal_bit(kFirstReserved) | softsgx::signal_bit(kLastReserved));
  }
  const long r = do_sigprocmask(how, set ? &wanted : nullptr, old ? &before : nullptr);
  if (r == 0 && old) set_first_word(*old, before);
  return static_cast<int>(-r);
}

SOFTSGX_EXPORT int sigprocmask(int how, const sigset_t* set, sigset_t* old) noexcept {
  return finish(-pthread_sigmask(how, set, old));
}

SOFTSGX_EXPORT int pthread_attr_setsigmask_np(pthread_attr_t* attr, const sigset_t* set) noexcept {
  if (!active() || !set) return SOFTSGX_NEXT(pthread_attr_setsigmask_np)(attr, set);
  sigset_t allowed;
  set_first_word(allowed, first_word(*set) & ~softsgx::kOwnedSignals);
  return SOFTSGX_NEXT(pthread_attr_setsigmask_np)(attr, &allowed);
}

SOFTSGX_EXPORT int sigaltstack(const stack_t* stack, stack_t* old) noexcept {
  return finish(do_sigaltstack(stack, old));
}

#include "softsgx/cpu/signal_table.h"

#include <array>
#include <atomic>
#include <cerrno>

#include "softsgx/isa/raw_syscall.h"

extern "C" {
void softsgx_signal_entry(int, siginfo_t*, void*);
void softsgx_restorer();
}

namespace softsgx {
namespace {

constexpr std::uint64_t kSaRestorer = 0x04000000;
// Flags whose effect is in the kernel; all others are emulated at delivery.
constexpr std::uint64_t kKernelFlags = static_cast<std::uint64_t>(SA_RESTART | SA_NOCLDSTOP | SA_NOCLDWAIT);

struct Slot {
  std::atomic<std::uint32_t> sequence = 0;  // odd while a writer is at work
  std::atomic<std::uint64_t> handler = 0, flags = 0, restorer = 0, mask = 0;
};
std::array<Slot, kSignals + 1> g_slots;
std::atomic<long> g_owner = 0;  // process whose dispositions the table holds

KernelAction load(Slot& s) noexcept {
  for (;;) {
    const std::uint32_t before = s.sequence.load(std::memory_order_acquire);
    const KernelAction a{s.handler.load(std::memory_order_relaxed), s.flags.load(std::memory_order_relaxed),
                         s.restorer.load(std::memory_order_relaxed), s.mask.load(std::memory_order_relaxed)};
    std::atomic_thread_fence(std::memory_order_acquire);
    if (!(before & 1) && s.sequence.load(std::memory_order_relaxed) == before) return a;
  }
}

// Signals must be blocked: a reader in a handler of this thread would spin for ever.
class Writer {
 public:
  explicit Writer(Slot& s) noexcept : slot_(s) {
    std::uint32_t even = slot_.sequence.load(std::memory_order_relaxed) & ~1u;
    while (!slot_.sequence.compare_exchange_weak(even, even + 1, std::memory_order_acquire)) even &= ~1u;
  }
  ~Writer() { slot_.sequence.fetch_add(1, std::memory_order_release); }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;
  void store(const KernelAction& a) noexcept {
    slot_.handler.store(a.handler, std::memory_order_relaxed);
    slot_.flags.store(a.flags, std::memory_order_relaxed);
    slot_.restorer.store(a.restorer, std::memory_order_relaxed);
    slot_.mask.store(a.mask, std::memory_order_relaxed);
  }

 private:
  Slot& slot_;
};

long kernel_sigaction(int signal, const KernelAction* action, KernelAction* old) noexcept {
  return raw::call(SYS_rt_sigaction, static_cast<std::uint64_t>(signal), raw::arg(action), raw::arg(old),
                   sizeof(std::uint64_t));
}

bool owned(int signal) noexcept {
  return kOwnedSignals & signal_bit(signal);
}

bool is_function(const KernelAction& a) noexcept {
  return a.handler != kDefaultHandler && a.handler != kIgnoreHandler;
}

// What the kernel gets to know for a program's disposition.
KernelAction kernel_side(int signal, const KernelAction& a) noexcept {
  if (!is_function(a) && !owned(signal)) return a;
  // A program that has no handler must not notice the signals that are ours: its system calls go on.
  const std::uint64_t flags = is_function(a) ? a.flags & kKernelFlags : std::uint64_t{SA_RESTART};
  return KernelAction{.handler = reinterpret_cast<std::uint64_t>(&softsgx_signal_entry),
                      .flags = static_cast<std::uint64_t>(SA_SIGINFO) | SA_ONSTACK | kSaRestorer | flags,
                      .restorer = reinterpret_cast<std::uint64_t>(&softsgx_restorer),
                      .mask = ~std::uint64_t{0}};
}

}  // namespace

void SignalTable::after_fork() noexcept {
  g_owner = raw::call(SYS_getpid);
}

void SignalTable::install() noexcept {
  SignalsBlocked blocked;
  g_owner = raw::call(SYS_getpid);
  for (int s = 1; s <= kSignals; ++s) {
    if (s == SIGKILL || s == SIGSTOP) continue;
    KernelAction now;
    if (kernel_sigaction(s, nullptr, &now) != 0) continue;
    {
      Writer w(g_slots[static_cast<std::size_t>(s)]);
      w.store(now);
    }
    if (owned(s) || is_function(now)) {
      const KernelAction ours = kernel_side(s, now);
      kernel_sigaction(s, &ours, nullptr);
    }
  }
}

int SignalTable::set(int signal, const KernelAction* action, KernelAction* old) noexcept {
  if (signal < 1 || signal > kSignals) return -EINVAL;
  if (signal == SIGKILL || signal == SIGSTOP || raw::call(SYS_getpid) != g_owner) {
    return static_cast<int>(kernel_sigaction(signal, action, old));
  }
  SignalsBlocked blocked;
  Slot& slot = g_slots[static_cast<std::size_t>(signal)];
  if (!action) {
    if (old) *old = load(slot);
    return 0;
  }
  const KernelAction wanted = *action;
  KernelAction before;
  {
    Writer w(slot);
    before = {slot.handler.load(std::memory_order_relaxed), slot.flags.load(std::memory_order_relaxed),
              slot.restorer.load(std::memory_order_relaxed), slot.mask.load(std::memory_order_relaxed)};
    const KernelAction ours = kernel_side(signal, wanted);
    if (const long r = kernel_sigaction(signal, &ours, nullptr); r != 0) return static_cast<int>(r);
    w.store(wanted);
  }
  if (old) *old = before;
  return 0;
}

KernelAction SignalTable::get(int signal) noexcept {
  return load(g_slots[static_cast<std::size_t>(signal)]);
}

void SignalTable::reset_to_default(int signal) noexcept {
  const KernelAction none{};
  set(signal, &none, nullptr);
}

void SignalTable::surrender(int signal) noexcept {
  SignalsBlocked blocked;
  Writer w(g_slots[static_cast<std::size_t>(signal)]);
  const KernelAction none{};
  w.store(none);
  kernel_sigaction(signal, &none, nullptr);
}

SignalsBlocked::SignalsBlocked() noexcept {
  const std::uint64_t all = ~std::uint64_t{0};
  raw::call(SYS_rt_sigprocmask, SIG_SETMASK, raw::arg(&all), raw::arg(&saved_), sizeof all);
}

SignalsBlocked::~SignalsBlocked() {
  raw::call(SYS_rt_sigprocmask, SIG_SETMASK, raw::arg(&saved_), 0, sizeof saved_);
}

}  // namespace softsgx

#include "softsgx/cpu/interrupt.h"

#include <dlfcn.h>
#include <pthread.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <random>

#include "softsgx/cpu/signal_table.h"
#include "softsgx/cpu/thread_arena.h"
#include "softsgx/isa/raw_syscall.h"

namespace softsgx {
namespace {

char g_cookie;  // its address tells our interrupts from the program's signals
// The same between processes, whose addresses differ.
void* const kLossCookie = reinterpret_cast<void*>(0x1055'0fe9'c59c);

siginfo_t message(void* cookie) noexcept {
  siginfo_t info{};
  info.si_signo = kInterruptSignal;
  info.si_code = SI_QUEUE;
  info.si_pid = static_cast<pid_t>(raw::call(SYS_getpid));
  info.si_value.sival_ptr = cookie;
  return info;
}

void interrupt(pid_t pid, pid_t tid) noexcept {
  const siginfo_t info = message(&g_cookie);
  raw::call(SYS_rt_tgsigqueueinfo, static_cast<std::uint64_t>(pid), static_cast<std::uint64_t>(tid), kInterruptSignal,
            raw::arg(&info));
}

struct Random {
  unsigned hz;
  std::uint64_t seed;
};
Random g_random{};

void* random_interrupts(void*) noexcept {
  std::mt19937_64 generator(g_random.seed);
  std::exponential_distribution<double> seconds(g_random.hz);
  for (;;) {
    const double wait = std::min(seconds(generator), 1.0);
    timespec pause{};
    pause.tv_nsec = static_cast<long>(wait * 1e9) % 1'000'000'000;
    raw::call(SYS_nanosleep, raw::arg(&pause));
    Interrupts::send_to_inside(kNotEpc);
  }
  return nullptr;
}

}  // namespace

bool Interrupts::is_interrupt(const siginfo_t& info) noexcept {
  return info.si_signo == kInterruptSignal && info.si_code == SI_QUEUE && info.si_value.sival_ptr == &g_cookie;
}

void Interrupts::tell_of_loss(int pid) noexcept {
  const siginfo_t info = message(kLossCookie);
  raw::call(SYS_rt_sigqueueinfo, static_cast<std::uint64_t>(pid), kInterruptSignal, raw::arg(&info));
}

bool Interrupts::tells_of_loss(const siginfo_t& info) noexcept {
  return info.si_signo == kInterruptSignal && info.si_code == SI_QUEUE && info.si_value.sival_ptr == kLossCookie;
}

void Interrupts::send_to_inside(std::uint32_t secs) noexcept {
  const auto pid = static_cast<pid_t>(raw::call(SYS_getpid));
  for (std::size_t i = 0; i < ThreadArena::used_slots(); ++i) {
    ThreadRecord& r = ThreadArena::slot(i);
    const pid_t tid = r.tid.load(std::memory_order_relaxed);
    if (tid == 0 || !r.in_enclave.load(std::memory_order_seq_cst)) continue;
    if (secs != kNotEpc && r.active_secs.load(std::memory_order_relaxed) != secs) continue;
    interrupt(pid, tid);
  }
}

bool Interrupts::start_random(unsigned hz, std::uint64_t seed) noexcept {
  g_random = {hz, seed};
  // libc's own: the thread is not the program's, and needs no record.
  using Create = int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
  const auto create = reinterpret_cast<Create>(dlsym(RTLD_NEXT, "pthread_create"));
  pthread_t thread;
  SignalsBlocked blocked;  // inherited: the program's signals never land there
  return create && create(&thread, nullptr, &random_interrupts, nullptr) == 0 && pthread_detach(thread) == 0;
}

}  // namespace softsgx

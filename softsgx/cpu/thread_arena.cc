#include "softsgx/cpu/thread_arena.h"

#include <linux/prctl.h>
#include <sys/mman.h>

#include <cerrno>
#include <new>

#include "softsgx/cpu/signal_table.h"
#include "softsgx/isa/raw_syscall.h"

extern "C" {
// Read by entry.S.
[[gnu::visibility("hidden")]] std::uint64_t softsgx_arena_begin = 0;
[[gnu::visibility("hidden")]] std::uint64_t softsgx_arena_bytes = 0;
extern const char softsgx_restorer_begin[], softsgx_restorer_end[];
// The calling thread's record; read by patched.S too. Initial-exec: readable in a signal handler without a call into
// the dynamic linker.
[[gnu::visibility("hidden"),
  gnu::tls_model("initial-exec")]] thread_local softsgx::ThreadRecord* softsgx_thread_record = nullptr;
}

namespace softsgx {
namespace {

std::atomic<std::size_t> g_used = 0;

pid_t own_tid() noexcept {
  return static_cast<pid_t>(raw::call(SYS_gettid));
}

bool thread_exists(pid_t tid) noexcept {
  const auto pid = static_cast<std::uint64_t>(raw::call(SYS_getpid));
  return raw::call(SYS_tgkill, pid, static_cast<std::uint64_t>(tid), 0) != -ESRCH;
}

ThreadRecord* claim(std::size_t i, pid_t expected, pid_t tid) noexcept {
  ThreadRecord& r = ThreadArena::slot(i);
  if (!r.tid.compare_exchange_strong(expected, tid)) return nullptr;
  std::size_t used = g_used.load();
  while (used <= i && !g_used.compare_exchange_weak(used, i + 1)) {
  }
  r.in_enclave = 0;
  r.selector = kSyscallsAllowed;
  r.dispatch_armed = false;
  r.program_stack = {.ss_sp = nullptr, .ss_flags = SS_DISABLE, .ss_size = 0};
  r.lp = LogicalProcessor{};
  return &r;
}

ThreadRecord* find_slot(pid_t tid) noexcept {
  for (std::size_t i = 0; i < ThreadArena::kSlots; ++i) {
    if (ThreadArena::slot(i).tid.load(std::memory_order_relaxed) != 0) continue;
    if (ThreadRecord* r = claim(i, 0, tid)) return r;
  }
  // Threads that ended without passing disarm() (raw clone, _exit of a thread) left theirs behind.
  for (std::size_t i = 0; i < ThreadArena::kSlots; ++i) {
    const pid_t owner = ThreadArena::slot(i).tid.load(std::memory_order_relaxed);
    if (owner != 0 && !thread_exists(owner)) {
      if (ThreadRecord* r = claim(i, owner, tid)) return r;
    }
  }
  return nullptr;
}

stack_t stack_of(ThreadRecord& r) noexcept {
  return {
      .ss_sp = reinterpret_cast<std::byte*>(&r) + kRecordBytes, .ss_flags = 0, .ss_size = kSlotBytes - kRecordBytes};
}

long set_stack(const stack_t* stack, stack_t* old) noexcept {
  return raw::call(SYS_sigaltstack, raw::arg(stack), raw::arg(old));
}

}  // namespace

bool ThreadArena::create() noexcept {
  const std::size_t bytes = kSlots * kSlotBytes;
  const long at = raw::call(SYS_mmap, 0, bytes + kSlotBytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, ~std::uint64_t{0}, 0);
  if (at < 0) return false;
  softsgx_arena_begin = (static_cast<std::uint64_t>(at) + kSlotBytes - 1) & ~(kSlotBytes - 1);
  softsgx_arena_bytes = bytes;
  return true;
}

ThreadRecord& ThreadArena::slot(std::size_t i) noexcept {
  // Fresh slots are zero pages, which is what a free ThreadRecord is.
  return *std::launder(reinterpret_cast<ThreadRecord*>(softsgx_arena_begin + i * kSlotBytes));
}

std::size_t ThreadArena::used_slots() noexcept {
  return g_used.load();
}

ThreadRecord* ThreadArena::current() noexcept {
  return softsgx_thread_record;
}

ThreadRecord* ThreadArena::arm(ucontext_t* frame) noexcept {
  if (softsgx_thread_record) return softsgx_thread_record;
  ThreadRecord* r = find_slot(own_tid());
  if (!r) return nullptr;
  const stack_t stack = stack_of(*r);
  if (frame) {
    // The handler may be running on a stack that the program set behind our back: that becomes its virtual one.
    if (!(frame->uc_stack.ss_flags & SS_DISABLE)) r->program_stack = frame->uc_stack;
    frame->uc_stack = stack;
  } else {
    stack_t old{};
    set_stack(nullptr, &old);
    if (!(old.ss_flags & SS_DISABLE)) r->program_stack = old;
    if (set_stack(&stack, nullptr) != 0) {
      r->tid = 0;
      return nullptr;
    }
  }
  softsgx_thread_record = r;
  return r;
}

void ThreadArena::disarm() noexcept {
  ThreadRecord* r = softsgx_thread_record;
  if (!r) return;
  SignalsBlocked blocked;
  if (r->dispatch_armed) raw::call(SYS_prctl, PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_OFF);
  stack_t restored = r->program_stack;
  restored.ss_flags &= ~SS_ONSTACK;
  set_stack(&restored, nullptr);
  softsgx_thread_record = nullptr;
  r->tid.store(0, std::memory_order_release);
}

void ThreadArena::after_fork() noexcept {
  for (std::size_t i = 0; i < used_slots(); ++i) {
    if (&slot(i) != softsgx_thread_record) slot(i).tid = 0;
  }
  if (!softsgx_thread_record) return;
  softsgx_thread_record->tid = own_tid();
  softsgx_thread_record->dispatch_armed = false;
}

bool ThreadArena::arm_dispatch(ThreadRecord& record) noexcept {
  if (record.dispatch_armed) return true;
  const auto begin = reinterpret_cast<std::uint64_t>(softsgx_restorer_begin);
  const auto end = reinterpret_cast<std::uint64_t>(softsgx_restorer_end);
  record.dispatch_armed = raw::call(SYS_prctl, PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, begin, end - begin,
                                    raw::arg(&record.selector)) == 0;
  return record.dispatch_armed;
}

}  // namespace softsgx

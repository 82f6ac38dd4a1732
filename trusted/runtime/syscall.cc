#include "trusted/runtime/syscall.h"

#include <asm/prctl.h>
#include <asm/unistd_64.h>

#include "trusted/core/area.h"
#include "trusted/core/crypto.h"
#include "trusted/core/memory.h"
#include "trusted/runtime/heap.h"

namespace sealift::runtime {
namespace {

constexpr std::uint64_t kPid = thread_id(abi::kMainTcs);

std::uint64_t tid() noexcept {
  return thread_id(core::thread_index());
}

std::uint64_t mmap(const SyscallRegs& r) noexcept {
  constexpr std::uint64_t kMapFixed = 0x10, kMapAnonymous = 0x20;
  if ((r.r10 & kMapAnonymous) == 0 || (r.r10 & kMapFixed) != 0) return kEinval;
  const std::uint64_t address = heap_map(r.rsi);
  return address == 0 ? kEnomem : address;
}

std::uint64_t mremap(const SyscallRegs& r) noexcept {
  constexpr std::uint64_t kMayMove = 1;
  if (r.r10 != kMayMove) return kEinval;
  const std::uint64_t address = heap_remap(r.rdi, r.rsi, r.rdx);
  return address == 0 ? kEnomem : address;
}

std::uint64_t getrandom(const SyscallRegs& r) noexcept {
  return core::random_bytes(reinterpret_cast<void*>(r.rdi), r.rsi) ? r.rsi : kEagain;
}

std::uint64_t arch_prctl(const SyscallRegs& r) noexcept {
  if (r.rdi != ARCH_SET_FS) return kEinval;
  core::set_tls(r.rsi);
  return 0;
}

// The limits of the manifest, not of the host: glibc sizes default thread stacks by the first.
std::uint64_t prlimit(const SyscallRegs& r) noexcept {
  constexpr std::uint64_t kStack = 3;
  if (r.rdx != 0) return kEperm;
  auto* limit = reinterpret_cast<std::uint64_t*>(r.r10);
  if (limit == nullptr) return 0;
  limit[0] = limit[1] = r.rsi == kStack ? core::config().main_stack_limit : ~std::uint64_t{0};
  return 0;
}

// std::thread::hardware_concurrency: as many CPUs as there may be threads, since the host's number would not travel.
std::uint64_t getaffinity(const SyscallRegs& r) noexcept {
  if (r.rsi < 8) return kEinval;
  const std::uint32_t n = core::config().tcs_count - abi::kMainTcs;
  *reinterpret_cast<std::uint64_t*>(r.rdx) = n >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << n) - 1;
  return 8;
}

std::uint64_t clock_gettime(const SyscallRegs& r) noexcept {
  std::int64_t time[2];
  const std::uint64_t result = clock(r.rdi, time);
  if (result == 0) core::copy(reinterpret_cast<void*>(r.rsi), time, sizeof time);
  return result;
}

std::uint64_t gettimeofday(const SyscallRegs& r) noexcept {
  std::int64_t time[2];
  const std::uint64_t result = clock(0, time);
  time[1] /= 1000;
  if (result == 0 && r.rdi != 0) core::copy(reinterpret_cast<void*>(r.rdi), time, sizeof time);
  return result;
}

std::uint64_t time(const SyscallRegs& r) noexcept {
  std::int64_t now[2];
  const std::uint64_t result = clock(0, now);
  if (result != 0) return result;
  if (r.rdi != 0) core::copy(reinterpret_cast<void*>(r.rdi), now, sizeof now[0]);
  return static_cast<std::uint64_t>(now[0]);
}

std::uint64_t dispatch(const SyscallRegs& r) noexcept {
  switch (r.rax) {
    case __NR_brk:
      return heap_brk(r.rdi);
    case __NR_mmap:
      return mmap(r);
    case __NR_munmap:
      return heap_unmap(r.rdi, r.rsi) ? 0 : kEinval;
    case __NR_mremap:
      return mremap(r);
    case __NR_arch_prctl:
      return arch_prctl(r);
    case __NR_set_tid_address:
      core::set_clear_tid(r.rdi);
      return tid();
    case __NR_gettid:
      return tid();
    case __NR_getpid:
      return kPid;
    case __NR_getrandom:
      return getrandom(r);
    case __NR_prlimit64:
      return prlimit(r);
    case __NR_sched_getaffinity:
      return getaffinity(r);
    case __NR_clock_gettime:
      return clock_gettime(r);
    case __NR_gettimeofday:
      return gettimeofday(r);
    case __NR_time:
      return time(r);
    case __NR_futex:
      return futex(r);
    case __NR_clone3:
      return clone3(r);
    case __NR_exit:
      thread_exit();
    case __NR_exit_group:
      process_exit(r.rdi);
    // Rights are EPCM's and were fixed at EADD; signals do not reach inside; robust futexes and rseq are the kernel's.
    case __NR_mprotect:
    case __NR_madvise:
    case __NR_set_robust_list:
    case __NR_rt_sigprocmask:
    case __NR_rt_sigaction:
    case __NR_sigaltstack:
    case __NR_tgkill:
    case __NR_sched_yield:
      return 0;
    case __NR_ioctl:
      return kEnotty;
    default:
      return forward(r);
  }
}

}  // namespace
}  // namespace sealift::runtime

extern "C" void sealift_syscall(sealift::core::SyscallRegs& regs) {
  regs.rax = sealift::runtime::dispatch(regs);
}

#include "softsgx/driver/user_memory.h"

#include <sys/mman.h>
#include <sys/uio.h>

#include <cerrno>

#include "sgx/arch.h"
#include "softsgx/isa/raw_syscall.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

namespace softsgx {
namespace {

// The kernel copies between two ranges of this process and answers EFAULT where a pointer is bad.
bool copy(long number, std::uint64_t remote, const void* local, std::size_t bytes) noexcept {
  const iovec here{.iov_base = const_cast<void*>(local), .iov_len = bytes};
  const iovec there{.iov_base = reinterpret_cast<void*>(remote), .iov_len = bytes};
  const auto pid = static_cast<std::uint64_t>(raw::call(SYS_getpid));
  return raw::call(number, pid, raw::arg(&here), 1, raw::arg(&there), 1) == static_cast<long>(bytes);
}

}  // namespace

bool copy_from_user(void* to, std::uint64_t from, std::size_t bytes) noexcept {
  return copy(SYS_process_vm_readv, from, to, bytes);
}

bool copy_to_user(std::uint64_t to, const void* from, std::size_t bytes) noexcept {
  return copy(SYS_process_vm_writev, to, from, bytes);
}

bool readable(std::uint64_t from, std::size_t bytes) noexcept {
  constexpr std::uint64_t kMask = sgx::kPageSize - 1;
  const std::uint64_t first = from & ~kMask;
  const std::uint64_t length = (from + bytes - first + kMask) & ~kMask;
  const long r = raw::call(SYS_madvise, first, length, MADV_POPULATE_READ);
  if (r != -EINVAL) return r == 0;
  // Linux before 5.14, or a special mapping: page by page.
  for (std::uint64_t at = first; at < first + length; at += sgx::kPageSize) {
    char byte;
    if (!copy_from_user(&byte, at, 1)) return false;
  }
  return true;
}

}  // namespace softsgx

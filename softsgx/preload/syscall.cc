// syscall(3): programs that call the kernel by number still mean our files, mappings and signals.
#include <sys/syscall.h>

#include <cerrno>
#include <cstdarg>

#include "softsgx/isa/raw_syscall.h"
#include "softsgx/preload/files.h"
#include "softsgx/preload/init.h"
#include "softsgx/preload/memory.h"
#include "softsgx/preload/next.h"
#include "softsgx/preload/signals.h"

namespace softsgx::preload {
namespace {

using Arguments = const std::uint64_t (&)[6];

template <typename T>
T* pointer(std::uint64_t v) noexcept {
  return reinterpret_cast<T*>(v);
}

long dispatch(long number, Arguments a) {
  const auto plain = [&] { return raw::call(number, a[0], a[1], a[2], a[3], a[4], a[5]); };
  const int fd = static_cast<int>(a[0]);
  switch (number) {
    case SYS_open:
      if (const auto r = open_node(pointer<const char>(a[0]), static_cast<int>(a[1]))) return *r;
      return plain();
    case SYS_openat:
      if (const auto r = open_node(pointer<const char>(a[1]), static_cast<int>(a[2]))) return *r;
      return plain();
    case SYS_ioctl:
      if (const auto r = enclave_ioctl(fd, a[1], a[2])) return *r;
      return plain();
    case SYS_close:
      return do_close(fd);
    case SYS_mmap:
      return do_mmap(a[0], a[1], static_cast<int>(a[2]), static_cast<int>(a[3]), static_cast<int>(a[4]), a[5]);
    case SYS_munmap:
      return do_munmap(a[0], a[1]);
    case SYS_mprotect:
      return do_mprotect(a[0], a[1], static_cast<int>(a[2]));
    case SYS_rt_sigaction:
      return do_sigaction(static_cast<int>(a[0]), pointer<const KernelAction>(a[1]), pointer<KernelAction>(a[2]));
    case SYS_rt_sigprocmask:
      return do_sigprocmask(static_cast<int>(a[0]), pointer<const std::uint64_t>(a[1]), pointer<std::uint64_t>(a[2]));
    case SYS_sigaltstack:
      return do_sigaltstack(pointer<const stack_t>(a[0]), pointer<stack_t>(a[1]));
    default:
      return plain();
  }
}

}  // namespace
}  // namespace softsgx::preload

SOFTSGX_EXPORT long syscall(long number, ...) noexcept {
  std::uint64_t a[6];
  va_list list;
  va_start(list, number);
  for (std::uint64_t& v : a) v = va_arg(list, std::uint64_t);
  va_end(list);
  const long r = softsgx::preload::dispatch(number, a);
  if (r >= 0 || r < -4095) return r;
  errno = static_cast<int>(-r);
  return -1;
}

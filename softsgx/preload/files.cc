// open and friends on the device nodes, ioctl and close on their descriptors.
#include "softsgx/preload/files.h"

#include <asm/sgx.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <cstring>

#include "softsgx/driver/device.h"
#include "softsgx/isa/raw_syscall.h"
#include "softsgx/preload/init.h"
#include "softsgx/preload/next.h"

namespace softsgx::preload {

std::optional<long> open_node(const char* path, int flags) {
  if (!active()) return std::nullopt;
  const DeviceNode node = device_node(path);
  if (node == DeviceNode::kNone) return std::nullopt;
  if (node == DeviceNode::kEnclave) first_enclave();
  return g_devices->open(node, flags);
}

std::optional<long> enclave_ioctl(int fd, unsigned long command, std::uint64_t argument) {
  if (!active() || _IOC_TYPE(command) != SGX_MAGIC) return std::nullopt;
  Enclave* e = g_devices->find(fd);
  if (!e) return std::nullopt;
  return e->ioctl(command, argument);
}

long do_close(int fd) {
  Enclave* e = active() ? g_devices->find(fd) : nullptr;
  const long r = raw::call(SYS_close, static_cast<std::uint64_t>(fd));
  if (e && r == 0) g_devices->after_close();
  return r;
}

namespace {

int finish(long r) noexcept {
  if (r >= 0) return static_cast<int>(r);
  errno = static_cast<int>(-r);
  return -1;
}

// What stat(2) shows for a node: a misc character device.
bool stat_node(const char* path, struct stat* out) noexcept {
  if (!active() || device_node(path) == DeviceNode::kNone) return false;
  constexpr unsigned kMiscMajor = 10, kDynamicMinor = 125;
  std::memset(out, 0, sizeof *out);
  out->st_mode = S_IFCHR | 0600;
  out->st_nlink = 1;
  out->st_rdev = makedev(kMiscMajor, kDynamicMinor);
  out->st_blksize = static_cast<blksize_t>(sgx::kPageSize);
  return true;
}

bool is_node(const char* path) noexcept {
  return active() && device_node(path) != DeviceNode::kNone;
}

mode_t mode_argument(int flags, va_list list) noexcept {
  return flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(list, mode_t) : 0;
}

}  // namespace
}  // namespace softsgx::preload

using namespace softsgx::preload;  // NOLINT: the definitions below are libc's names

#define SOFTSGX_MODE(flags)                       \
  va_list list;                                   \
  va_start(list, flags);                          \
  const mode_t mode = mode_argument(flags, list); \
  va_end(list)

SOFTSGX_EXPORT int open(const char* path, int flags, ...) {
  SOFTSGX_MODE(flags);
  if (const auto r = open_node(path, flags)) return finish(*r);
  return SOFTSGX_NEXT(open)(path, flags, mode);
}

SOFTSGX_EXPORT int open64(const char* path, int flags, ...) {
  SOFTSGX_MODE(flags);
  if (const auto r = open_node(path, flags)) return finish(*r);
  return SOFTSGX_NEXT(open64)(path, flags, mode);
}

SOFTSGX_EXPORT int openat(int dir, const char* path, int flags, ...) {
  SOFTSGX_MODE(flags);
  if (const auto r = open_node(path, flags)) return finish(*r);
  return SOFTSGX_NEXT(openat)(dir, path, flags, mode);
}

SOFTSGX_EXPORT int openat64(int dir, const char* path, int flags, ...) {
  SOFTSGX_MODE(flags);
  if (const auto r = open_node(path, flags)) return finish(*r);
  return SOFTSGX_NEXT(openat64)(dir, path, flags, mode);
}

// What _FORTIFY_SOURCE turns calls without a mode into.
SOFTSGX_EXPORT int __open_2(const char* path, int flags) {
  return open(path, flags);
}
SOFTSGX_EXPORT int __open64_2(const char* path, int flags) {
  return open64(path, flags);
}
SOFTSGX_EXPORT int __openat_2(int dir, const char* path, int flags) {
  return openat(dir, path, flags);
}
SOFTSGX_EXPORT int __openat64_2(int dir, const char* path, int flags) {
  return openat64(dir, path, flags);
}

SOFTSGX_EXPORT int access(const char* path, int how) noexcept {
  if (is_node(path)) return how & X_OK ? finish(-EACCES) : 0;
  return SOFTSGX_NEXT(access)(path, how);
}

SOFTSGX_EXPORT int stat(const char* path, struct stat* out) noexcept {
  return stat_node(path, out) ? 0 : SOFTSGX_NEXT(stat)(path, out);
}

SOFTSGX_EXPORT int lstat(const char* path, struct stat* out) noexcept {
  return stat_node(path, out) ? 0 : SOFTSGX_NEXT(lstat)(path, out);
}

SOFTSGX_EXPORT int ioctl(int fd, unsigned long command, ...) noexcept {
  va_list list;
  va_start(list, command);
  void* argument = va_arg(list, void*);
  va_end(list);
  if (const auto r = enclave_ioctl(fd, command, softsgx::raw::arg(argument))) return finish(*r);
  return finish(softsgx::raw::call(SYS_ioctl, static_cast<std::uint64_t>(fd), command, softsgx::raw::arg(argument)));
}

SOFTSGX_EXPORT int close(int fd) {
  if (!active() || !softsgx::g_devices->find(fd)) return SOFTSGX_NEXT(close)(fd);
  return finish(do_close(fd));
}

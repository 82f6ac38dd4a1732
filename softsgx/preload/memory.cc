// mmap, mprotect, munmap: mappings of enclave files, and other mappings that replace them.
//
// What the kernel maps for an enclave file's VMA is a placeholder without rights; the driver lays EPC pages over it.
#include "softsgx/preload/memory.h"

#include <sys/mman.h>

#include <cerrno>
#include <vector>

#include "softsgx/driver/device.h"
#include "softsgx/isa/raw_syscall.h"
#include "softsgx/preload/init.h"
#include "softsgx/preload/next.h"

namespace softsgx::preload {
namespace {

constexpr std::uint64_t kPageMask = sgx::kPageSize - 1;

std::uint64_t page_up(std::uint64_t v) noexcept {
  return (v + kPageMask) & ~kPageMask;
}

bool failed(long r) noexcept {
  return r < 0 && r > -4096;
}

void forget(const Range& range) {
  g_devices->for_each_touching(range, [&](Enclave& e) {
    e.unmapped(range);
    e.release_if_unused();
  });
}

long map_enclave(Enclave& e, std::uint64_t address, std::uint64_t length, int prot, int flags, std::uint64_t offset) {
  if ((flags & MAP_TYPE) == MAP_PRIVATE || length == 0 || (offset & kPageMask)) return -EINVAL;
  const std::uint64_t bytes = page_up(length);
  const bool fixed = flags & (MAP_FIXED | MAP_FIXED_NOREPLACE);
  if (fixed) {
    if (const long r = e.may_map({address, address + bytes}, prot); r != 0) return r;
  }
  const int placement = flags & (MAP_FIXED | MAP_FIXED_NOREPLACE | MAP_32BIT);
  const long at = raw::call(SYS_mmap, address, bytes, PROT_NONE,
                            static_cast<std::uint64_t>(placement | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE),
                            ~std::uint64_t{0}, 0);
  if (failed(at)) return at;
  const Range range{static_cast<std::uint64_t>(at), static_cast<std::uint64_t>(at) + bytes};
  if (fixed) forget(range);
  long r = fixed ? 0 : e.may_map(range, prot);
  if (r == 0) r = e.mapped(range, prot);
  if (r == 0) return at;
  e.unmapped(range);
  raw::call(SYS_munmap, range.begin, bytes);
  return r;
}

// mprotect of a range that touches enclaves: all parts are checked before any changes.
long protect_enclaves(const Range& range, int prot) {
  struct Part {
    Enclave* enclave;
    Range range;
  };
  std::map<std::uint64_t, Part> parts;  // by begin
  long r = 0;
  g_devices->for_each_touching(range, [&](Enclave& e) {
    e.for_each_mapping(range, [&](const VmaTable::Vma& vma) { parts.emplace(vma.range.begin, Part{&e, vma.range}); });
  });
  for (const auto& [begin, part] : parts) {
    if ((r = part.enclave->may_map(part.range, prot)) != 0) return r;
  }
  std::uint64_t next = range.begin;
  auto ordinary = [&](std::uint64_t end) {
    if (next < end && r == 0) r = raw::call(SYS_mprotect, next, end - next, static_cast<std::uint64_t>(prot));
    next = end;
  };
  for (const auto& [begin, part] : parts) {
    ordinary(begin);
    if (r == 0) r = part.enclave->protect(part.range, prot);
    next = part.range.end;
  }
  ordinary(range.end);
  return r;
}

long finish(long r) noexcept {
  if (!failed(r)) return r;
  errno = static_cast<int>(-r);
  return -1;
}

}  // namespace

long do_mmap(std::uint64_t address, std::uint64_t length, int prot, int flags, int fd, std::uint64_t offset) {
  if (active()) {
    Enclave* e = flags & MAP_ANONYMOUS ? nullptr : g_devices->find(fd);
    if (e) return map_enclave(*e, address, length, prot, flags, offset);
  }
  const long at = raw::call(SYS_mmap, address, length, static_cast<std::uint64_t>(prot),
                            static_cast<std::uint64_t>(flags), static_cast<std::uint64_t>(fd), offset);
  if (!failed(at) && active() && (flags & MAP_FIXED)) {
    forget({static_cast<std::uint64_t>(at), static_cast<std::uint64_t>(at) + page_up(length)});
  }
  return at;
}

long do_munmap(std::uint64_t address, std::uint64_t length) {
  const Range range{address, address + page_up(length)};
  if (!active() || (address & kPageMask) || !g_devices->touches(range)) return raw::call(SYS_munmap, address, length);
  // In this order: once the kernel has unmapped the range, another thread may map an enclave there. EPC is given back
  // last, when no mapping shows it any more.
  g_devices->for_each_touching(range, [&](Enclave& e) { e.unmapped(range); });
  const long r = raw::call(SYS_munmap, address, length);
  g_devices->release_unused();
  return r;
}

long do_mprotect(std::uint64_t address, std::uint64_t length, int prot) {
  const Range range{address, address + page_up(length)};
  if (active() && !(address & kPageMask) && g_devices->touches(range)) return protect_enclaves(range, prot);
  return raw::call(SYS_mprotect, address, length, static_cast<std::uint64_t>(prot));
}

}  // namespace softsgx::preload

using softsgx::preload::finish;

SOFTSGX_EXPORT void* mmap(void* address, size_t length, int prot, int flags, int fd, off_t offset) noexcept {
  return reinterpret_cast<void*>(finish(softsgx::preload::do_mmap(softsgx::raw::arg(address), length, prot, flags, fd,
                                                                  static_cast<std::uint64_t>(offset))));
}

SOFTSGX_EXPORT void* mmap64(void* address, size_t length, int prot, int flags, int fd, off64_t offset) noexcept {
  return mmap(address, length, prot, flags, fd, offset);
}

SOFTSGX_EXPORT int munmap(void* address, size_t length) noexcept {
  return static_cast<int>(finish(softsgx::preload::do_munmap(softsgx::raw::arg(address), length)));
}

SOFTSGX_EXPORT int mprotect(void* address, size_t length, int prot) noexcept {
  return static_cast<int>(finish(softsgx::preload::do_mprotect(softsgx::raw::arg(address), length, prot)));
}

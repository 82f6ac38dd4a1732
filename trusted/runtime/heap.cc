#include "trusted/runtime/heap.h"

#include <atomic>

#include "trusted/core/area.h"
#include "trusted/core/core.h"
#include "trusted/core/memory.h"

extern "C" {
std::uint64_t sealift_heap_map[sealift::runtime::kMaxHeapBytes / sgx::kPageSize / 64];
}

namespace sealift::runtime {
namespace {

using core::config;

std::atomic_flag locked;
std::uint64_t brk_bytes;  // the break, from the heap's start
std::uint64_t map_floor;  // pages below the top that mappings have used so far: where the next search starts from

// A holder may be parked with the lock held; those who spin are then parked, too, at the next kick.
class Lock {
 public:
  Lock() noexcept {
    while (locked.test_and_set(std::memory_order_acquire)) __builtin_ia32_pause();
  }
  ~Lock() { locked.clear(std::memory_order_release); }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;
};

std::uint64_t heap_base() noexcept {
  return core::base() + config().heap_offset;
}
std::uint64_t heap_pages() noexcept {
  const std::uint64_t size = config().heap_size < kMaxHeapBytes ? config().heap_size : kMaxHeapBytes;
  return size / sgx::kPageSize;
}
std::uint64_t pages_of(std::uint64_t bytes) noexcept {
  return bytes / sgx::kPageSize + (bytes % sgx::kPageSize != 0 ? 1 : 0);
}

bool used(std::uint64_t page) noexcept {
  return ((sealift_heap_map[page / 64] >> (page % 64)) & 1) != 0;
}
void mark(std::uint64_t first, std::uint64_t n, bool in_use) noexcept {
  for (std::uint64_t p = first; p < first + n; ++p) {
    const std::uint64_t bit = std::uint64_t{1} << (p % 64);
    sealift_heap_map[p / 64] = in_use ? sealift_heap_map[p / 64] | bit : sealift_heap_map[p / 64] & ~bit;
  }
}

// Marked first: a thread that is parked while it zeroes must find on the target what it has zeroed. Pages that are not
// in use do not travel, and there hold whatever the host put into them at EADD.
void take(std::uint64_t first, std::uint64_t n) noexcept {
  mark(first, n, true);
  core::fill(reinterpret_cast<void*>(heap_base() + first * sgx::kPageSize), 0, n * sgx::kPageSize);
}

// First fit from the top: mappings grow down towards the break. ~0: none.
std::uint64_t find_run(std::uint64_t n) noexcept {
  const std::uint64_t low = pages_of(brk_bytes);
  std::uint64_t end = heap_pages() - map_floor;
  std::uint64_t run = 0;
  for (std::uint64_t p = end; p > low; --p) {
    run = used(p - 1) ? 0 : run + 1;
    if (run == n) return p - 1;
  }
  return ~std::uint64_t{0};
}

std::uint64_t map_locked(std::uint64_t bytes) noexcept {
  const std::uint64_t n = pages_of(bytes);
  if (n == 0 || n > heap_pages()) return 0;
  const std::uint64_t first = find_run(n);
  if (first == ~std::uint64_t{0}) return 0;
  while (map_floor < heap_pages() && used(heap_pages() - map_floor - 1)) ++map_floor;
  take(first, n);
  return heap_base() + first * sgx::kPageSize;
}

// The pages of [address, address + bytes), when it is a page-aligned range above the break.
bool range_of(std::uint64_t address, std::uint64_t bytes, std::uint64_t& first, std::uint64_t& n) noexcept {
  const std::uint64_t offset = address - heap_base();
  first = offset / sgx::kPageSize;
  n = pages_of(bytes);
  return offset % sgx::kPageSize == 0 && bytes != 0 && n <= heap_pages() && first <= heap_pages() - n &&
         first >= pages_of(brk_bytes);
}

void unmap_locked(std::uint64_t first, std::uint64_t n) noexcept {
  mark(first, n, false);
  const std::uint64_t from_top = heap_pages() - (first + n);
  if (from_top < map_floor) map_floor = from_top;
}

}  // namespace

std::uint64_t heap_brk(std::uint64_t address) noexcept {
  const Lock lock;
  const std::uint64_t wanted = address - heap_base();
  if (address < heap_base() || wanted > heap_pages() * sgx::kPageSize) return heap_base() + brk_bytes;
  const std::uint64_t now = pages_of(brk_bytes), then = pages_of(wanted);
  for (std::uint64_t p = now; p < then; ++p) {
    if (used(p)) return heap_base() + brk_bytes;
  }
  if (then > now) take(now, then - now);
  if (then < now) mark(then, now - then, false);
  brk_bytes = wanted;
  return address;
}

std::uint64_t heap_map(std::uint64_t bytes) noexcept {
  const Lock lock;
  return map_locked(bytes);
}

bool heap_unmap(std::uint64_t address, std::uint64_t bytes) noexcept {
  const Lock lock;
  std::uint64_t first = 0, n = 0;
  if (!range_of(address, bytes, first, n)) return false;
  unmap_locked(first, n);
  return true;
}

std::uint64_t heap_remap(std::uint64_t address, std::uint64_t old_bytes, std::uint64_t bytes) noexcept {
  const Lock lock;
  std::uint64_t first = 0, n = 0;
  if (!range_of(address, old_bytes, first, n)) return 0;
  const std::uint64_t wanted = pages_of(bytes);
  if (wanted <= n) {
    if (wanted < n) unmap_locked(first + wanted, n - wanted);
    return address;
  }
  const std::uint64_t to = map_locked(bytes);
  if (to == 0) return 0;
  core::copy(reinterpret_cast<void*>(to), reinterpret_cast<const void*>(address), n * sgx::kPageSize);
  unmap_locked(first, n);
  return to;
}

}  // namespace sealift::runtime

#include "softsgx/driver/page_table.h"

#include <sys/mman.h>

#include "softsgx/isa/raw_syscall.h"

namespace softsgx {
namespace {

void* reserve(std::uint64_t bytes) noexcept {
  const long at = raw::call(SYS_mmap, 0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                            ~std::uint64_t{0}, 0);
  return at < 0 && at > -4096 ? nullptr : reinterpret_cast<void*>(at);
}

// Zeroes in place, memory given back.
void zero(void* at, std::uint64_t bytes) noexcept {
  if (at) raw::call(SYS_madvise, raw::arg(at), (bytes + sgx::kPageSize - 1) & ~(sgx::kPageSize - 1), MADV_DONTNEED);
}

}  // namespace

bool PageTable::reset(std::uint64_t base, std::uint64_t size) noexcept {
  clear();
  const std::uint64_t count = size >> sgx::kPageShift;
  if (count > capacity_) {
    // The old arrays stay reserved: a reader may still look at them. They are empty and cost address space only.
    auto* entries = static_cast<std::atomic<std::uint32_t>*>(reserve(count * sizeof(std::uint32_t)));
    auto* info = static_cast<std::uint8_t*>(reserve(count));
    if (!entries || !info) return false;
    entries_.store(entries, std::memory_order_release);
    info_ = info;
    capacity_ = count;
  }
  base_.store(base, std::memory_order_release);
  size_.store(size, std::memory_order_release);
  return true;
}

void PageTable::clear() noexcept {
  size_.store(0, std::memory_order_release);
  zero(entries_.load(), capacity_ * sizeof(std::uint32_t));
  zero(info_, capacity_);
}

void PageTable::add(std::uint64_t i, EpcIndex epc, int max_prot) noexcept {
  info_[i] = static_cast<std::uint8_t>((info_[i] & ~kProtMask) | max_prot);
  entry(i).store(epc + 1, std::memory_order_release);
}

void PageTable::set_mapped(std::uint64_t i, bool mapped) noexcept {
  const std::uint32_t e = entry(i).load(std::memory_order_relaxed);
  if ((e & kIndexMask) == 0) return;
  entry(i).store(mapped ? e | kMapped : e & kIndexMask, std::memory_order_release);
}

void PageTable::set_max_prot(std::uint64_t i, int prot) noexcept {
  info_[i] = static_cast<std::uint8_t>((info_[i] & ~kProtMask) | prot);
}

void PageTable::set_installed(std::uint64_t i, Installed what) noexcept {
  info_[i] = static_cast<std::uint8_t>((info_[i] & kProtMask) | (what.epc ? kInstalled : 0) | what.prot << kProtShift);
}

bool PageTable::boundary(std::uint64_t i) const noexcept {
  if (i + 1 >= pages()) return false;
  const Installed a = installed(i), b = installed(i + 1);
  if (a.epc != b.epc || a.prot != b.prot) return true;
  return a.epc && page(i) + 1 != page(i + 1);
}

}  // namespace softsgx

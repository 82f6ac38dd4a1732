// ELRANGE offset -> EPC page, and what the driver remembers of each page.
//
// mapped_page() and any_page() are lock-free and async-signal-safe; everything else needs the enclave's lock. The
// arrays are reserved address space that is never given back while the object lives, so that a lock-free reader never
// meets a hole.
#pragma once

#include <atomic>
#include <cstdint>

#include "softsgx/driver/vma_table.h"
#include "softsgx/isa/machine.h"

namespace softsgx {

class PageTable {
 public:
  // What is mapped at the page's address now.
  struct Installed {
    bool epc = false;  // the machine file (else a placeholder without rights)
    int prot = 0;
  };

  PageTable() = default;
  PageTable(const PageTable&) = delete;
  PageTable& operator=(const PageTable&) = delete;

  // An empty table for ELRANGE. False if there is no address space for it.
  bool reset(std::uint64_t base, std::uint64_t size) noexcept;
  // As after construction: readers find nothing.
  void clear() noexcept;

  [[nodiscard]] EpcIndex mapped_page(std::uint64_t linaddr) const noexcept {
    const std::uint32_t e = entry_at(linaddr);
    return e & kMapped ? (e & kIndexMask) - 1 : kNotEpc;
  }
  // Mapped or not.
  [[nodiscard]] EpcIndex any_page(std::uint64_t linaddr) const noexcept {
    const std::uint32_t e = entry_at(linaddr) & kIndexMask;
    return e != 0 ? e - 1 : kNotEpc;
  }

  [[nodiscard]] std::uint64_t pages() const noexcept {
    return size_.load(std::memory_order_relaxed) >> sgx::kPageShift;
  }
  [[nodiscard]] std::uint64_t page_of(std::uint64_t linaddr) const noexcept {
    return (linaddr - base_.load(std::memory_order_relaxed)) >> sgx::kPageShift;
  }
  [[nodiscard]] std::uint64_t address_of(std::uint64_t page) const noexcept {
    return base_.load(std::memory_order_relaxed) + (page << sgx::kPageShift);
  }

  // The EPC page, mapped or not.
  [[nodiscard]] EpcIndex page(std::uint64_t i) const noexcept {
    const std::uint32_t e = entry(i).load(std::memory_order_relaxed);
    return e & kIndexMask ? (e & kIndexMask) - 1 : kNotEpc;
  }
  // Adds a page, not yet mapped, with the most rights that a mapping may ask for (Linux: vm_max_prot_bits).
  void add(std::uint64_t i, EpcIndex epc, int max_prot) noexcept;
  void remove(std::uint64_t i) noexcept { entry(i).store(0, std::memory_order_release); }
  void set_mapped(std::uint64_t i, bool mapped) noexcept;

  [[nodiscard]] int max_prot(std::uint64_t i) const noexcept { return info_[i] & kProtMask; }
  void set_max_prot(std::uint64_t i, int prot) noexcept;
  [[nodiscard]] Installed installed(std::uint64_t i) const noexcept {
    return {(info_[i] & kInstalled) != 0, info_[i] >> kProtShift & kProtMask};
  }
  void set_installed(std::uint64_t i, Installed what) noexcept;
  // True if pages i and i+1 need two kernel mappings.
  [[nodiscard]] bool boundary(std::uint64_t i) const noexcept;

 private:
  static constexpr std::uint32_t kMapped = 1u << 31, kIndexMask = kMapped - 1;  // index + 1; 0: no page
  static constexpr std::uint8_t kProtMask = 7, kInstalled = 1u << 6;
  static constexpr unsigned kProtShift = 3;

  // 0: outside, or no page.
  [[nodiscard]] std::uint32_t entry_at(std::uint64_t linaddr) const noexcept {
    const std::uint64_t offset = linaddr - base_.load(std::memory_order_acquire);
    if (offset >= size_.load(std::memory_order_acquire)) return 0;
    return entries_.load(std::memory_order_acquire)[offset >> sgx::kPageShift].load(std::memory_order_acquire);
  }
  [[nodiscard]] std::atomic<std::uint32_t>& entry(std::uint64_t i) const noexcept {
    return entries_.load(std::memory_order_relaxed)[i];
  }

  std::atomic<std::uint64_t> base_ = 0, size_ = 0;
  std::atomic<std::atomic<std::uint32_t>*> entries_ = nullptr;
  std::uint8_t* info_ = nullptr;
  std::uint64_t capacity_ = 0;  // pages that the arrays have room for
};

}  // namespace softsgx

// Which pages a checkpoint contains: writable image pages outside the core area, heap pages in use, and the stacks of
// ecall threads and of main. Never: the core area, TCSs, SSA frames, guards, pages that were never writable.
//
// A page counts as read-only only if its segment had no W: then its EADD was measured without W and with its contents.
#include <elf.h>

#include "trusted/core/area.h"
#include "trusted/core/core.h"
#include "trusted/core/instance.h"

namespace sealift::core {
namespace {

struct Range {
  std::uint64_t first, end;  // pages
};

std::uint64_t page_of(std::uint64_t offset) noexcept {
  return offset >> sgx::kPageShift;
}
std::uint64_t page_after(std::uint64_t offset) noexcept {
  return (offset + sgx::kPageSize - 1) >> sgx::kPageShift;
}

constexpr std::uint64_t kNone = ~std::uint64_t{0};

// Clips `page` forward into [r.first, r.end); kNone when it lies behind.
std::uint64_t clip(Range r, std::uint64_t page) noexcept {
  const std::uint64_t p = page > r.first ? page : r.first;
  return p < r.end ? p : kNone;
}

std::uint64_t next_image_page(std::uint64_t page) noexcept {
  const auto& eh = *reinterpret_cast<const Elf64_Ehdr*>(__ehdr_start);
  const auto* ph = reinterpret_cast<const Elf64_Phdr*>(__ehdr_start + eh.e_phoff);
  const Range core{page_of(reinterpret_cast<std::uint64_t>(sealift_core_begin) - base()),
                   page_of(reinterpret_cast<std::uint64_t>(sealift_core_end) - base())};
  std::uint64_t best = kNone;
  for (unsigned i = 0; i < eh.e_phnum; ++i) {
    if (ph[i].p_type != PT_LOAD || (ph[i].p_flags & PF_W) == 0) continue;
    const Range segment{page_of(ph[i].p_vaddr), page_after(ph[i].p_vaddr + ph[i].p_memsz)};
    std::uint64_t p = clip(segment, page);
    if (p != kNone && p >= core.first && p < core.end) p = clip(segment, core.end);
    if (p < best) best = p;
  }
  return best;
}

std::uint64_t next_heap_page(std::uint64_t page) noexcept {
  const Range heap{page_of(config().heap_offset), page_of(config().heap_offset + config().heap_size)};
  std::uint64_t p = clip(heap, page);
  while (p != kNone && p < heap.end) {
    const std::uint64_t bit = p - heap.first;
    const std::uint64_t word = sealift_heap_map[bit / 64] >> (bit % 64);
    if (word != 0) {
      p += static_cast<std::uint64_t>(__builtin_ctzll(word));
      return p < heap.end ? p : kNone;
    }
    p += 64 - bit % 64;
  }
  return kNone;
}

std::uint32_t stacks_end() noexcept {
  return abi::kFirstEcallTcs + config().ecall_threads;
}

Range stack(std::uint32_t tcs) noexcept {
  const std::uint64_t first = page_of(stack_offset(config(), tcs));
  return {first, first + page_of(config().stack_size)};
}

std::uint64_t next_stack_page(std::uint64_t page) noexcept {
  for (std::uint32_t i = abi::kMainTcs; i < stacks_end(); ++i) {
    const std::uint64_t p = clip(stack(i), page);
    if (p != kNone) return p;
  }
  return kNone;
}

}  // namespace

bool is_checkpoint_page(std::uint64_t page) noexcept {
  if (page >= page_of(config().heap_offset) && page < page_of(config().heap_offset + config().heap_size)) return true;
  if (next_image_page(page) == page) return true;
  return next_stack_page(page) == page;
}

// The three areas lie in ELRANGE in this order, which makes the stream's order one of rising addresses.
std::uint64_t next_used_page(std::uint64_t page) noexcept {
  const bool behind_image = page >= page_of(config().heap_offset);
  std::uint64_t p = behind_image ? kNone : next_image_page(page);
  if (p == kNone) p = next_heap_page(page);
  if (p == kNone) p = next_stack_page(page);
  return p;
}

std::uint64_t count_used_pages() noexcept {
  std::uint64_t n = 0;
  for (std::uint64_t p = next_used_page(0); p != kNone; p = next_used_page(p + 1)) ++n;
  return n;
}

}  // namespace sealift::core

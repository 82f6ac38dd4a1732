// The enclave's heap as pages: what brk and mmap hand out. Freestanding: reached from system calls.
//
// State lies in ordinary memory and travels with the checkpoint. A page handed out is zeroed first, whatever the host
// put there at EADD; a bit in sealift_heap_map says "in use, travels".
#pragma once

#include <cstdint>

namespace sealift::runtime {

inline constexpr std::uint64_t kMaxHeapBytes = std::uint64_t{4} << 30;

// The new break, or the old one when it cannot move there (as brk(2) in the kernel).
[[nodiscard]] std::uint64_t heap_brk(std::uint64_t address) noexcept;
// Address of `bytes` (rounded up to pages) of zeroes, or 0.
[[nodiscard]] std::uint64_t heap_map(std::uint64_t bytes) noexcept;
// False: not a range that heap_map may have handed out.
[[nodiscard]] bool heap_unmap(std::uint64_t address, std::uint64_t bytes) noexcept;
// Grows or shrinks; may move. 0: no room or not mapped.
[[nodiscard]] std::uint64_t heap_remap(std::uint64_t address, std::uint64_t old_bytes, std::uint64_t bytes) noexcept;

}  // namespace sealift::runtime

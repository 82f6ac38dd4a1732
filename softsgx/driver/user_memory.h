// The driver's copies from and to the program's memory: a bad pointer is EFAULT, not a crash, as in the kernel.
#pragma once

#include <cstddef>
#include <cstdint>

namespace softsgx {

[[nodiscard]] bool copy_from_user(void* to, std::uint64_t from, std::size_t bytes) noexcept;
[[nodiscard]] bool copy_to_user(std::uint64_t to, const void* from, std::size_t bytes) noexcept;
// Whether the whole range can be read; touches its pages. False also if only a part can.
[[nodiscard]] bool readable(std::uint64_t from, std::size_t bytes) noexcept;

}  // namespace softsgx

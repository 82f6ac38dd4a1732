// XSAVE images between the CPU layer and an SSA frame, both in Intel's layout (sgx::xsave). Private to softsgx/isa.
#pragma once

#include <cstddef>
#include <cstdint>

#include "softsgx/isa/leaf.h"

namespace softsgx::xstate {

// What AEX's XSAVE with RFBM = `xfrm` leaves in `ssa`. Components in their initial state are written as such.
void save(std::byte* ssa, const XsaveImage& image, std::uint64_t xfrm) noexcept;

// What ERESUME's XRSTOR loads from `ssa`; false if XRSTOR would raise #GP (SDM 1, section 13.8.1).
[[nodiscard]] bool restore(const std::byte* ssa, std::uint64_t xfrm, XsaveImage& image) noexcept;

// Every component in its initial state (SDM 3D, section 35.3: synthetic state).
void clear(XsaveImage& image) noexcept;

}  // namespace softsgx::xstate

// Where this CPU keeps the components of an XSAVE image, and the way from and to Intel's fixed layout.
//
// Offsets differ by vendor (AMD packs AVX-512 state right behind AVX: CPUID leaf 0xD). SSA frames always hold Intel's,
// or a checkpoint could not cross vendors. Pure; async-signal-safe.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "softsgx/isa/leaf.h"

namespace softsgx {

class XsaveLayout {
 public:
  struct Component {
    unsigned bit = 0;  // in XCR0
    std::uint32_t offset = 0, size = 0;
  };
  static constexpr std::size_t kComponents = 5;  // AVX, opmask, ZMM_Hi256, Hi16_ZMM, PKRU
  using Components = std::array<Component, kComponents>;

  constexpr XsaveLayout() noexcept = default;  // of no component
  // The running CPU's layout. Components that it does not have get size 0.
  [[nodiscard]] static XsaveLayout detect() noexcept;
  // Intel's own.
  [[nodiscard]] static XsaveLayout intel() noexcept;
  explicit constexpr XsaveLayout(const Components& components) noexcept : components_(components) {}

  // Reads a non-compacted image of this layout. Components in their initial state (XSTATE_BV clear) become zeroes.
  void to_intel(const std::byte* image, XsaveImage& out) const noexcept;

  // Writes the components in `mask` (XCR0 bits) into `image`; the rest of it stays: other components, the signal
  // frame's sw_reserved bytes (464..511), the MXCSR mask.
  void from_intel(const XsaveImage& in, std::uint64_t mask, std::byte* image) const noexcept;

  // All components to their initial state.
  static void reset(std::byte* image) noexcept;

 private:
  Components components_;
};

}  // namespace softsgx

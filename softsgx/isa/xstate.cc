#include "softsgx/isa/xstate.h"

#include <algorithm>
#include <cstring>

#include "softsgx/isa/enclu.h"

namespace softsgx {
namespace xstate {
namespace {

namespace layout = sgx::xsave;

struct Component {
  std::uint64_t bit;
  std::size_t offset, size;
};

constexpr Component kExtended[] = {
    {sgx::xfrm::kAvx, layout::kAvxOffset, layout::kAvxSize},
    {sgx::xfrm::kOpmask, layout::kOpmaskOffset, layout::kOpmaskSize},
    {sgx::xfrm::kZmmHi256, layout::kZmmHi256Offset, layout::kZmmHi256Size},
    {sgx::xfrm::kHi16Zmm, layout::kHi16ZmmOffset, layout::kHi16ZmmSize},
    {sgx::xfrm::kPkru, layout::kPkruOffset, layout::kPkruSize},
};

// The legacy area (SDM 1, table 13-1): x87 in bytes 0..23 and 32..159, MXCSR and its mask in 24..31, XMM in 160..415.
constexpr std::size_t kX87HeadSize = 24, kX87Registers = 32, kX87RegistersSize = 128;
constexpr std::size_t kXmm = 160, kXmmSize = 256;
constexpr std::uint16_t kFcwInit = 0x037f;
constexpr std::uint32_t kMxcsrReserved = 0xffff0000;

std::uint64_t load64(const std::byte* p) noexcept {
  std::uint64_t v = 0;
  std::memcpy(&v, p, sizeof(v));
  return v;
}

std::uint64_t xstate_bv(const std::byte* area) noexcept {
  return load64(area + layout::kHeaderOffset);
}

// Copies the components of `which` into `to`, which is in its initial state.
void copy_components(std::byte* to, const std::byte* from, std::uint64_t which) noexcept {
  if ((which & sgx::xfrm::kX87) != 0) {
    std::memcpy(to, from, kX87HeadSize);
    std::memcpy(to + kX87Registers, from + kX87Registers, kX87RegistersSize);
  }
  // MXCSR belongs to no component that can be initial: XSAVE and XRSTOR always move it with SSE.
  std::memcpy(to + layout::kMxcsrOffset, from + layout::kMxcsrOffset, sizeof(std::uint32_t));
  if ((which & sgx::xfrm::kSse) != 0) std::memcpy(to + kXmm, from + kXmm, kXmmSize);
  for (const Component& c : kExtended) {
    if ((which & c.bit) != 0) std::memcpy(to + c.offset, from + c.offset, c.size);
  }
  std::memcpy(to + layout::kHeaderOffset, &which, sizeof(which));
}

void set_initial(std::byte* area, std::size_t size) noexcept {
  std::memset(area, 0, size);
  std::memcpy(area, &kFcwInit, sizeof(kFcwInit));
  std::memcpy(area + layout::kMxcsrOffset, &layout::kMxcsrDefault, sizeof(layout::kMxcsrDefault));
}

}  // namespace

void clear(XsaveImage& image) noexcept {
  set_initial(image.bytes.data(), image.bytes.size());
}

void save(std::byte* ssa, const XsaveImage& image, std::uint64_t xfrm) noexcept {
  set_initial(ssa, enclu::xsave_size(xfrm));
  copy_components(ssa, image.bytes.data(), xstate_bv(image.bytes.data()) & xfrm);
}

bool restore(const std::byte* ssa, std::uint64_t xfrm, XsaveImage& image) noexcept {
  const std::uint64_t bv = xstate_bv(ssa);
  if ((bv & ~xfrm) != 0) return false;
  const std::byte* header = ssa + layout::kHeaderOffset;
  // XCOMP_BV (no compacted form: XRSTOR of the standard form wants it zero) and the 48 reserved bytes after it.
  if (std::any_of(header + 8, header + layout::kHeaderSize, [](std::byte b) { return b != std::byte{0}; }))
    return false;
  std::uint32_t mxcsr = 0;
  std::memcpy(&mxcsr, ssa + layout::kMxcsrOffset, sizeof(mxcsr));
  if ((mxcsr & kMxcsrReserved) != 0) return false;
  clear(image);
  copy_components(image.bytes.data(), ssa, bv);
  return true;
}

}  // namespace xstate

namespace enclu {

std::size_t xsave_size(std::uint64_t xfrm) noexcept {
  std::size_t size = sgx::xsave::kLegacySize + sgx::xsave::kHeaderSize;
  for (const xstate::Component& c : xstate::kExtended) {
    if ((xfrm & c.bit) != 0) size = c.offset + c.size;
  }
  return size;
}

std::uint32_t min_ssaframesize(std::uint64_t xfrm, std::uint32_t miscselect) noexcept {
  const std::size_t misc = (miscselect & sgx::miscselect::kExinfo) != 0 ? sizeof(sgx::Exinfo) : 0;
  const std::size_t bytes = xsave_size(xfrm) + misc + sizeof(sgx::GprSgx);
  return static_cast<std::uint32_t>((bytes + sgx::kPageSize - 1) / sgx::kPageSize);
}

}  // namespace enclu
}  // namespace softsgx

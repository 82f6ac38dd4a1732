#include "softsgx/cpu/xsave_layout.h"

#include <cpuid.h>

#include <algorithm>
#include <cstring>

namespace softsgx {
namespace {

using sgx::xsave::kHeaderOffset;
using sgx::xsave::kMxcsrOffset;

constexpr XsaveLayout::Components kIntel{{
    {2, sgx::xsave::kAvxOffset, sgx::xsave::kAvxSize},
    {5, sgx::xsave::kOpmaskOffset, sgx::xsave::kOpmaskSize},
    {6, sgx::xsave::kZmmHi256Offset, sgx::xsave::kZmmHi256Size},
    {7, sgx::xsave::kHi16ZmmOffset, sgx::xsave::kHi16ZmmSize},
    {9, sgx::xsave::kPkruOffset, sgx::xsave::kPkruSize},
}};

// The legacy region (SDM 1, table 13-1): x87 state around MXCSR, then XMM.
constexpr std::size_t kX87Head = 24, kX87Tail = 32, kXmm = 160, kXmmEnd = 416;

std::uint64_t load64(const std::byte* p) noexcept {
  std::uint64_t v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

void store64(std::byte* p, std::uint64_t v) noexcept {
  std::memcpy(p, &v, sizeof v);
}

}  // namespace

XsaveLayout XsaveLayout::detect() noexcept {
  Components host = kIntel;
  for (Component& c : host) {
    unsigned size = 0, offset = 0, ecx = 0, edx = 0;
    __cpuid_count(0xd, c.bit, size, offset, ecx, edx);
    c.offset = offset;
    c.size = std::min(c.size, size);
  }
  return XsaveLayout(host);
}

XsaveLayout XsaveLayout::intel() noexcept {
  return XsaveLayout(kIntel);
}

void XsaveLayout::to_intel(const std::byte* image, XsaveImage& out) const noexcept {
  std::byte* to = out.bytes.data();
  std::memset(to, 0, out.bytes.size());
  const std::uint64_t present = load64(image + kHeaderOffset);
  std::uint64_t kept = present & sgx::xfrm::kLegacy;
  std::memcpy(to + kMxcsrOffset, image + kMxcsrOffset, kX87Tail - kMxcsrOffset);
  if (present & sgx::xfrm::kX87) {
    std::memcpy(to, image, kX87Head);
    std::memcpy(to + kX87Tail, image + kX87Tail, kXmm - kX87Tail);
  }
  if (present & sgx::xfrm::kSse) std::memcpy(to + kXmm, image + kXmm, kXmmEnd - kXmm);
  for (std::size_t i = 0; i < kComponents; ++i) {
    const Component& c = components_[i];
    if (c.size == 0 || !(present >> c.bit & 1)) continue;
    std::memcpy(to + kIntel[i].offset, image + c.offset, c.size);
    kept |= std::uint64_t{1} << c.bit;
  }
  store64(to + kHeaderOffset, kept);
}

void XsaveLayout::from_intel(const XsaveImage& in, std::uint64_t mask, std::byte* image) const noexcept {
  const std::byte* from = in.bytes.data();
  const std::uint64_t given = load64(from + kHeaderOffset) & mask;
  std::uint64_t present = load64(image + kHeaderOffset);
  if (given & sgx::xfrm::kX87) {
    std::memcpy(image, from, kX87Head);
    std::memcpy(image + kX87Tail, from + kX87Tail, kXmm - kX87Tail);
  }
  if (given & sgx::xfrm::kSse) std::memcpy(image + kXmm, from + kXmm, kXmmEnd - kXmm);
  // XRSTOR loads MXCSR from memory whatever XSTATE_BV says (SDM 1, section 13.8.1).
  if (mask & sgx::xfrm::kSse) std::memcpy(image + kMxcsrOffset, from + kMxcsrOffset, sizeof(std::uint32_t));
  std::uint64_t written = mask & sgx::xfrm::kLegacy;
  for (std::size_t i = 0; i < kComponents; ++i) {
    const Component& c = components_[i];
    if (c.size == 0 || !(mask >> c.bit & 1)) continue;
    if (given >> c.bit & 1) std::memcpy(image + c.offset, from + kIntel[i].offset, c.size);
    written |= std::uint64_t{1} << c.bit;
  }
  present = (present & ~written) | (given & written);
  store64(image + kHeaderOffset, present);
}

void XsaveLayout::reset(std::byte* image) noexcept {
  store64(image + kHeaderOffset, 0);
  const std::uint32_t mxcsr = sgx::xsave::kMxcsrDefault;
  std::memcpy(image + kMxcsrOffset, &mxcsr, sizeof mxcsr);
}

}  // namespace softsgx

#include "softsgx/cpu/xsave_layout.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

namespace softsgx {
namespace {

// As on AMD's Zen 4: AVX-512 state right behind AVX, no PKRU.
constexpr XsaveLayout kAmd(XsaveLayout::Components{
    {{2, 576, 256}, {5, 832, 64}, {6, 896, 512}, {7, 1408, 1024}, {9, 0, 0}}});
constexpr std::size_t kAmdBytes = 2432;
constexpr std::uint64_t kAll = 0xe7;

std::vector<std::byte> random_image(std::size_t bytes, std::uint64_t xstate_bv, unsigned seed) {
  std::mt19937 g(seed);
  std::vector<std::byte> v(bytes);
  for (std::byte& b : v) b = static_cast<std::byte>(g());
  std::memset(v.data() + 512, 0, 64);
  std::memcpy(v.data() + 512, &xstate_bv, sizeof xstate_bv);
  return v;
}

std::uint64_t word(const std::byte* p, std::size_t offset) {
  std::uint64_t w;
  std::memcpy(&w, p + offset, sizeof w);
  return w;
}

TEST(XsaveLayout, MovesComponentsToIntelsPlaces) {
  const auto amd = random_image(kAmdBytes, kAll, 1);
  XsaveImage out;
  kAmd.to_intel(amd.data(), out);
  const auto same = [&](std::size_t to, std::size_t from, std::size_t n) {
    return std::memcmp(out.bytes.data() + to, amd.data() + from, n) == 0;
  };
  EXPECT_TRUE(same(0, 0, 416));
  EXPECT_TRUE(same(576, 576, 256));
  EXPECT_TRUE(same(1088, 832, 64));
  EXPECT_TRUE(same(1152, 896, 512));
  EXPECT_TRUE(same(1664, 1408, 1024));
  EXPECT_EQ(word(out.bytes.data(), 512), kAll);
}

TEST(XsaveLayout, RoundTripKeepsEverythingButReservedBytes) {
  const auto amd = random_image(kAmdBytes, kAll, 2);
  XsaveImage intel;
  kAmd.to_intel(amd.data(), intel);
  auto back = random_image(kAmdBytes, 0, 3);
  const auto untouched = back;
  kAmd.from_intel(intel, kAll, back.data());
  EXPECT_EQ(std::memcmp(back.data(), amd.data(), 28), 0);
  EXPECT_EQ(std::memcmp(back.data() + 28, untouched.data() + 28, 4), 0);  // MXCSR_MASK
  EXPECT_EQ(std::memcmp(back.data() + 32, amd.data() + 32, 416 - 32), 0);
  EXPECT_EQ(std::memcmp(back.data() + 416, untouched.data() + 416, 96), 0);  // the kernel's sw_reserved
  EXPECT_EQ(std::memcmp(back.data() + 512, amd.data() + 512, kAmdBytes - 512), 0);
}

TEST(XsaveLayout, InitialComponentsBecomeZeroes) {
  const auto amd = random_image(kAmdBytes, 0x3, 4);  // AVX and AVX-512 clear: their bytes are stale
  XsaveImage out;
  kAmd.to_intel(amd.data(), out);
  for (std::size_t i = 576; i < kXsaveImageSize; ++i) ASSERT_EQ(out.bytes[i], std::byte{0}) << i;
  EXPECT_EQ(word(out.bytes.data(), 512), 0x3u);
}

TEST(XsaveLayout, ComponentsOutsideTheMaskStay) {
  const auto intel_bytes = random_image(kXsaveImageSize, kAll, 5);
  XsaveImage intel;
  std::memcpy(intel.bytes.data(), intel_bytes.data(), kXsaveImageSize);
  auto frame = random_image(kAmdBytes, kAll, 6);
  const auto before = frame;
  kAmd.from_intel(intel, 0x3, frame.data());
  EXPECT_EQ(std::memcmp(frame.data() + 576, before.data() + 576, kAmdBytes - 576), 0);
  EXPECT_EQ(word(frame.data(), 512), kAll);
  EXPECT_EQ(std::memcmp(frame.data() + 160, intel_bytes.data() + 160, 256), 0);
}

TEST(XsaveLayout, ClearBitsInTheImageInitialiseTheComponent) {
  XsaveImage clean;
  const std::uint32_t mxcsr = 0x1f80;
  std::memcpy(clean.bytes.data() + 24, &mxcsr, sizeof mxcsr);
  auto frame = random_image(kAmdBytes, kAll, 7);
  kAmd.from_intel(clean, 0x7, frame.data());
  EXPECT_EQ(word(frame.data(), 512), 0xe0u);  // AVX-512 is outside the mask
  EXPECT_EQ(std::memcmp(frame.data() + 24, &mxcsr, sizeof mxcsr), 0);
}

TEST(XsaveLayout, UnknownComponentsAreNotTakenOver) {
  const auto amd = random_image(kAmdBytes, kAll | 1ull << 18 | 1ull << 9, 8);
  XsaveImage out;
  kAmd.to_intel(amd.data(), out);
  EXPECT_EQ(word(out.bytes.data(), 512), kAll);
}

TEST(XsaveLayout, IntelsOwnIsTheIdentity) {
  const auto image = random_image(kXsaveImageSize, kAll | 1ull << 9, 9);
  XsaveImage out;
  XsaveLayout::intel().to_intel(image.data(), out);
  EXPECT_EQ(std::memcmp(out.bytes.data() + 576, image.data() + 576, 256), 0);
  EXPECT_EQ(std::memcmp(out.bytes.data() + 1088, image.data() + 1088, 1600 + 8), 0);
}

TEST(XsaveLayout, ThisCpusFitsItsImage) {
  // The running CPU's own XSAVE must come through both ways.
  alignas(64) static std::byte image[16384];
  std::memset(image, 0, sizeof image);
  asm volatile("xsave64 %0" : "+m"(image) : "a"(0xe7), "d"(0));
  XsaveImage out;
  const XsaveLayout host = XsaveLayout::detect();
  host.to_intel(image, out);
  alignas(64) static std::byte back[16384];
  std::memset(back, 0, sizeof back);
  host.from_intel(out, 0xe7, back);
  EXPECT_EQ(word(back, 512), word(image, 512) & 0xe7);
  EXPECT_EQ(std::memcmp(back + 160, image + 160, 256), 0);
}

TEST(XsaveLayout, ResetIsTheInitialState) {
  auto frame = random_image(kAmdBytes, kAll, 10);
  XsaveLayout::reset(frame.data());
  EXPECT_EQ(word(frame.data(), 512), 0u);
  std::uint32_t mxcsr;
  std::memcpy(&mxcsr, frame.data() + 24, sizeof mxcsr);
  EXPECT_EQ(mxcsr, 0x1f80u);
}

}  // namespace
}  // namespace softsgx

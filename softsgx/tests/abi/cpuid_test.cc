// Run with --patch-cpuid (or where CPUID can fault): the program finds SGX as it would on silicon.
#include <cpuid.h>
#include <gtest/gtest.h>

#include <cstring>

#include "sgx/arch.h"

namespace third_party {
namespace {

struct Leaf {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Leaf cpuid(unsigned leaf, unsigned subleaf = 0) {
  Leaf l;
  __cpuid_count(leaf, subleaf, l.eax, l.ebx, l.ecx, l.edx);
  return l;
}

TEST(Cpuid, ShowsSgxAndLaunchControl) {
  EXPECT_GE(cpuid(0).eax, 0x12u);
  const Leaf features = cpuid(7);
  EXPECT_TRUE(features.ebx >> 2 & 1);
  EXPECT_TRUE(features.ecx >> 30 & 1);
}

TEST(Cpuid, ShowsTheMachinesAbilities) {
  EXPECT_EQ(cpuid(0x12, 0).eax & 3, 3u);  // SGX1, SGX2
  EXPECT_EQ(cpuid(0x12, 0).ebx & 1, 1u);  // EXINFO
  const Leaf attributes = cpuid(0x12, 1);
  EXPECT_TRUE(attributes.eax & sgx::attribute::kMode64Bit);
  EXPECT_EQ(attributes.ecx & 3, 3u);
}

TEST(Cpuid, ListsOneEpcSection) {
  const Leaf section = cpuid(0x12, 2);
  EXPECT_EQ(section.eax & 0xf, 1u);
  EXPECT_NE(section.ecx & 0xfffff000, 0u);
  EXPECT_EQ(cpuid(0x12, 3).eax & 0xf, 0u);
}

TEST(Cpuid, LeavesOtherLeavesAlone) {
  char vendor[13] = {};
  const Leaf l = cpuid(0);
  std::memcpy(vendor, &l.ebx, 4);
  std::memcpy(vendor + 4, &l.edx, 4);
  std::memcpy(vendor + 8, &l.ecx, 4);
  EXPECT_TRUE(!std::strcmp(vendor, "AuthenticAMD") || !std::strcmp(vendor, "GenuineIntel")) << vendor;
}

}  // namespace
}  // namespace third_party

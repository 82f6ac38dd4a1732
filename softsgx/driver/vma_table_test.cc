#include "softsgx/driver/vma_table.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace softsgx {
namespace {

constexpr int kR = 1, kW = 2;

std::vector<VmaTable::Vma> all(const VmaTable& t) {
  std::vector<VmaTable::Vma> v;
  t.for_each({0, ~std::uint64_t{0}}, [&](const VmaTable::Vma& vma) { v.push_back(vma); });
  return v;
}

TEST(VmaTable, NeighboursWithEqualRightsMerge) {
  VmaTable t;
  t.map({0x1000, 0x2000}, kR);
  t.map({0x3000, 0x4000}, kR);
  t.map({0x2000, 0x3000}, kR);
  ASSERT_EQ(t.size(), 1u);
  EXPECT_EQ(all(t)[0].range, (Range{0x1000, 0x4000}));
}

TEST(VmaTable, ProtectSplits) {
  VmaTable t;
  t.map({0x1000, 0x9000}, kR | kW);
  t.protect({0x3000, 0x4000}, kR);
  EXPECT_EQ(t.size(), 3u);
  EXPECT_EQ(t.find(0x2fff)->prot, kR | kW);
  EXPECT_EQ(t.find(0x3000)->prot, kR);
  EXPECT_EQ(t.find(0x3fff)->prot, kR);
  EXPECT_EQ(t.find(0x4000)->prot, kR | kW);
  t.protect({0x3000, 0x4000}, kR | kW);
  EXPECT_EQ(t.size(), 1u);
}

TEST(VmaTable, ProtectLeavesHolesAlone) {
  VmaTable t;
  t.map({0x1000, 0x2000}, kR);
  t.map({0x5000, 0x6000}, kR);
  t.protect({0, 0x10000}, kW);
  EXPECT_FALSE(t.find(0x3000));
  EXPECT_EQ(t.find(0x1000)->prot, kW);
  EXPECT_EQ(t.find(0x5fff)->prot, kW);
}

TEST(VmaTable, UnmapPunchesHoles) {
  VmaTable t;
  t.map({0x1000, 0x9000}, kR);
  t.unmap({0x3000, 0x5000});
  EXPECT_TRUE(t.find(0x2fff));
  EXPECT_FALSE(t.find(0x3000));
  EXPECT_FALSE(t.find(0x4fff));
  EXPECT_TRUE(t.find(0x5000));
  t.unmap({0, ~std::uint64_t{0}});
  EXPECT_TRUE(t.empty());
}

TEST(VmaTable, EndsAreExclusive) {
  VmaTable t;
  t.map({0x1000, 0x2000}, kR);
  EXPECT_FALSE(t.find(0xfff));
  EXPECT_FALSE(t.find(0x2000));
  EXPECT_FALSE(t.overlaps({0x2000, 0x3000}));
  EXPECT_FALSE(t.overlaps({0, 0x1000}));
  EXPECT_TRUE(t.overlaps({0x1fff, 0x3000}));
  EXPECT_FALSE(t.overlaps({0x1800, 0x1800}));
}

TEST(VmaTable, VisitsAreClippedAndInOrder) {
  VmaTable t;
  t.map({0x1000, 0x3000}, kR);
  t.map({0x4000, 0x6000}, kW);
  std::vector<Range> seen;
  t.for_each({0x2000, 0x5000}, [&](const VmaTable::Vma& v) { seen.push_back(v.range); });
  EXPECT_EQ(seen, (std::vector<Range>{{0x2000, 0x3000}, {0x4000, 0x5000}}));
}

TEST(VmaTable, AgreesWithAPageArray) {
  constexpr std::uint64_t kPages = 64, kPage = 0x1000;
  std::mt19937 g(11);
  VmaTable t;
  std::vector<int> model(kPages, -1);
  for (int step = 0; step < 5000; ++step) {
    std::uint64_t a = g() % kPages, b = g() % (kPages + 1);
    if (a > b) std::swap(a, b);
    const Range range{a * kPage, b * kPage};
    const int prot = static_cast<int>(g() % 4);
    const auto what = g() % 3;
    if (what == 0) t.map(range, prot);
    if (what == 1) t.unmap(range);
    if (what == 2) t.protect(range, prot);
    for (std::uint64_t p = a; p < b; ++p) {
      if (what == 0) model[p] = prot;
      if (what == 1) model[p] = -1;
      if (what == 2 && model[p] >= 0) model[p] = prot;
    }
    std::size_t pieces = 0;
    for (std::uint64_t p = 0; p < kPages; ++p) {
      const auto vma = t.find(p * kPage + 5);
      ASSERT_EQ(vma ? vma->prot : -1, model[p]) << "page " << p << " step " << step;
      pieces += model[p] >= 0 && (p == 0 || model[p] != model[p - 1]);
    }
    ASSERT_EQ(t.size(), pieces) << "step " << step;
  }
}

}  // namespace
}  // namespace softsgx

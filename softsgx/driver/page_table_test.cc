#include "softsgx/driver/page_table.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

namespace softsgx {
namespace {

constexpr std::uint64_t kBase = 1ull << 32, kSize = 1ull << 20;

TEST(PageTable, FindsOnlyMappedPages) {
  PageTable t;
  EXPECT_EQ(t.mapped_page(kBase), kNotEpc);
  ASSERT_TRUE(t.reset(kBase, kSize));
  t.add(3, 77, PROT_READ);
  EXPECT_EQ(t.page(3), 77u);
  EXPECT_EQ(t.mapped_page(kBase + 0x3123), kNotEpc);
  t.set_mapped(3, true);
  EXPECT_EQ(t.mapped_page(kBase + 0x3123), 77u);
  EXPECT_EQ(t.mapped_page(kBase + 0x4000), kNotEpc);
  t.set_mapped(4, true);  // no page there: stays absent
  EXPECT_EQ(t.mapped_page(kBase + 0x4000), kNotEpc);
  t.set_mapped(3, false);
  EXPECT_EQ(t.mapped_page(kBase + 0x3123), kNotEpc);
  t.remove(3);
  EXPECT_EQ(t.page(3), kNotEpc);
}

TEST(PageTable, PageZeroOfTheMachineIsAPage) {
  PageTable t;
  ASSERT_TRUE(t.reset(kBase, kSize));
  t.add(0, 0, PROT_READ);
  t.set_mapped(0, true);
  EXPECT_EQ(t.mapped_page(kBase), 0u);
}

TEST(PageTable, AddressesOutsideAreNotFound) {
  PageTable t;
  ASSERT_TRUE(t.reset(kBase, kSize));
  EXPECT_EQ(t.mapped_page(kBase - 1), kNotEpc);
  EXPECT_EQ(t.mapped_page(kBase + kSize), kNotEpc);
  EXPECT_EQ(t.mapped_page(0), kNotEpc);
  EXPECT_EQ(t.mapped_page(~std::uint64_t{0}), kNotEpc);
}

TEST(PageTable, RightsAndInstalledStateDoNotMix) {
  PageTable t;
  ASSERT_TRUE(t.reset(kBase, kSize));
  t.add(1, 5, PROT_READ | PROT_EXEC);
  t.set_installed(1, {true, PROT_READ});
  EXPECT_EQ(t.max_prot(1), PROT_READ | PROT_EXEC);
  EXPECT_TRUE(t.installed(1).epc);
  EXPECT_EQ(t.installed(1).prot, PROT_READ);
  t.set_max_prot(1, PROT_READ | PROT_WRITE);
  EXPECT_EQ(t.max_prot(1), PROT_READ | PROT_WRITE);
  EXPECT_EQ(t.installed(1).prot, PROT_READ);
}

TEST(PageTable, BoundariesAreWhereTheKernelNeedsTwoMappings) {
  PageTable t;
  ASSERT_TRUE(t.reset(kBase, kSize));
  for (std::uint64_t i = 0; i < 4; ++i) t.add(i, static_cast<EpcIndex>(10 + i + (i == 3)), PROT_READ);
  EXPECT_FALSE(t.boundary(0));  // nothing installed on either side
  for (std::uint64_t i = 0; i < 4; ++i) t.set_installed(i, {true, PROT_READ});
  EXPECT_FALSE(t.boundary(0));
  EXPECT_TRUE(t.boundary(2));  // EPC pages 12 and 14
  t.set_installed(1, {true, PROT_NONE});
  EXPECT_TRUE(t.boundary(0));
  EXPECT_TRUE(t.boundary(3));  // then a placeholder
  EXPECT_FALSE(t.boundary(t.pages() - 1));
}

TEST(PageTable, ResetForgetsAndGrows) {
  PageTable t;
  ASSERT_TRUE(t.reset(kBase, kSize));
  t.add(1, 5, PROT_READ);
  t.set_mapped(1, true);
  t.clear();
  EXPECT_EQ(t.mapped_page(kBase + 0x1000), kNotEpc);
  ASSERT_TRUE(t.reset(kBase, kSize * 16));
  EXPECT_EQ(t.page(1), kNotEpc);
  EXPECT_EQ(t.pages(), kSize * 16 / 4096);
  EXPECT_EQ(t.installed(1).prot, 0);
}

TEST(PageTable, HugeRangesCostAddressSpaceOnly) {
  PageTable t;
  EXPECT_TRUE(t.reset(0, 1ull << 40));
}

}  // namespace
}  // namespace softsgx

#include "daemon/guest_memory.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <initializer_list>

namespace sealift::daemon {
namespace {

TEST(GuestMemory, WhatAKernelClearsIsOnItsCommandLine) {
  EXPECT_FALSE(clears_freed_memory(""));
  EXPECT_FALSE(clears_freed_memory("quiet panic=-1\n"));
  for (const char* on : {"init_on_free=1", "quiet init_on_free=on panic=-1\n", "init_on_free=y", "init_on_free=Y\n",
                         "init-on-free=1", "page_poison=0 init_on_free=1", "init_on_free=1 init_on_free"}) {
    EXPECT_TRUE(clears_freed_memory(on)) << on;
  }
  for (const char* off :
       {"init_on_free=0", "init_on_free=", "init_on_free", "init_on_free=off", "init_on_alloc=1", "noinit_on_free=1",
        "-- init_on_free=1", "init_on_free=1 page_poison=1", "page-poison=on init_on_free=1"}) {
    EXPECT_FALSE(clears_freed_memory(off)) << off;
  }
  EXPECT_FALSE(clears_freed_memory("init_on_free=1 init_on_free=0"));
  EXPECT_TRUE(clears_freed_memory("init_on_free=0 init_on_free=1"));
}

TEST(GuestMemory, SmallBlocksLieAmongOtherPages) {
  EXPECT_EQ(free_in_large_blocks(""), 0u);
  EXPECT_EQ(free_in_large_blocks("no such file\nNode 0, zone\n"), 0u);
  EXPECT_EQ(free_in_large_blocks(
                "Node 0, zone      DMA      9      9      9      9      9      9      9      9      9      0      0\n"),
            0u);
  EXPECT_EQ(free_in_large_blocks(
                "Node 0, zone      DMA      0      0      0      0      0      0      0      0      1      1      2\n"
                "Node 0, zone    DMA32      7      6      5      4      3      2      1      0      0      0    100\n"),
            (2u + 2 * 4 + 100 * 4) << 20);
}

// Of a guest that had so much free, one look after another.
std::uint64_t untouched_after(GuestMemory memory, std::initializer_list<std::uint64_t> looks) {
  EXPECT_EQ(memory.untouched(), 0u);
  for (const std::uint64_t free : looks) memory.saw(free);
  return memory.untouched();
}

TEST(GuestMemory, FreedMemoryHoldsWhatItHeld) {
  EXPECT_EQ(untouched_after(GuestMemory(false), {100, 40, 90}), 40u);
}

TEST(GuestMemory, UnlessTheKernelClearsIt) {
  EXPECT_EQ(untouched_after(GuestMemory(true), {100, 40, 90}), 90u);
}

TEST(GuestMemory, OfThisMachine) {
  for (const bool cleared : {false, true}) {
    GuestMemory memory(cleared);
    memory.look();
    EXPECT_GT(memory.untouched(), 0u);
    EXPECT_LT(memory.untouched(), static_cast<std::uint64_t>(sysconf(_SC_PHYS_PAGES)) * 4096);
  }
}

}  // namespace
}  // namespace sealift::daemon

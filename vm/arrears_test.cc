#include "vm/arrears.h"

#include <gtest/gtest.h>

namespace sealift::vm {
namespace {

constexpr std::uint64_t kMiB = 1u << 20;

// A QEMU that sends 100 MiB a second for ten seconds, and is then asked every 25 ms.
class Sender {
 public:
  explicit Sender(std::uint64_t limit) : arrears(limit) {
    progress_ = {.remaining = 4000 * kMiB, .passes = 1};
    arrears.saw(now_, progress_, false);
    for (int i = 0; i < 400; ++i) goes_on(2'500 * kMiB / 1000, 0, false);
  }
  void goes_on(std::uint64_t sent, std::uint64_t zeros, bool held) {
    now_ += 0.025;
    progress_.sent += sent;
    progress_.dealt += sent + zeros;
    progress_.zeros += zeros;
    arrears.saw(now_, progress_, held);
  }
  Arrears arrears;

 private:
  double now_ = 100;
  Progress progress_;
};

TEST(Arrears, WhatWasMissedIsSentAfterwardsAndNoMore) {
  Sender qemu(128 * kMiB);
  for (int i = 0; i < 8; ++i) qemu.goes_on(0, 0, true);  // 0.2 s: 20 MiB
  EXPECT_TRUE(qemu.arrears.any());
  qemu.goes_on(0, 0, false);  // let go, and still idle: 2.5 MiB more
  for (int i = 0; i < 8; ++i) {
    EXPECT_TRUE(qemu.arrears.any()) << i;
    qemu.goes_on(5 * kMiB, 0, false);  // at 200 MiB/s 2.5 MiB of it are caught up
  }
  qemu.goes_on(5 * kMiB, 0, false);
  EXPECT_FALSE(qemu.arrears.any()) << "it had sent 100 MiB/s, not 128, before";
  qemu.goes_on(5 * kMiB, 0, false);
  for (int i = 0; i < 2; ++i) qemu.goes_on(0, 0, true);
  EXPECT_TRUE(qemu.arrears.any()) << "sending too much is no credit";
}

TEST(Arrears, SlownessOfItsOwnIsNotMadeGood) {
  Sender qemu(100 * kMiB);
  for (int i = 0; i < 4; ++i) qemu.goes_on(0, 0, true);
  qemu.goes_on(kMiB, 0, false);  // let go, and sending
  for (int i = 0; i < 40; ++i) qemu.goes_on(kMiB, 0, false);
  for (int i = 0; i < 4; ++i) qemu.goes_on(5 * kMiB, 0, false);
  EXPECT_FALSE(qemu.arrears.any());
}

TEST(Arrears, ZerosAreNotHeldOff) {
  Sender qemu(100 * kMiB);
  for (int i = 0; i < 40; ++i) qemu.goes_on(kMiB / 100, 50 * kMiB, true);
  EXPECT_FALSE(qemu.arrears.any());
}

TEST(Arrears, HalfASecondAtTheMost) {
  Sender qemu(100 * kMiB);
  for (int i = 0; i < 4000; ++i) qemu.goes_on(0, 0, true);  // 100 s
  for (int i = 0; i < 19; ++i) qemu.goes_on(5 * kMiB, 0, false);
  EXPECT_TRUE(qemu.arrears.any()) << "47.5 of 50 MiB are caught up";
  qemu.goes_on(5 * kMiB, 0, false);
  EXPECT_FALSE(qemu.arrears.any());
}

}  // namespace
}  // namespace sealift::vm

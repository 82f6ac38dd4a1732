// The ledger must notice every way in which a store can have lost something.
#include "examples/kv/load/ledger.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace kv::load {
namespace {

// Key 1 of three: versions 1 to 3 sent, 2 acknowledged.
Ledger some() {
  Ledger ledger(3, 40);
  for (int i = 0; i < 3; ++i) (void)ledger.next_version(1);
  ledger.acknowledged(1, 2);
  return ledger;
}

TEST(Ledger, WhatWasAcknowledgedOrALaterUnansweredWriteMayBeStored) {
  const Ledger ledger = some();
  EXPECT_FALSE(ledger.check(1, ledger.value(1, 2)));
  EXPECT_FALSE(ledger.check(1, ledger.value(1, 3)));
  EXPECT_FALSE(ledger.check(0, std::nullopt)) << "never written";
}

TEST(Ledger, EverythingElseIsALoss) {
  const Ledger ledger = some();
  EXPECT_TRUE(ledger.check(1, std::nullopt));
  EXPECT_TRUE(ledger.check(1, ledger.value(1, 1))) << "rolled back";
  EXPECT_TRUE(ledger.check(1, ledger.value(1, 4))) << "never sent";
  EXPECT_TRUE(ledger.check(1, ledger.value(2, 2))) << "another key's";
  EXPECT_TRUE(ledger.check(1, ""));
  EXPECT_TRUE(ledger.check(1, "2"));
  EXPECT_TRUE(ledger.check(1, ledger.value(1, 2) + "x"));
  std::string flipped = ledger.value(1, 2);
  flipped.back() ^= 1;
  EXPECT_TRUE(ledger.check(1, flipped));
}

TEST(Ledger, AKeyWhoseWriteIsStillUnderWaySomewhereIsNotWrittenAgain) {
  Ledger ledger(2, 10);
  EXPECT_EQ(ledger.next_version(0), 1u);
  ledger.broken(0);
  EXPECT_EQ(ledger.next_version(0), std::nullopt);
  EXPECT_EQ(ledger.next_version(1), 1u);
  EXPECT_EQ(ledger.retired(), 1u);
}

class LedgerFile : public testing::Test {
 protected:
  ~LedgerFile() override { std::filesystem::remove(path_); }
  void write(const std::string& text) { std::ofstream(path_) << text; }
  std::string path_ = testing::TempDir() + "ledger." + std::to_string(getpid());
};

TEST_F(LedgerFile, ComesBackAsItWas) {
  some().save(path_);
  const Ledger ledger = Ledger::load(path_);
  EXPECT_EQ(ledger.size(), 3u);
  EXPECT_TRUE(ledger.written(1));
  EXPECT_FALSE(ledger.written(0));
  EXPECT_FALSE(ledger.check(1, some().value(1, 2)));
  EXPECT_TRUE(ledger.check(1, some().value(1, 1)));
}

TEST_F(LedgerFile, DamageIsRefused) {
  EXPECT_THROW((void)Ledger::load(path_ + ".none"), std::runtime_error);
  for (const char* bad : {"", "something else\n", "kv-load-ledger-1 999999999999 1\n", "kv-load-ledger-1 2 10\n1 1 0\n",
                          "kv-load-ledger-1 1 10\n1 2 0\n", "kv-load-ledger-1 1 10\n1 x 0\n"}) {
    write(bad);
    EXPECT_THROW((void)Ledger::load(path_), std::runtime_error) << bad;
  }
}

}  // namespace
}  // namespace kv::load

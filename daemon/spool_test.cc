#include "daemon/spool.h"

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <system_error>

#include "daemon/journal.h"
#include "migration/record.h"

namespace sealift::daemon {
namespace {

class SpoolTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = "/tmp/sealift-spool-XXXXXX";
    dir_ = ::mkdtemp(pattern.data());
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }

  static std::string record(std::uint64_t sequence, std::uint32_t body) {
    record::RecordHeader header{};
    header.magic = record::kMagic;
    header.sequence = sequence;
    header.body_len = body;
    std::string out(sizeof(header) + body + record::kTagBytes, static_cast<char>('a' + sequence));
    std::memcpy(out.data(), &header, sizeof(header));
    return out;
  }

  std::filesystem::path dir_;
};

TEST_F(SpoolTest, GivesBackWhatWasAppended) {
  const auto spool = Spool::create(dir_ / "s");
  for (std::uint64_t i = 0; i < 5; ++i) spool->append(record(i, static_cast<std::uint32_t>(i * 100)));
  ASSERT_EQ(spool->records(), 5u);
  for (std::uint64_t i = 0; i < 5; ++i) EXPECT_EQ(spool->read(i), record(i, static_cast<std::uint32_t>(i * 100)));
  EXPECT_EQ(spool->bytes(), 5 * 48 + 1000u);
}

TEST_F(SpoolTest, FindsItsRecordsAgain) {
  {
    const auto spool = Spool::create(dir_ / "s");
    for (std::uint64_t i = 0; i < 3; ++i) spool->append(record(i, 10));
  }
  const auto again = Spool::open(dir_ / "s");
  ASSERT_EQ(again->records(), 3u);
  EXPECT_EQ(again->read(2), record(2, 10));
}

TEST_F(SpoolTest, StopsAtARecordThatIsCutOff) {
  {
    const auto spool = Spool::create(dir_ / "s");
    spool->append(record(0, 10));
    spool->append(record(1, 10).substr(0, 40));
  }
  EXPECT_EQ(Spool::open(dir_ / "s")->records(), 1u);
}

TEST_F(SpoolTest, StopsAtGarbage) {
  {
    const auto spool = Spool::create(dir_ / "s");
    spool->append(record(0, 10));
    spool->append(std::string(100, 'x'));
  }
  EXPECT_EQ(Spool::open(dir_ / "s")->records(), 1u);
}

TEST_F(SpoolTest, MissingFoldersAreErrors) {
  EXPECT_THROW((void)Spool::create(dir_ / "no" / "s"), std::system_error);
  EXPECT_THROW((void)Spool::open(dir_ / "none"), std::system_error);
}

TEST_F(SpoolTest, DropDeletes) {
  const auto spool = Spool::create(dir_ / "s");
  spool->drop();
  EXPECT_FALSE(std::filesystem::exists(dir_ / "s"));
}

wire::Journal journal(char attempt) {
  wire::Journal out;
  out.mutable_incoming()->set_attempt(std::string(16, attempt));
  out.set_target("b:7419");
  return out;
}

TEST_F(SpoolTest, JournalsAreFoundAgain) {
  for (const char c : {'a', 'b'}) write_journal(journal_path(dir_, std::string(16, c)), journal(c));
  EXPECT_EQ(read_journals(dir_).size(), 2u);
  EXPECT_EQ(read_journals(dir_)[0].target(), "b:7419");
}

TEST_F(SpoolTest, WhatIsNoJournalIsLeftAlone) {
  std::ofstream(dir_ / "x.journal") << "\xff\xff\xff";
  std::ofstream(dir_ / "empty.journal");
  std::ofstream(dir_ / "other.txt") << "hello";
  EXPECT_TRUE(read_journals(dir_).empty());
  EXPECT_TRUE(std::filesystem::exists(dir_ / "x.journal"));
}

TEST_F(SpoolTest, AJournalThatCannotBeWrittenIsAnError) {
  EXPECT_THROW(write_journal(dir_ / "no" / "x.journal", journal('a')), std::system_error);
}

}  // namespace
}  // namespace sealift::daemon

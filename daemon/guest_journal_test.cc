#include "daemon/guest_journal.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <fstream>

#include "daemon/vm_book.h"

namespace sealift::daemon {
namespace {

namespace fs = std::filesystem;

class GuestJournalTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = fs::temp_directory_path() / "sealift-journal-XXXXXX";
    dir_ = ::mkdtemp(pattern.data());
  }
  void TearDown() override { fs::remove_all(dir_); }

  [[nodiscard]] std::vector<fs::path> files(const std::string& extension = ".guest") const {
    std::vector<fs::path> out;
    for (const auto& each : fs::directory_iterator(dir_)) {
      if (each.path().extension() == extension) out.push_back(each.path());
    }
    return out;
  }
  void write(const std::string& name, const std::string& bytes) const {
    std::ofstream(dir_ / name, std::ios::binary) << bytes;
  }
  static wire::GuestJournal::Attempt attempt(char number) {
    wire::GuestJournal::Attempt out;
    out.set_name("counter");
    out.mutable_who()->set_attempt(std::string(16, number));
    out.mutable_who()->set_lineage(std::string(16, static_cast<char>(number + 100)));
    out.mutable_who()->set_epoch(7);
    return out;
  }
  // One that reads, changed by `spoil`.
  template <typename Spoil>
  [[nodiscard]] static std::string spoilt(Spoil spoil) {
    wire::GuestJournal journal;
    journal.set_guest("web");
    journal.set_target("host-b:7419");
    *journal.add_attempts() = attempt(1);
    spoil(journal);
    return journal.SerializeAsString();
  }

  fs::path dir_;
};

TEST_F(GuestJournalTest, IsThereAsLongAsAnAttemptIs) {
  GuestJournal journal(dir_, "web", "host-b:7419");
  journal.flush();
  EXPECT_TRUE(files().empty()) << "nothing is to be remembered yet";
  journal.add(attempt(1));
  journal.add(attempt(2));
  EXPECT_TRUE(files().empty()) << "written before flush()";
  journal.flush();
  ASSERT_EQ(files().size(), 1u);
  EXPECT_TRUE(files(".new").empty());

  const auto found = GuestJournal::read_all(dir_);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].contents().SerializeAsString(), journal.contents().SerializeAsString());
  EXPECT_EQ(found[0].contents().attempts(1).who().epoch(), 7u);

  journal.remove(attempt(1).who().attempt());
  journal.flush();
  EXPECT_EQ(GuestJournal::read_all(dir_).at(0).contents().attempts_size(), 1);
  journal.remove(attempt(2).who().attempt());
  journal.flush();
  EXPECT_TRUE(files().empty());
}

TEST_F(GuestJournalTest, AnAttemptIsThereOnceAndThereAreNoMoreThanABrokerMayReport) {
  GuestJournal journal(dir_, "web", "host-b:7419");
  journal.add(attempt(1));
  journal.add(attempt(1));
  EXPECT_EQ(journal.contents().attempts_size(), 1);
  for (std::size_t i = 0; i < GuestJournal::kMaxAttempts + 10; ++i) {
    wire::GuestJournal::Attempt each = attempt(1);
    std::string number = std::to_string(i);
    each.mutable_who()->set_attempt(number + std::string(16 - number.size(), 'x'));
    each.set_name(std::string(10'000, 'n'));
    journal.add(each);
  }
  EXPECT_EQ(journal.contents().attempts_size(), static_cast<int>(GuestJournal::kMaxAttempts));
  journal.flush();
  EXPECT_EQ(GuestJournal::read_all(dir_).size(), 1u) << "its own file is too large for it";
}

TEST_F(GuestJournalTest, TheOldestOfTooManyMovesAreForgotten) {
  for (std::size_t i = 0; i < GuestJournal::kMaxMoves + 2; ++i) {
    GuestJournal journal(dir_, "g" + std::to_string(i), "host-b:7419");
    journal.add(attempt(1));
    journal.flush();
  }
  const auto found = GuestJournal::read_all(dir_);
  ASSERT_EQ(found.size(), GuestJournal::kMaxMoves);
  EXPECT_EQ(found.front().contents().guest(), "g2");
  EXPECT_EQ(files().size(), GuestJournal::kMaxMoves);
}

TEST_F(GuestJournalTest, AFileThatIsNoJournalIsPutAside) {
  using Journal = wire::GuestJournal;
  const std::string good = spoilt([](Journal&) {});
  const std::vector<std::string> bad = {
      "",
      "not a journal",
      good.substr(0, good.size() - 3),
      std::string(5u << 20, '\0'),
      spoilt([](Journal& each) { each.clear_guest(); }),
      spoilt([](Journal& each) { each.set_guest(std::string(300, 'g')); }),
      spoilt([](Journal& each) { each.set_target("nowhere:port"); }),
      spoilt([](Journal& each) { each.clear_attempts(); }),
      spoilt([](Journal& each) { each.mutable_attempts(0)->mutable_who()->set_attempt("short"); }),
      spoilt([](Journal& each) { each.mutable_attempts(0)->mutable_who()->clear_lineage(); }),
  };
  for (std::size_t i = 0; i < bad.size(); ++i) write(std::to_string(i) + ".guest", bad[i]);
  write("good.guest", good);
  EXPECT_EQ(GuestJournal::read_all(dir_).size(), 1u);
  EXPECT_EQ(files().size(), 1u);
  EXPECT_EQ(files(".unreadable").size(), bad.size());
  EXPECT_EQ(GuestJournal::read_all(dir_).size(), 1u) << "reported once";
}

TEST_F(GuestJournalTest, ADiskThatRefusesIsNoReasonToStop) {
  GuestJournal journal(dir_ / "not there", "web", "host-b:7419");
  journal.add(attempt(1));
  EXPECT_NO_THROW(journal.flush());
  fs::create_directories(dir_ / "not there");
  journal.flush();
  EXPECT_EQ(GuestJournal::read_all(dir_ / "not there").size(), 1u);
}

// --- The book of VMs ----------------------------------------------------------------------------------------------

TEST_F(GuestJournalTest, ABookThatCannotBeReadIsPutAsideAndItsLossRemembered) {
  write("vms", "not a book");
  EXPECT_TRUE(VmBook(dir_).contents().incomplete());
  EXPECT_TRUE(fs::exists(dir_ / "vms.unreadable"));
  EXPECT_TRUE(VmBook(dir_).contents().incomplete()) << "forgotten by the second start";
}

}  // namespace
}  // namespace sealift::daemon

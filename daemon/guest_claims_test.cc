// What a guest's broker may say, and what of it reaches people.
#include "daemon/guest_claims.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace sealift::daemon {
namespace {

wire::GuestReport report_of(std::size_t rows) {
  wire::GuestReport out;
  for (std::size_t i = 0; i < rows; ++i) out.add_rows()->set_id(i);
  return out;
}

TEST(GuestClaims, AsManyEnclavesAsAGuestMayHave) {
  EXPECT_TRUE(credible(report_of(0)));
  EXPECT_TRUE(credible(report_of(kMaxGuestEnclaves)));
  EXPECT_FALSE(credible(report_of(kMaxGuestEnclaves + 1)));
}

TEST(GuestClaims, AsManyGone) {
  wire::GuestReport report;
  for (std::size_t i = 0; i < kMaxGuestEnclaves; ++i) report.add_gone(i);
  EXPECT_TRUE(credible(report));
  report.add_gone(1);
  EXPECT_FALSE(credible(report));
}

TEST(GuestClaims, IdentitiesHaveTheirSizes) {
  wire::GuestReport good = report_of(1);
  good.mutable_rows(0)->set_lineage(std::string(16, 'l'));
  good.mutable_rows(0)->set_attempt(std::string(16, 'a'));
  good.mutable_rows(0)->set_mrenclave(std::string(32, 'm'));
  EXPECT_TRUE(credible(good));
  for (const auto& spoil : {+[](wire::GuestRow& row) { row.set_lineage(std::string(17, 'l')); },
                            +[](wire::GuestRow& row) { row.set_attempt(std::string(1 << 20, 'a')); },
                            +[](wire::GuestRow& row) { row.set_mrenclave("m"); }}) {
    wire::GuestReport bad = good;
    spoil(*bad.mutable_rows(0));
    EXPECT_FALSE(credible(bad));
  }
}

TEST(GuestClaims, WordsAreOneLineForATerminal) {
  EXPECT_EQ(one_line("kv (web)", 64), "kv (web)");
  EXPECT_EQ(one_line("all is well\n\x1b[2J\x07\x9b\xff", 64), "all is well??[2J???");
  EXPECT_EQ(one_line(std::string(1 << 20, 'x'), 64).size(), 64u);
}

TEST(GuestClaims, AnEnclaveOfTheLargestReportFitsIntoALine) {
  wire::GuestRow row;
  for (auto* text : {row.mutable_name(), row.mutable_text(), row.mutable_image()}) *text = std::string(1 << 20, '\n');
  const GuestEnclave enclave = enclave_of(row);
  EXPECT_LT(enclave.name.size() + enclave.text.size() + enclave.image.size(), 512u);
  for (const std::string& text : {enclave.name, enclave.text, enclave.image}) {
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 0);
  }
}

TEST(GuestClaims, ACheckpointIsAllRecordsAndAllCommits) {
  Guest guest;
  EXPECT_EQ(guest.checkpoint_ms(), 0);
  const auto add = [&](double closed, double held, double committed) -> GuestEnclave& {
    guest.enclaves.emplace_back().gate_closed_ms = closed;
    guest.enclaves.back().held_ms = held;
    guest.enclaves.back().committed_ms = committed;
    return guest.enclaves.back();
  };
  add(0, 0, 0);       // newer than the last move
  add(50, 60, 0);     // was let go on
  add(1e9, 70, 100);  // says what cannot be
  add(1, 2, 3).state = GuestEnclave::State::kLost;
  EXPECT_EQ(guest.checkpoint_ms(), 0);
  add(120, 150, 500);
  EXPECT_EQ(guest.checkpoint_ms(), 30);
  add(100, 140, 520);
  EXPECT_EQ(guest.checkpoint_ms(), 50 + 20) << "not what they waited for another one in between";
}

TEST(GuestClaims, AFailureKeepsItsKind) {
  const wire::Failure failure =
      one_line(make_failure(wire::Failure::REFUSED, "no\nno", "kv", std::string(1 << 20, 'x'), Errc::kNotQuiescent));
  EXPECT_EQ(failure.kind(), wire::Failure::REFUSED);
  EXPECT_EQ(failure.errc(), static_cast<std::uint32_t>(Errc::kNotQuiescent));
  EXPECT_EQ(failure.what(), "no?no");
  EXPECT_LT(to_line(failure).size(), 512u);
}

}  // namespace
}  // namespace sealift::daemon

// Framing of the agent-to-agent messages: one named test for each way in which bytes can be wrong.
#include "trusted/agent/link.h"

#include <gtest/gtest.h>

#include <cstring>

#include "trusted/agent/testing/wire.h"

namespace sealift::agent {
namespace {

using messages::LinkHeader;
using messages::LinkKind;

struct LinkTest : ::testing::Test {
  LinkTest() {
    const PeerVerdict verdict;
    link.feed(bytes_of(verdict));  // the stand-in's handshake
    EXPECT_EQ(link.phase(), LinkPhase::kReady);
  }
  static Bytes message(std::uint32_t kind, std::size_t body, std::uint32_t version = 1, std::uint32_t reserved = 0) {
    const LinkHeader header{version, kind, static_cast<std::uint32_t>(body), reserved};
    Bytes bytes(sizeof(header) + body, 0x33);
    std::memcpy(bytes.data(), &header, sizeof(header));
    return bytes;
  }
  void expect_refused(const Bytes& bytes) {
    link.feed(bytes);
    EXPECT_FALSE(link.next());
    EXPECT_EQ(link.phase(), LinkPhase::kFailed);
    EXPECT_EQ(link.error(), Errc::kBadMessage);
    link.feed(message(4, sizeof(messages::LinkResult)));  // stays failed, whatever comes
    EXPECT_FALSE(link.next());
    EXPECT_EQ(link.send(LinkKind::kForget, messages::LinkResult{}), Errc::kNotReady);
  }
  Link link{std::make_unique<testing::TestChannel>(PeerVerdict{})};
};

TEST_F(LinkTest, TakesEveryKindByteByByteAndBackToBack) {
  const std::pair<LinkKind, std::size_t> kinds[] = {
      {LinkKind::kOffer, sizeof(messages::LinkOffer)},         {LinkKind::kOfferAck, sizeof(messages::LinkResult)},
      {LinkKind::kReady, sizeof(messages::LinkReady)},         {LinkKind::kReadyAck, sizeof(messages::LinkResult)},
      {LinkKind::kGrantRequest, sizeof(messages::LinkReady)},  {LinkKind::kGrant, sizeof(messages::Grant)},
      {LinkKind::kGrantRefused, sizeof(messages::LinkResult)}, {LinkKind::kForget, sizeof(messages::LinkResult)},
  };
  Bytes all;
  for (const auto& [kind, size] : kinds) {
    const Bytes one = message(static_cast<std::uint32_t>(kind), size);
    for (std::size_t i = 0; i < one.size(); ++i) {
      EXPECT_FALSE(link.next());
      link.feed({&one[i], 1});
    }
    const auto taken = link.next();
    ASSERT_TRUE(taken);
    EXPECT_EQ(taken->kind, kind);
    all.insert(all.end(), one.begin(), one.end());
  }
  link.feed(all);
  for (const auto& [kind, size] : kinds) {
    const auto taken = link.next();
    ASSERT_TRUE(taken);
    EXPECT_EQ(taken->kind, kind);
  }
  EXPECT_FALSE(link.next());
  EXPECT_EQ(link.phase(), LinkPhase::kReady);
}

TEST_F(LinkTest, AnotherVersionIsRefused) {
  expect_refused(message(2, sizeof(messages::LinkResult), 2));
}
TEST_F(LinkTest, AReservedFieldIsRefused) {
  expect_refused(message(2, sizeof(messages::LinkResult), 1, 1));
}
TEST_F(LinkTest, KindZeroIsRefused) {
  expect_refused(message(0, 24));
}
TEST_F(LinkTest, AnUnknownKindIsRefused) {
  expect_refused(message(9, 24));
}
TEST_F(LinkTest, AShorterBodyIsRefused) {
  expect_refused(message(6, sizeof(messages::Grant) - 1));
}
TEST_F(LinkTest, ALongerBodyIsRefused) {
  expect_refused(message(6, sizeof(messages::Grant) + 1));
}
TEST_F(LinkTest, AHugeBodyIsRefusedBeforeItArrives) {
  Bytes header = message(1, 0);
  const std::uint32_t huge = 0xffffffff;
  std::memcpy(header.data() + offsetof(LinkHeader, body_len), &huge, sizeof(huge));
  expect_refused(header);
}

TEST_F(LinkTest, SaysNothingWhileHandshaking) {
  Link fresh{std::make_unique<testing::TestChannel>(PeerVerdict{})};
  EXPECT_EQ(fresh.send(LinkKind::kForget, messages::LinkResult{}), Errc::kNotReady);
}

}  // namespace
}  // namespace sealift::agent

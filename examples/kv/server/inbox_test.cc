// Where commands end, however their bytes arrive.
#include "examples/kv/server/inbox.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "examples/kv/store/resp.h"

namespace kv {
namespace {

constexpr std::size_t kCapacity = resp::kMaxInlineBytes;

std::string set(std::size_t bytes) {
  return "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$" + std::to_string(bytes) + "\r\n" + std::string(bytes, 'x') + "\r\n";
}

// What the inbox says, with every batch consumed at once: "batch:…", "oversized", "broken".
class Feed {
 public:
  void operator()(std::string_view bytes, std::size_t piece) {
    while (!bytes.empty()) {
      const std::span<char> space = inbox.space();
      ASSERT_FALSE(space.empty()) << "no room, and nothing to do";
      const std::size_t n = std::min({space.size(), bytes.size(), piece});
      std::copy_n(bytes.data(), n, space.data());
      bytes.remove_prefix(n);
      inbox.received(n);
      drain();
    }
  }
  void drain() {
    for (Inbox::Item item = inbox.next(); item.kind != Inbox::Kind::kNothing; item = inbox.next()) {
      if (item.kind == Inbox::Kind::kBroken) {
        seen.emplace_back("broken");
        return;
      }
      if (item.kind == Inbox::Kind::kOversized) {
        seen.emplace_back("oversized");
        continue;
      }
      batches += item.bytes;
      if (seen.empty() || seen.back() != "batch") seen.emplace_back("batch");
      inbox.consumed(item.bytes.size());
    }
  }

  Inbox inbox{kCapacity};
  std::vector<std::string> seen;
  std::string batches;
};

TEST(Inbox, AnythingUpToTheLastWholeCommandIsABatch) {
  Inbox inbox;
  const std::string in = "PING\r\n" + set(5) + "*1\r\n$4\r\nPI";
  std::copy(in.begin(), in.end(), inbox.space().data());
  inbox.received(in.size());
  EXPECT_EQ(inbox.next().bytes, "PING\r\n" + set(5));
  inbox.consumed(6);  // the enclave may do with less
  EXPECT_EQ(inbox.next().bytes, set(5));
  inbox.consumed(set(5).size());
  EXPECT_EQ(inbox.next().kind, Inbox::Kind::kNothing);
  std::copy_n("NG\r\n", 4, inbox.space().data());
  inbox.received(4);
  EXPECT_EQ(inbox.next().bytes, "*1\r\n$4\r\nPING\r\n");
}

class Pieces : public testing::TestWithParam<std::size_t> {};

TEST_P(Pieces, WholeCommandsComeThroughUnchanged) {
  std::string in;
  for (std::size_t n : {0u, 1u, 100u, 5000u, 60000u, 3u}) in += "PING x\r\n" + set(n) + "*0\r\n";
  Feed feed;
  feed(in, GetParam());
  EXPECT_EQ(feed.batches, in);
  EXPECT_EQ(feed.seen, (std::vector<std::string>{"batch"}));
}

TEST_P(Pieces, ACommandThatIsTooLargeIsDroppedAndNothingElse) {
  Feed feed;
  feed("PING\r\n" + set(kCapacity) + "PING\r\n" + set(3 * kCapacity) + set(2), GetParam());
  EXPECT_EQ(feed.batches, "PING\r\nPING\r\n" + set(2));
  EXPECT_EQ(feed.seen, (std::vector<std::string>{"batch", "oversized", "batch", "oversized", "batch"}));
}

TEST_P(Pieces, ManySmallArgumentsAreTooLargeTogether) {
  std::string in = "*20000\r\n";
  for (int i = 0; i < 20000; ++i) in += "$1\r\nx\r\n";
  Feed feed;
  feed(in + "PING\r\n", GetParam());
  EXPECT_EQ(feed.batches, "PING\r\n");
  EXPECT_EQ(feed.seen, (std::vector<std::string>{"oversized", "batch"}));
}

INSTANTIATE_TEST_SUITE_P(Inbox, Pieces, testing::Values(1, 7, 4096, 1 << 20));

TEST(Inbox, TheLargestCommandThatFitsComesThrough) {
  const std::size_t overhead = set(kCapacity).size() - kCapacity;
  const std::string in = set(kCapacity - overhead);
  ASSERT_EQ(in.size(), kCapacity);
  Feed feed;
  feed("PING\r\n" + in + "PING\r\n", 1000);
  EXPECT_EQ(feed.batches, "PING\r\n" + in + "PING\r\n");
  Feed one_more;
  one_more(set(kCapacity - overhead + 1), 1000);
  EXPECT_EQ(one_more.seen, (std::vector<std::string>{"oversized"}));
}

TEST(Inbox, WhatIsNoRespGoesToTheEnclaveBehindTheCommandsBeforeIt) {
  Inbox inbox;
  const std::string in = "PING\r\n*1\r\n!garbage";
  std::copy(in.begin(), in.end(), inbox.space().data());
  inbox.received(in.size());
  EXPECT_EQ(inbox.next().bytes, "PING\r\n");
  inbox.consumed(6);
  EXPECT_EQ(inbox.next().bytes, "*1\r\n!garbage");
}

TEST(Inbox, GarbageInsideOfADroppedCommandBreaksTheConnection) {
  Feed feed;
  feed("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$100000\r\n" + std::string(100000, 'x') + "\r\n" + "PING\r\n", 4096);
  EXPECT_EQ(feed.seen, (std::vector<std::string>{"oversized", "batch"}));
  Feed broken;
  broken("*4\r\n$3\r\nSET\r\n$1\r\na\r\n$100000\r\n" + std::string(100000, 'x') + "\r\n" + "PING\r\n", 4096);
  EXPECT_EQ(broken.seen, (std::vector<std::string>{"broken"}));
}

}  // namespace
}  // namespace kv

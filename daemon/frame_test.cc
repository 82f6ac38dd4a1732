#include "daemon/frame.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>

namespace sealift::daemon {
namespace {

void feed(FrameDecoder& decoder, const std::string& bytes) {
  std::size_t done = 0;
  while (done < bytes.size()) {
    const auto space = decoder.space();
    const std::size_t count = std::min(space.size(), bytes.size() - done);
    std::memcpy(space.data(), bytes.data() + done, count);
    decoder.filled(count);
    done += count;
  }
}

std::string prefix(std::uint32_t length) {
  std::string out(4, '\0');
  for (std::size_t i = 0; i < 4; ++i) out[i] = static_cast<char>((length >> (8 * i)) & 0xff);
  return out;
}

wire::Envelope record(std::size_t size, std::uint64_t id = 0) {
  wire::Envelope out;
  out.set_id(id);
  out.mutable_record()->set_record(std::string(size, 'r'));
  return out;
}

TEST(Frame, RoundTrip) {
  FrameDecoder decoder;
  feed(decoder, encode(record(1000, 7)).value());
  wire::Envelope out;
  ASSERT_EQ(decoder.next(out), FrameStatus::kFrame);
  EXPECT_EQ(out.id(), 7u);
  EXPECT_EQ(out.record().record().size(), 1000u);
  EXPECT_EQ(decoder.next(out), FrameStatus::kNeedMore);
}

TEST(Frame, ManyFramesCutAtEveryByte) {
  std::string stream;
  for (std::uint64_t id = 1; id <= 5; ++id) stream += encode(record(id * 10, id)).value();
  for (std::size_t cut = 0; cut <= stream.size(); ++cut) {
    FrameDecoder decoder;
    std::vector<std::uint64_t> ids;
    wire::Envelope out;
    for (const std::string& part : {stream.substr(0, cut), stream.substr(cut)}) {
      feed(decoder, part);
      while (decoder.next(out) == FrameStatus::kFrame) ids.push_back(out.id());
    }
    EXPECT_EQ(ids, (std::vector<std::uint64_t>{1, 2, 3, 4, 5})) << "cut at " << cut;
  }
}

TEST(Frame, TruncatedPrefixNeedsMore) {
  FrameDecoder decoder;
  wire::Envelope out;
  EXPECT_EQ(decoder.next(out), FrameStatus::kNeedMore);
  feed(decoder, std::string("\x05\0\0", 3));
  EXPECT_EQ(decoder.next(out), FrameStatus::kNeedMore);
}

TEST(Frame, TruncatedBodyNeedsMore) {
  FrameDecoder decoder;
  wire::Envelope out;
  std::string bytes = encode(record(100)).value();
  bytes.pop_back();
  feed(decoder, bytes);
  EXPECT_EQ(decoder.next(out), FrameStatus::kNeedMore);
}

TEST(Frame, EmptyFrameIsRefusedForEver) {
  FrameDecoder decoder;
  wire::Envelope out;
  feed(decoder, prefix(0) + encode(record(1)).value());
  EXPECT_EQ(decoder.next(out), FrameStatus::kEmpty);
  EXPECT_EQ(decoder.next(out), FrameStatus::kEmpty);
}

TEST(Frame, OversizedFrameIsRefusedFromItsPrefixAlone) {
  FrameDecoder decoder;
  wire::Envelope out;
  feed(decoder, prefix(static_cast<std::uint32_t>(kMaxFrame) + 1));
  EXPECT_LE(decoder.space().size(), kMaxFrame) << "no memory is set aside for it";
  EXPECT_EQ(decoder.next(out), FrameStatus::kOversized);
  FrameDecoder huge;
  feed(huge, prefix(0xffffffff));
  EXPECT_EQ(huge.next(out), FrameStatus::kOversized);
}

TEST(Frame, GarbageIsMalformed) {
  FrameDecoder decoder;
  wire::Envelope out;
  feed(decoder, prefix(8) + std::string(8, '\xff'));
  EXPECT_EQ(decoder.next(out), FrameStatus::kMalformed);
  feed(decoder, encode(record(1)).value());
  EXPECT_EQ(decoder.next(out), FrameStatus::kMalformed);
}

TEST(Frame, LengthsInsideTheEnvelopeCannotReachPastIt) {
  std::string bytes = encode(record(100)).value();
  bytes[6] = '\x7f';  // a nested length that promises more than the frame has
  FrameDecoder decoder;
  wire::Envelope out;
  feed(decoder, bytes);
  EXPECT_EQ(decoder.next(out), FrameStatus::kMalformed);
}

TEST(Frame, LargestFramePassesAndOneMoreDoesNot) {
  const std::size_t overhead = record(kMaxFrame - 64).ByteSizeLong() - (kMaxFrame - 64);
  const auto largest = encode(record(kMaxFrame - overhead));
  ASSERT_TRUE(largest.has_value());
  EXPECT_FALSE(encode(record(kMaxFrame - overhead + 1)).has_value());
  FrameDecoder decoder;
  wire::Envelope out;
  feed(decoder, *largest + *largest);
  EXPECT_EQ(decoder.next(out), FrameStatus::kFrame);
  EXPECT_EQ(decoder.next(out), FrameStatus::kFrame);
}

TEST(Frame, NothingToSayIsNotEncoded) {
  EXPECT_FALSE(encode(wire::Envelope()).has_value());
}

TEST(Frame, RandomBytesNeverYieldMoreThanTheyHold) {
  std::mt19937 random(20170626);
  for (int round = 0; round < 500; ++round) {
    FrameDecoder decoder;
    std::string bytes(random() % 300, '\0');
    for (char& c : bytes) c = static_cast<char>(random() % 7 == 0 ? random() % 256 : random() % 4);
    feed(decoder, bytes);
    wire::Envelope out;
    std::size_t frames = 0;
    while (decoder.next(out) == FrameStatus::kFrame) ++frames;
    EXPECT_LE(frames, bytes.size() / (kFramePrefix + 1));
  }
}

wire::Hello range(std::uint32_t low, std::uint32_t high) {
  wire::Hello out;
  out.set_version_min(low);
  out.set_version_max(high);
  return out;
}

TEST(Negotiate, HighestCommonVersion) {
  EXPECT_EQ(negotiate(range(1, 3), range(2, 5)), 3u);
  EXPECT_EQ(negotiate(range(2, 5), range(1, 3)), 3u);
  EXPECT_EQ(negotiate(range(1, 1), range(1, 1)), 1u);
}

TEST(Negotiate, NoCommonVersion) {
  EXPECT_FALSE(negotiate(range(1, 2), range(3, 4)).has_value());
  EXPECT_FALSE(negotiate(range(3, 4), range(1, 2)).has_value());
}

TEST(Negotiate, AbsentOrInvertedRangesAreRefused) {
  EXPECT_FALSE(negotiate(range(1, 1), wire::Hello()).has_value());
  EXPECT_FALSE(negotiate(range(1, 1), range(0, 9)).has_value());
  EXPECT_FALSE(negotiate(range(1, 5), range(4, 3)).has_value());
}

}  // namespace
}  // namespace sealift::daemon

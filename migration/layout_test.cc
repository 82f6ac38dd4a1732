// The layouts of docs/format.md and docs/protocol.md, offset by offset, as the documents state them.
#include <gtest/gtest.h>

#include <cstddef>

#include "migration/messages.h"
#include "migration/record.h"

namespace sealift {
namespace {

TEST(Layout, RecordHeader) {
  using record::RecordHeader;
  EXPECT_EQ(sizeof(RecordHeader), 32u);
  EXPECT_EQ(offsetof(RecordHeader, magic), 0u);
  EXPECT_EQ(offsetof(RecordHeader, version), 4u);
  EXPECT_EQ(offsetof(RecordHeader, kind), 6u);
  EXPECT_EQ(offsetof(RecordHeader, sequence), 8u);
  EXPECT_EQ(offsetof(RecordHeader, body_len), 16u);
  EXPECT_EQ(offsetof(RecordHeader, page_count), 20u);
  EXPECT_EQ(offsetof(RecordHeader, first_page), 24u);
  EXPECT_EQ(record::kMaxBody, 262'144u);
  EXPECT_EQ(record::kMaxZeroPagesPerRecord, 1'048'576u);
}

TEST(Layout, MagicReadsAsTextInADump) {
  const std::uint32_t magic = record::kMagic;
  const auto* bytes = reinterpret_cast<const char*>(&magic);
  EXPECT_EQ(std::string(bytes, 4), "SLR1");
}

TEST(Layout, KindsAndThreadStates) {
  EXPECT_EQ(int(record::Kind::kPages), 1);
  EXPECT_EQ(int(record::Kind::kZeroes), 2);
  EXPECT_EQ(int(record::Kind::kArena), 3);
  EXPECT_EQ(int(record::Kind::kThreads), 4);
  EXPECT_EQ(int(record::Kind::kFinal), 5);
  EXPECT_EQ(int(abi::ThreadState::kRunning), 3);
  EXPECT_EQ(int(abi::ThreadState::kParked), 5);
}

TEST(Layout, ThreadEntryAndStash) {
  using record::ThreadEntry;
  EXPECT_EQ(sizeof(ThreadEntry), 40u);
  EXPECT_EQ(offsetof(ThreadEntry, tcs), 0u);
  EXPECT_EQ(offsetof(ThreadEntry, state), 4u);
  EXPECT_EQ(offsetof(ThreadEntry, fsbase), 8u);
  EXPECT_EQ(offsetof(ThreadEntry, resume_rsp), 16u);
  EXPECT_EQ(offsetof(ThreadEntry, clear_tid), 24u);
  EXPECT_EQ(offsetof(ThreadEntry, migrated), 32u);
  EXPECT_EQ(offsetof(ThreadEntry, stash_len), 36u);
  EXPECT_EQ(sizeof(record::Stash), 4096u);
  EXPECT_EQ(offsetof(record::Stash, gpr), 3584u);
  EXPECT_EQ(sizeof(record::Stash::reserved), 328u);
}

TEST(Layout, Final) {
  using record::Final;
  EXPECT_EQ(sizeof(Final), 208u);
  EXPECT_EQ(offsetof(Final, digest), 0u);
  EXPECT_EQ(offsetof(Final, records), 32u);
  EXPECT_EQ(offsetof(Final, pages), 40u);
  EXPECT_EQ(offsetof(Final, zero_pages), 48u);
  EXPECT_EQ(offsetof(Final, arena_bytes), 56u);
  EXPECT_EQ(offsetof(Final, threads), 64u);
  EXPECT_EQ(offsetof(Final, tcs_count), 68u);
  EXPECT_EQ(offsetof(Final, lineage), 72u);
  EXPECT_EQ(offsetof(Final, epoch), 88u);
  EXPECT_EQ(offsetof(Final, attempt), 96u);
  EXPECT_EQ(offsetof(Final, elrange_base), 112u);
  EXPECT_EQ(offsetof(Final, elrange_size), 120u);
  EXPECT_EQ(offsetof(Final, arena_base), 128u);
  EXPECT_EQ(offsetof(Final, xfrm), 136u);
  EXPECT_EQ(offsetof(Final, mrenclave), 144u);
  EXPECT_EQ(offsetof(Final, mrsigner), 176u);
}

TEST(Layout, Messages) {
  using namespace messages;
  EXPECT_EQ(offsetof(AgentHello, instance_key), 8u);
  EXPECT_EQ(offsetof(AgentHello, target), 512u);
  EXPECT_EQ(offsetof(EnclaveHello, attempt), 8u);
  EXPECT_EQ(offsetof(EnclaveHello, enclave_key), 24u);
  EXPECT_EQ(offsetof(EnclaveHello, report), 56u);
  EXPECT_EQ(offsetof(AgentConfirm, mac), 432u);
  EXPECT_EQ(offsetof(SealedHeader, sequence), 8u);
  EXPECT_EQ(offsetof(SealedHeader, body_len), 16u);
  EXPECT_EQ(offsetof(Prepare, epoch), 16u);
  EXPECT_EQ(offsetof(Prepare, attempt), 24u);
  EXPECT_EQ(offsetof(Prepare, key), 40u);
  EXPECT_EQ(offsetof(Prepare, policy), 72u);
  EXPECT_EQ(offsetof(KeyRequest, policy), 16u);
  EXPECT_EQ(offsetof(Ready, digest), 16u);
  EXPECT_EQ(offsetof(Ready, instance_key), 48u);
  EXPECT_EQ(offsetof(Grant, instance_key), 72u);
  EXPECT_EQ(sizeof(LinkOffer), 312u);
  EXPECT_EQ(sizeof(LinkReady), 272u);
}

}  // namespace
}  // namespace sealift

// Records with wrong contents under a right tag: what is behind the authentication, in case that somebody who holds K
// errs (S1; docs/format.md, Refusals). One refusal each; the source goes on.
#include <gtest/gtest.h>

#include "tests/lab/stream_fixture.h"

namespace sealift::lab {
namespace {

class SealedRecords : public StreamFixture {};

TEST_F(SealedRecords, AnUnknownKindIsRefused) {
  for (const std::uint16_t kind : {std::uint16_t{0}, std::uint16_t{6}, std::uint16_t{0xffff}}) {
    record::RecordHeader h = head(Kind::kZeroes, 0, 1, 0);
    h.kind = kind;
    expect_refused(with_first(h, {}), Errc::kBadKind);
  }
}

TEST_F(SealedRecords, ASurplusRecordAfterTheFinalOneIsRefused) {
  OpenStream s = stream_;
  s.records.push_back(stream_.records[first_of(Kind::kZeroes)]);
  expect_refused(s.seal(), Errc::kBadCount);
}

TEST_F(SealedRecords, LengthsThatDoNotFitTheKindAreRefused) {
  const std::uint32_t page = sgx::kPageSize;
  expect_refused(with_first(head(Kind::kPages, 1, 0, 0), {}), Errc::kBadLength);
  expect_refused(with_first(head(Kind::kPages, 1, 2, page), Bytes(page)), Errc::kBadLength);
  expect_refused(with_first(head(Kind::kPages, 1, 1, page - 1), Bytes(page - 1)), Errc::kBadLength);
  expect_refused(with_first(head(Kind::kZeroes, 1, 0, 0), {}), Errc::kBadLength);
  expect_refused(with_first(head(Kind::kZeroes, 1, 1, page), Bytes(page)), Errc::kBadLength);
  expect_refused(with_first(head(Kind::kZeroes, 1, record::kMaxZeroPagesPerRecord + 1, 0), {}), Errc::kBadLength);
  expect_refused(with_first(head(Kind::kThreads, 0, 1, 0), {}), Errc::kBadLength);
  expect_refused(with_first(head(Kind::kThreads, 1, 0, 0), {}), Errc::kBadLength);
  expect_refused(with_first(head(Kind::kFinal, 0, 0, sizeof(record::Final) - 1), Bytes(sizeof(record::Final) - 1)),
                 Errc::kBadLength);
}

TEST_F(SealedRecords, ABodyLargerThanARecordMayHaveIsRefused) {
  // The first is refused for its shape as well; of the others only the bound keeps them out of core's scratch.
  constexpr auto kTooLong = static_cast<std::uint32_t>(record::kMaxBody + 1);
  constexpr std::uint32_t kTooMany = record::kMaxBody / sgx::kPageSize + 1;
  for (const record::RecordHeader& h : {head(Kind::kPages, 1, 1, kTooLong), head(Kind::kThreads, 0, 0, kTooLong),
                                        head(Kind::kPages, 1, kTooMany, kTooMany * sgx::kPageSize)}) {
    record::RecordHeader first = stream_.records.front().header;
    first.kind = h.kind;
    first.page_count = h.page_count;
    first.first_page = h.first_page;
    first.body_len = h.body_len;
    std::vector<Bytes> records = sealed_;
    records[0].resize(sizeof first + first.body_len + record::kTagBytes);
    std::memcpy(records[0].data(), &first, sizeof first);
    expect_refused(records, Errc::kBadLength);
  }
}

TEST_F(SealedRecords, PagesOutsideACheckpointAreRefused) {
  const EnclaveConfig c = source_.config();
  const auto page = [](std::uint64_t offset) { return offset / sgx::kPageSize; };
  expect_misplaced(page(c.elrange_size));      // the arena
  expect_misplaced(page(c.elrange_size) - 1);  // ELRANGE's unused end
  expect_misplaced(~std::uint64_t{0});
  expect_misplaced(std::uint64_t{1} << 52);
  expect_misplaced(page(c.entry_offset));        // code
  expect_misplaced(0);                           // the ELF header
  expect_misplaced(page(c.heap_offset) - 1);     // guard
  expect_misplaced(page(thread_base(c, kTcs)));  // guard
  expect_misplaced(page(tcs_offset(c, kTcs)));   // a TCS
  expect_misplaced(page(ssa_offset(c, kTcs)));   // its SSA
  expect_misplaced(page(ssa_offset(c, kTcs)) + 1);
  expect_misplaced(page(ssa_offset(c, 0)));
}

TEST_F(SealedRecords, TheCoreAreaIsNeverWritten) {
  for (const char* symbol : {"sealift_gate", "sealift_thread_blocks", "sealift_control_stack", "sealift_core_begin"}) {
    expect_misplaced(source_.symbol(symbol) / sgx::kPageSize);
  }
  expect_misplaced(source_.symbol("sealift_core_end") / sgx::kPageSize - 1);
}

TEST_F(SealedRecords, ARangeThatRunsOutOfACheckpointIsRefused) {
  const EnclaveConfig c = source_.config();
  const std::uint64_t last = (c.heap_offset + c.heap_size) / sgx::kPageSize - 1;
  expect_misplaced(last, 2);  // into the guard
  expect_misplaced(last, record::kMaxZeroPagesPerRecord);
  expect_misplaced(stack_offset(c, kTcs) / sgx::kPageSize,
                   static_cast<std::uint32_t>(c.stack_size / sgx::kPageSize) + 1);
  expect_misplaced(source_.symbol("sealift_core_begin") / sgx::kPageSize - 1, 2);
}

TEST_F(SealedRecords, ArenaPagesOfTheControlSlotOrBeyondAreRefused) {
  const EnclaveConfig c = source_.config();
  const std::uint64_t end = abi::arena_bytes(c.tcs_count, c.slot_bytes) / sgx::kPageSize;
  const std::uint32_t page = sgx::kPageSize;
  for (const std::uint64_t first :
       {std::uint64_t{0}, abi::kControlSlotBytes / sgx::kPageSize - 1, end, end + 1, ~std::uint64_t{0}}) {
    expect_refused(with_first(head(Kind::kArena, first, 1, page), Bytes(page)), Errc::kBadPlacement);
  }
  expect_refused(with_first(head(Kind::kArena, end - 1, 2, 2 * page), Bytes(2 * page)), Errc::kBadPlacement);
}

class ThreadRecords : public StreamFixture {
 protected:
  std::vector<Bytes> with_thread(record::ThreadEntry e, std::size_t stash_bytes = 0) {
    Bytes body(sizeof e + stash_bytes);
    std::memcpy(body.data(), &e, sizeof e);
    return with_first(head(Kind::kThreads, 0, 0, static_cast<std::uint32_t>(body.size())), body);
  }
  static record::ThreadEntry entry(std::uint32_t tcs, abi::ThreadState state, std::uint32_t stash = 0) {
    record::ThreadEntry e{};
    e.tcs = tcs;
    e.state = static_cast<std::uint32_t>(state);
    e.stash_len = stash;
    return e;
  }
};

TEST_F(ThreadRecords, MoreThreadsThanTcssAreRefused) {
  const std::uint32_t count = source_.config().tcs_count;
  for (const std::uint32_t tcs : {count, count + 1, abi::kMaxTcs, abi::kMaxTcs + 1, ~0u}) {
    expect_refused(with_thread(entry(tcs, abi::ThreadState::kFree)), Errc::kTooManyThreads);
  }
}

TEST_F(ThreadRecords, TheControlThreadDoesNotTravel) {
  expect_refused(with_thread(entry(0, abi::ThreadState::kFree)), Errc::kTooManyThreads);
}

TEST_F(ThreadRecords, AStateThatCannotTravelIsRefused) {
  expect_refused(with_thread(entry(kTcs, abi::ThreadState::kRunning)), Errc::kBadLength);
  expect_refused(with_thread(entry(kTcs, static_cast<abi::ThreadState>(6))), Errc::kBadLength);
  expect_refused(with_thread(entry(kTcs, static_cast<abi::ThreadState>(~0u))), Errc::kBadLength);
}

TEST_F(ThreadRecords, AStashWhereNoneBelongsOrNoneWhereOneDoesIsRefused) {
  const auto stash = static_cast<std::uint32_t>(sizeof(record::Stash));
  expect_refused(with_thread(entry(kTcs, abi::ThreadState::kParked)), Errc::kBadLength);
  expect_refused(with_thread(entry(kTcs, abi::ThreadState::kFree, stash), stash), Errc::kBadLength);
  expect_refused(with_thread(entry(kTcs, abi::ThreadState::kParked, stash - 1), stash - 1), Errc::kBadLength);
  expect_refused(with_thread(entry(kTcs, abi::ThreadState::kParked, stash), stash - 1), Errc::kBadLength);
  expect_refused(with_thread(entry(kTcs, abi::ThreadState::kParked, ~0u), stash), Errc::kBadLength);
}

TEST_F(ThreadRecords, EntriesThatDoNotFillTheBodyAreRefused) {
  expect_refused(with_thread(entry(kTcs, abi::ThreadState::kFree), 1), Errc::kBadLength);
  expect_refused(with_thread(entry(kTcs, abi::ThreadState::kFree), sizeof(record::ThreadEntry) - 1), Errc::kBadLength);
}

TEST_F(SealedRecords, AnotherDigestIsRefused) {
  expect_bad_final([](record::Final& f) { f.digest[0] ^= 1; }, Errc::kBadDigest);
}

TEST_F(SealedRecords, AStreamThatWasMendedButForItsDigestIsRefused) {
  OpenStream s = stream_;
  s.records[first_of(Kind::kPages)].body[0] ^= 1;
  expect_refused(s.seal(false), Errc::kBadDigest);
}

TEST_F(SealedRecords, OtherCountsAreRefused) {
  expect_bad_final([](record::Final& f) { ++f.records; }, Errc::kBadCount);
  expect_bad_final([](record::Final& f) { --f.pages; }, Errc::kBadCount);
  expect_bad_final([](record::Final& f) { ++f.zero_pages; }, Errc::kBadCount);
  expect_bad_final([](record::Final& f) { f.arena_bytes += sgx::kPageSize; }, Errc::kBadCount);
  expect_bad_final([](record::Final& f) { --f.threads; }, Errc::kBadCount);
}

TEST_F(SealedRecords, AnotherIdentityIsRefused) {
  expect_bad_final([](record::Final& f) { f.mrenclave.bytes[31] ^= 1; }, Errc::kWrongEnclave);
  expect_bad_final([](record::Final& f) { f.mrsigner.bytes[0] ^= 1; }, Errc::kWrongEnclave);
  expect_bad_final([](record::Final& f) { f.xfrm ^= sgx::xfrm::kPkru; }, Errc::kWrongEnclave);
  expect_bad_final([](record::Final& f) { ++f.tcs_count; }, Errc::kWrongEnclave);
  expect_bad_final([](record::Final& f) { f.elrange_size *= 2; }, Errc::kWrongEnclave);
}

TEST_F(SealedRecords, AnotherBaseIsRefused) {
  expect_bad_final([](record::Final& f) { f.elrange_base += f.elrange_size; }, Errc::kWrongBase);
  expect_bad_final([](record::Final& f) { f.arena_base += sgx::kPageSize; }, Errc::kWrongBase);
}

TEST_F(SealedRecords, AnotherAttemptLineageOrEpochIsRefused) {
  expect_bad_final([](record::Final& f) { f.attempt[0] ^= 1; }, Errc::kWrongAttempt);
  expect_bad_final([](record::Final& f) { f.lineage[15] ^= 1; }, Errc::kWrongLineage);
  expect_bad_final([](record::Final& f) { ++f.epoch; }, Errc::kWrongEpoch);
}

// A key that came with another attempt opens nothing: the attempt is authenticated with every record.
TEST_F(SealedRecords, TheKeyUnderAnotherAttemptOpensNothing) {
  target_.close();
  ASSERT_EQ(target_.build("tiny", source_.base), Errc::kOk) << target_.error;
  OpenStream other = stream_;
  other.prepare.attempt[0] ^= 1;
  KeyHolder agent(there_);
  EXPECT_EQ(agent.restore(target_, other, sealed_), Errc::kBadTag);
  EXPECT_EQ(gate_of(target_), GateState::kDestroyed);
}

}  // namespace
}  // namespace sealift::lab

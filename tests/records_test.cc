// Streams that are not what the source sealed, as any host can make them (S1; docs/format.md, Refusals). Every refusal
// ends the target instance and none the source: each test ends with the source going on.
#include <gtest/gtest.h>

#include "tests/lab/stream_fixture.h"
#include "trusted/agent/crypto.h"

namespace sealift::lab {
namespace {

class Records : public StreamFixture {};

TEST_F(Records, TheStreamItselfIsTaken) {
  begin();
  ASSERT_EQ(feed(target_, sealed_), Errc::kOk);
  ASSERT_EQ(target_agent_->grant(target_, stream_), Errc::kOk);
  EXPECT_EQ(*target_.raw_call(kTcs, counter::kGet, "k"), "v");
}

// The control for the tests that write records of their own.
TEST_F(Records, TheStreamSealedAgainByTheTestIsTaken) {
  begin();
  const std::vector<Bytes> again = stream_.seal();
  ASSERT_EQ(feed(target_, again), Errc::kOk);
  EXPECT_EQ(again, sealed_);
}

TEST_F(Records, ManyRecordsInOneEntryAreTaken) {
  begin();
  Bytes batch;
  for (const Bytes& r : sealed_) {
    if (batch.size() + r.size() > abi::kControlSlotBytes) {
      ASSERT_EQ(target_.control(ControlOp::kRecord, batch), Errc::kOk);
      batch.clear();
    }
    batch.insert(batch.end(), r.begin(), r.end());
  }
  ASSERT_EQ(target_.control(ControlOp::kRecord, batch), Errc::kOk);
  EXPECT_EQ(target_.control(ControlOp::kReady), Errc::kOk);
}

TEST_F(Records, AStreamWithoutItsFinalRecordShowsNoDigest) {
  begin();
  ASSERT_EQ(feed(target_, {sealed_.begin(), sealed_.end() - 1}), Errc::kOk);
  EXPECT_EQ(target_.control(ControlOp::kReady), Errc::kNotReady);
  EXPECT_EQ(target_.status().restored, 0u);
  EXPECT_EQ(gate_of(target_), GateState::kRestoring);
}

TEST_F(Records, ATruncatedRecordIsRefused) {
  for (const std::size_t keep : {std::size_t{0}, std::size_t{1}, std::size_t{47}}) {
    expect_refused({Bytes(sealed_[0].begin(), sealed_[0].begin() + static_cast<std::ptrdiff_t>(keep))},
                   Errc::kTruncated);
  }
  for (const std::size_t i : {first_of(Kind::kPages), first_of(Kind::kThreads), sealed_.size() - 1}) {
    std::vector<Bytes> cut = sealed_;
    cut[i].pop_back();
    expect_refused(cut, Errc::kTruncated);
  }
}

TEST_F(Records, BytesAfterARecordAreRefused) {
  std::vector<Bytes> longer = sealed_;
  longer[0].push_back(0);
  expect_refused(longer, Errc::kTruncated);
  longer = sealed_;
  longer[0].insert(longer[0].end(), sealed_[0].begin(), sealed_[0].end());
  expect_refused(longer, Errc::kBadSequence);
}

TEST_F(Records, ARepeatedRecordIsRefused) {
  std::vector<Bytes> repeated = sealed_;
  repeated.insert(repeated.begin() + 1, sealed_[0]);
  expect_refused(repeated, Errc::kBadSequence);
}

TEST_F(Records, AMissingRecordIsRefused) {
  for (const std::size_t i : {std::size_t{0}, sealed_.size() / 2, sealed_.size() - 2}) {
    std::vector<Bytes> missing = sealed_;
    missing.erase(missing.begin() + static_cast<std::ptrdiff_t>(i));
    expect_refused(missing, Errc::kBadSequence);
  }
}

TEST_F(Records, ReorderedRecordsAreRefused) {
  std::vector<Bytes> swapped = sealed_;
  std::swap(swapped[0], swapped[1]);
  expect_refused(swapped, Errc::kBadSequence);
}

TEST_F(Records, ARepeatedFinalRecordIsRefused) {
  std::vector<Bytes> surplus = sealed_;
  surplus.push_back(sealed_.back());
  expect_refused(surplus, Errc::kBadSequence);
}

// A host may number a record anew; its tag then is another's.
TEST_F(Records, ARenumberedRecordIsRefused) {
  std::vector<Bytes> renumbered = sealed_;
  renumbered.insert(renumbered.begin() + 1, sealed_[0]);
  const std::uint64_t one = 1;
  std::memcpy(renumbered[1].data() + offsetof(record::RecordHeader, sequence), &one, sizeof one);
  expect_refused(renumbered, Errc::kBadTag);
}

TEST_F(Records, AFlippedBitInAnyRecordIsRefused) {
  for (std::size_t i = 0; i < sealed_.size(); ++i) {
    SCOPED_TRACE(i);
    const std::size_t body = sealed_[i].size() - sizeof(record::RecordHeader) - record::kTagBytes;
    std::vector<std::size_t> where = {sealed_[i].size() - 1 - i % record::kTagBytes};  // tag
    where.push_back((i * 13) % sizeof(record::RecordHeader));
    if (body != 0) where.push_back(sizeof(record::RecordHeader) + (i * 7919) % body);
    for (const std::size_t at : where) {
      std::vector<Bytes> flipped = sealed_;
      flipped[i][at] = static_cast<std::uint8_t>(flipped[i][at] ^ (1u << (i % 8)));
      begin();
      const Errc e = feed(target_, flipped);
      ASSERT_TRUE(e == Errc::kBadTag || (e != Errc::kOk && at < sizeof(record::RecordHeader))) << at;
      ASSERT_EQ(gate_of(target_), GateState::kDestroyed);
    }
  }
}

TEST_F(Records, AFlippedBitInAnyByteOfAHeaderIsRefused) {
  const std::pair<std::size_t, Errc> fields[] = {
      {offsetof(record::RecordHeader, magic), Errc::kBadMagic},
      {offsetof(record::RecordHeader, version), Errc::kBadVersion},
      {offsetof(record::RecordHeader, sequence), Errc::kBadSequence},
  };
  for (std::size_t at = 0; at < sizeof(record::RecordHeader); ++at) {
    SCOPED_TRACE(at);
    std::vector<Bytes> flipped = sealed_;
    flipped[0][at] ^= 0x10;
    begin();
    const Errc e = feed(target_, flipped);
    EXPECT_NE(e, Errc::kOk);
    for (const auto& [offset, why] : fields) {
      if (at == offset) {
        EXPECT_EQ(e, why);
      }
    }
    EXPECT_EQ(gate_of(target_), GateState::kDestroyed);
  }
}

TEST_F(Records, ARecordOfAnotherAttemptIsRefused) {
  // The same enclave, the same memory, another attempt.
  ASSERT_EQ(source_.control(ControlOp::kCancel), Errc::kOk);
  ASSERT_TRUE(left_with(source_.handle(kOtherTcs), abi::Exit::kResume));
  ASSERT_EQ(agent_.meet(source_), Errc::kOk);
  park();
  const std::vector<Bytes> second = dump_rest(source_);
  std::vector<Bytes> mixed = sealed_;
  mixed[0] = second[0];
  expect_refused(mixed, Errc::kBadTag);
  mixed = sealed_;
  mixed.back() = second.back();
  expect_refused(mixed, mixed.size() == second.size() ? Errc::kBadTag : Errc::kBadSequence);
}

TEST_F(Records, ARecordOfAnotherEnclaveIsRefused) {
  LabMachine third;
  Peer stranger(third);
  KeyHolder agent(third);
  ASSERT_EQ(stranger.build("counter"), Errc::kOk) << stranger.error;
  ASSERT_EQ(stranger.start(), Errc::kOk) << stranger.error;
  ASSERT_EQ(agent.meet(stranger), Errc::kOk);
  std::vector<Bytes> mixed = dump_all(stranger);
  expect_refused(mixed, Errc::kBadTag);
}

TEST_F(Records, ATargetAtAnotherAddressIsRefused) {
  target_.close();
  ASSERT_EQ(target_.build("tiny", source_.base + source_.config().elrange_size * 2), Errc::kOk) << target_.error;
  KeyHolder agent(there_);
  EXPECT_EQ(agent.restore(target_, stream_, sealed_), Errc::kWrongBase);
  EXPECT_EQ(gate_of(target_), GateState::kDestroyed);
}

// Another program never gets the key: the agents compare identities from REPORTs.
TEST_F(Records, AnotherEnclavesImageGetsNoKey) {
  Migration m(here_, source_, there_);
  ASSERT_EQ(source_.control(ControlOp::kCancel), Errc::kOk);
  ASSERT_TRUE(left_with(source_.handle(kOtherTcs), abi::Exit::kResume));
  ASSERT_EQ(m.prepare(), Errc::kOk);
  ASSERT_EQ(m.offer(), Errc::kOk);
  target_.close();
  ASSERT_EQ(target_.build("counter"), Errc::kOk) << target_.error;
  EXPECT_EQ(m.meet(target_), Errc::kWrongEnclave);
  park();
}

// And if it had the key, the final record names the program.
TEST_F(Records, AnotherEnclavesImageWithTheKeyIsRefused) {
  target_.close();
  ASSERT_EQ(target_.build("counter"), Errc::kOk) << target_.error;
  KeyHolder agent(there_);
  // Its own layout is another, so only the final record is right for it.
  OpenStream s = stream_;
  s.records.erase(s.records.begin(), s.records.end() - 1);
  record::Final f = s.final_record();
  f.threads = 0;
  s.set_final(f);
  EXPECT_EQ(agent.restore(target_, s, s.seal()), Errc::kWrongEnclave);
  EXPECT_EQ(gate_of(target_), GateState::kDestroyed);
}

TEST_F(Records, AnAgentOfAnotherIdentityIsNotATargets) {
  target_.close();
  ASSERT_EQ(target_.build("tiny", source_.base), Errc::kOk) << target_.error;
  KeyHolder stranger(there_, 0x5a);
  EXPECT_EQ(stranger.restore(target_, stream_, sealed_), Errc::kBadAgent);
  EXPECT_EQ(target_.control(ControlOp::kRecord, sealed_.front()), Errc::kNotReady);
}

TEST_F(Records, ADebugAgentIsNotATargets) {
  target_.close();
  ASSERT_EQ(target_.build("tiny", source_.base), Errc::kOk) << target_.error;
  KeyHolder debug(there_, kAgentByte, sgx::attribute::kDebug);
  EXPECT_EQ(debug.restore(target_, stream_, sealed_), Errc::kDebugAgent);
  EXPECT_EQ(target_.control(ControlOp::kRecord, sealed_.front()), Errc::kNotReady);
}

}  // namespace
}  // namespace sealift::lab

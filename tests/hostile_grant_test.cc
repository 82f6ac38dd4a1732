// What a target takes for its key, and for a grant (S3, S4; design, section 7).
#include <gtest/gtest.h>

#include "tests/lab/two_machines.h"
#include "trusted/agent/crypto.h"

namespace sealift::lab {
namespace {

using abi::ControlOp;
using abi::GateState;

// Restored by a test that holds K, so that every word of a grant can be wrong under a good seal.
class HostileGrant : public TwoMachines {
 protected:
  HostileGrant() : agent_(here_), target_agent_(there_), target_(there_) {}
  void SetUp() override {
    TwoMachines::SetUp();
    ASSERT_EQ(agent_.meet(source_), Errc::kOk);
    sealed_ = dump_all(source_);
    stream_ = OpenStream::of(agent_.prepare(), sealed_);
    ASSERT_EQ(target_.build("tiny", source_.base), Errc::kOk) << target_.error;
  }
  messages::Grant grant() {
    const messages::KeyDelivery d = stream_.delivery();
    messages::Grant g{};
    std::memcpy(g.lineage, d.lineage, sizeof g.lineage);
    g.next_epoch = d.epoch + 1;
    std::memcpy(g.attempt, d.attempt, sizeof g.attempt);
    const record::Final final = stream_.final_record();
    std::memcpy(g.digest, final.digest, sizeof g.digest);
    const auto key = target_agent_.session.enclave_key();
    std::copy(key.begin(), key.end(), g.instance_key);
    return g;
  }
  Errc give(const messages::Grant& g) {
    return target_.control(ControlOp::kGrant, target_agent_.session.seal(messages::SealedKind::kGrant, g));
  }
  void expect_waiting() {
    EXPECT_EQ(gate_of(target_), GateState::kRestoring);
    EXPECT_FALSE(runs(target_));
  }

  KeyHolder agent_, target_agent_;
  Peer target_;
  std::vector<Bytes> sealed_;
  OpenStream stream_;
};

TEST_F(HostileGrant, EveryWordOfAGrantMustFit) {
  ASSERT_EQ(target_agent_.restore(target_, stream_, sealed_), Errc::kOk);
  ASSERT_EQ(target_.control(ControlOp::kReady), Errc::kOk);
  messages::Grant g = grant();
  g.instance_key[0] ^= 1;
  EXPECT_EQ(give(g), Errc::kAlreadyGranted);
  expect_waiting();
  g = grant();
  g.attempt[15] ^= 1;
  EXPECT_EQ(give(g), Errc::kWrongAttempt);
  expect_waiting();
  g = grant();
  g.digest[0] ^= 1;
  EXPECT_EQ(give(g), Errc::kBadDigest);
  expect_waiting();
  g = grant();
  g.lineage[3] ^= 1;
  EXPECT_EQ(give(g), Errc::kWrongLineage);
  expect_waiting();
  for (const std::uint64_t epoch : {std::uint64_t{0}, stream_.prepare.epoch, stream_.prepare.epoch + 2}) {
    g = grant();
    g.next_epoch = epoch;
    EXPECT_EQ(give(g), Errc::kWrongEpoch);
    expect_waiting();
  }
  // The wrong ones have taken sequence numbers, and the right one still fits.
  EXPECT_EQ(give(grant()), Errc::kOk);
  EXPECT_TRUE(runs(target_));
  EXPECT_EQ(target_.status().epoch, stream_.prepare.epoch + 1);
}

TEST_F(HostileGrant, AGrantBeforeTheLastRecordIsRefused) {
  const messages::KeyDelivery d = stream_.delivery();
  ASSERT_EQ(target_.control(ControlOp::kRestore, Bytes(std::begin(d.attempt), std::end(d.attempt))), Errc::kOk);
  EXPECT_EQ(target_.control(ControlOp::kGrant, Bytes(100)), Errc::kNotReady);
  ASSERT_EQ(target_agent_.meet(target_), Errc::kOk);
  EXPECT_EQ(give(grant()), Errc::kNotReady);
  expect_waiting();
  target_.close();
  ASSERT_EQ(target_.build("tiny", source_.base), Errc::kOk) << target_.error;
  // All but the final record, and the same agent's word: nothing runs.
  ASSERT_EQ(target_agent_.restore(target_, stream_, {sealed_.begin(), sealed_.end() - 1}), Errc::kOk);
  EXPECT_EQ(target_.control(ControlOp::kReady), Errc::kNotReady);
  EXPECT_EQ(give(grant()), Errc::kNotReady);
  expect_waiting();
}

TEST_F(HostileGrant, AGrantBeforeReadyIsRefused) {
  ASSERT_EQ(target_agent_.restore(target_, stream_, sealed_), Errc::kOk);
  EXPECT_EQ(give(grant()), Errc::kNotReady);
  expect_waiting();
}

TEST_F(HostileGrant, AKeyDeliveryOfAnotherAttemptOrSessionIsRefused) {
  messages::KeyDelivery d = stream_.delivery();
  ASSERT_EQ(target_.control(ControlOp::kRestore, Bytes(std::begin(d.attempt), std::end(d.attempt))), Errc::kOk);
  ASSERT_EQ(target_agent_.meet(target_), Errc::kOk);
  const Bytes kept = target_agent_.session.seal(messages::SealedKind::kKeyDelivery, d);
  // The target says hello once more: another session, and another instance.
  const auto first_key = target_agent_.session.enclave_key();
  ASSERT_EQ(target_agent_.meet(target_), Errc::kOk);
  EXPECT_NE(first_key, target_agent_.session.enclave_key());
  EXPECT_EQ(target_.control(ControlOp::kInstallKey, kept), Errc::kBadTag);
  messages::KeyDelivery other = d;
  other.attempt[0] ^= 1;
  EXPECT_EQ(target_agent_.deliver(target_, other), Errc::kWrongAttempt);
  EXPECT_EQ(target_.control(ControlOp::kRecord, sealed_.front()), Errc::kNotReady);
  EXPECT_EQ(target_agent_.deliver(target_, d), Errc::kOk);
  EXPECT_EQ(feed(target_, sealed_), Errc::kOk);
}

// S7: A_t may die between the grant and its arrival. The target turns to its successor with the same instance key; that
// agent may have been offered K, or not.
TEST_F(HostileGrant, ATargetTurnsToAnotherAgentAndIsGrantedThere) {
  ASSERT_EQ(target_agent_.restore(target_, stream_, sealed_), Errc::kOk);
  const auto instance_key = target_agent_.session.enclave_key();
  const Bytes request = target_agent_.first;
  EXPECT_EQ(target_agent_.meet(target_), Errc::kWrongState);  // the same agent: the same keys, the same sequence
  for (const bool offered : {true, false}) {
    KeyHolder successor(there_);
    ASSERT_EQ(successor.meet(target_), Errc::kOk);
    EXPECT_EQ(successor.session.enclave_key(), instance_key);
    if (offered) {
      ASSERT_EQ(successor.deliver(target_, stream_.delivery()), Errc::kOk);
    }
    // And back: what was sealed before is sealed again, byte for byte.
    ASSERT_EQ(target_agent_.meet(target_), Errc::kOk);
    EXPECT_EQ(target_agent_.first, request);
  }
  KeyHolder last(there_);
  ASSERT_EQ(last.meet(target_), Errc::kOk);
  messages::KeyDelivery other_key = stream_.delivery();
  other_key.key[0] ^= 1;
  ASSERT_EQ(last.deliver(target_, other_key), Errc::kOk);  // counted, not installed
  EXPECT_EQ(last.grant(target_, stream_), Errc::kOk);
  EXPECT_TRUE(runs(target_));
}

// Nor does a second delivery reach what was placed already: the stream goes on where it was, under the first K, for the
// first lineage and epoch.
TEST_F(HostileGrant, ASecondKeyDeliveryInTheMiddleOfAStreamChangesNothing) {
  const auto middle = sealed_.begin() + static_cast<std::ptrdiff_t>(sealed_.size() / 2);
  ASSERT_EQ(target_agent_.restore(target_, stream_, {sealed_.begin(), middle}), Errc::kOk);
  KeyHolder successor(there_);
  ASSERT_EQ(successor.meet(target_), Errc::kOk);
  messages::KeyDelivery other = stream_.delivery();
  other.key[0] ^= 1;
  ++other.epoch;
  ASSERT_EQ(successor.deliver(target_, other), Errc::kOk);
  ASSERT_EQ(feed(target_, {middle, sealed_.end()}), Errc::kOk);
  ASSERT_EQ(successor.grant(target_, stream_), Errc::kOk);
  EXPECT_EQ(target_.status().epoch, stream_.prepare.epoch + 1);
  EXPECT_TRUE(runs(target_));
}

// A session that was never confirmed (its agent died, or lied) leaves the target able to turn to another.
TEST_F(HostileGrant, AFailedConfirmationDoesNotCostATargetItsInstanceKey) {
  ASSERT_EQ(target_agent_.restore(target_, stream_, sealed_), Errc::kOk);
  const auto instance_key = target_agent_.session.enclave_key();
  KeyHolder liar(there_), honest(there_);
  Bytes hello;
  ASSERT_EQ(target_.control(ControlOp::kAgentHello, liar.hello(), hello), Errc::kOk);
  auto accepted = agent::LocalSession::accept(liar.cpu, liar.self, hello);
  ASSERT_TRUE(accepted.ok());
  messages::AgentConfirm confirm = accepted->confirm();
  confirm.mac[0] ^= 1;
  const auto view = agent::bytes_of(confirm);
  EXPECT_EQ(target_.control(ControlOp::kAgentConfirm, {view.begin(), view.end()}), Errc::kBadConfirmation);
  EXPECT_EQ(target_.control(ControlOp::kReady), Errc::kNoSession);
  ASSERT_EQ(honest.meet(target_), Errc::kOk);
  EXPECT_EQ(honest.session.enclave_key(), instance_key);
  EXPECT_EQ(honest.grant(target_, stream_), Errc::kOk);
  EXPECT_TRUE(runs(target_));
}

}  // namespace
}  // namespace sealift::lab

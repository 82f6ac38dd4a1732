#include "migration/judge.h"

#include <gtest/gtest.h>

#include <cstring>

namespace sealift {
namespace {

constexpr std::uint64_t kNow = 1'700'000'000;

sgx::Measurement measurement(std::uint8_t fill) {
  sgx::Measurement m;
  std::memset(m.bytes, fill, sizeof(m.bytes));
  return m;
}

MigrationPolicy production() {
  MigrationPolicy p{};
  p.flags = policy::kAllowMigration;
  p.tcb_accepted = tcb::kUpToDate | tcb::kSwHardeningNeeded;
  p.agent_pin = std::uint32_t(AgentPin::kMrsigner);
  p.agent_isvprodid = 7;
  p.agent_min_isvsvn = 3;
  p.agent = measurement(0x51);
  return p;
}

PeerVerdict good_peer() {
  PeerVerdict v;
  v.report.mrenclave = measurement(0xe1);
  v.report.mrsigner = measurement(0x51);
  v.report.isvprodid = 7;
  v.report.isvsvn = 3;
  v.tcb_status = tcb::kUpToDate;
  v.expires = kNow + 60;
  return v;
}

TEST(Judge, AcceptsThePinnedAgent) {
  EXPECT_EQ(judge_peer(production(), good_peer(), kNow), Errc::kOk);
}

TEST(Judge, AcceptsByMrenclave) {
  MigrationPolicy p = production();
  p.agent_pin = std::uint32_t(AgentPin::kMrenclave);
  p.agent = measurement(0xe1);
  EXPECT_EQ(judge_peer(p, good_peer(), kNow), Errc::kOk);
  p.agent = measurement(0xe2);
  EXPECT_EQ(judge_peer(p, good_peer(), kNow), Errc::kBadAgent);
}

TEST(Judge, RefusesWhenMigrationIsForbidden) {
  MigrationPolicy p = production();
  p.flags = 0;
  EXPECT_EQ(judge_peer(p, good_peer(), kNow), Errc::kPolicy);
}

TEST(Judge, RefusesWhenNoAgentIsPinned) {
  MigrationPolicy p{};
  p.flags = policy::kAllowMigration;
  p.tcb_accepted = ~0u;
  EXPECT_EQ(judge_peer(p, PeerVerdict{}, kNow), Errc::kPolicy);  // zero equals zero: must not pass
}

TEST(Judge, RefusesAnUnknownKindOfPin) {
  MigrationPolicy p = production();
  p.agent_pin = 3;
  EXPECT_EQ(judge_peer(p, good_peer(), kNow), Errc::kBadAgent);
}

TEST(Judge, RefusesAnotherSigner) {
  PeerVerdict v = good_peer();
  v.report.mrsigner = measurement(0x52);
  EXPECT_EQ(judge_peer(production(), v, kNow), Errc::kBadAgent);
}

TEST(Judge, RefusesAnotherProductOfTheSameSigner) {
  PeerVerdict v = good_peer();
  v.report.isvprodid = 8;
  EXPECT_EQ(judge_peer(production(), v, kNow), Errc::kBadAgent);
}

TEST(Judge, RefusesAnOlderSvn) {
  PeerVerdict v = good_peer();
  v.report.isvsvn = 2;
  EXPECT_EQ(judge_peer(production(), v, kNow), Errc::kBadAgent);
}

TEST(Judge, RefusesADebugAgentUnlessDevelopment) {
  MigrationPolicy p = production();
  PeerVerdict v = good_peer();
  v.report.attributes.flags |= sgx::attribute::kDebug;
  EXPECT_EQ(judge_peer(p, v, kNow), Errc::kDebugAgent);
  p.flags |= policy::kDevelopment;
  EXPECT_EQ(judge_peer(p, v, kNow), Errc::kOk);
}

TEST(Judge, RefusesTheDevelopmentRootUnlessDevelopment) {
  MigrationPolicy p = production();
  PeerVerdict v = good_peer();
  v.development_root = true;
  EXPECT_EQ(judge_peer(p, v, kNow), Errc::kDebugAgent);
  p.flags |= policy::kDevelopment;
  EXPECT_EQ(judge_peer(p, v, kNow), Errc::kOk);
}

TEST(Judge, RefusesATcbStatusThatIsNotAccepted) {
  PeerVerdict v = good_peer();
  v.tcb_status = tcb::kOutOfDate;
  EXPECT_EQ(judge_peer(production(), v, kNow), Errc::kPeerRefused);
}

TEST(Judge, RefusesARevokedPlatformWhateverThePolicyAccepts) {
  MigrationPolicy p = production();
  p.tcb_accepted = ~0u;
  PeerVerdict v = good_peer();
  v.tcb_status = 0;
  EXPECT_EQ(judge_peer(p, v, kNow), Errc::kPeerRefused);
  v.tcb_status = 1u << 6;  // the verifier's number for revoked, as a bit
  EXPECT_EQ(judge_peer(p, v, kNow), Errc::kPeerRefused);
}

TEST(Judge, RefusesAVerdictOfTwoStatuses) {
  PeerVerdict v = good_peer();
  v.tcb_status = tcb::kUpToDate | tcb::kOutOfDate;
  EXPECT_EQ(judge_peer(production(), v, kNow), Errc::kPeerRefused);
}

TEST(Judge, RefusesAnExpiredVerdictAtItsLastSecond) {
  PeerVerdict v = good_peer();
  v.expires = kNow;
  EXPECT_EQ(judge_peer(production(), v, kNow), Errc::kVerdictExpired);
  v.expires = kNow + 1;
  EXPECT_EQ(judge_peer(production(), v, kNow), Errc::kOk);
}

TEST(Judge, IdentityTakesEveryFieldInWhichSourceAndTargetMustBeEqual) {
  // Flip each byte of a REPORT body: the identity changes exactly if the byte belongs to it.
  sgx::ReportBody base{};
  const messages::EnclaveIdentity identity = identity_of(base);
  std::size_t changed = 0;
  for (std::size_t i = 0; i < sizeof(base); ++i) {
    sgx::ReportBody other = base;
    reinterpret_cast<std::uint8_t*>(&other)[i] ^= 1;
    if (!(identity_of(other) == identity)) ++changed;
  }
  EXPECT_EQ(changed, sizeof(messages::EnclaveIdentity) - sizeof(messages::EnclaveIdentity::reserved));
}

}  // namespace
}  // namespace sealift

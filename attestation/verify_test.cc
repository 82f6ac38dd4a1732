// Verification against a certification service of the test's own, in which everything can be wrong.
#include "attestation/verify.h"

#include <gtest/gtest.h>

#include "attestation/test_failure.h"
#include "attestation/test_platform.h"

namespace sealift::attestation {
namespace {

using testing::expect_failure;
using testing::kDay;
using testing::kIssued;
using testing::kNextUpdate;
using testing::kNow;
using testing::TestPlatform;
using testing::gen::CertSpec;

// --- What a good quote says ---

TEST(Appraise, GoodQuote) {
  const TestPlatform p;
  const auto result = p.appraise_at(kNow);
  ASSERT_TRUE(result.ok()) << verify_error_name(result.error().error) << ' ' << result.error().cause;
  const Verdict& v = result.value();
  EXPECT_EQ(v.status, TcbStatus::kUpToDate);
  EXPECT_TRUE(v.advisories.empty());
  EXPECT_EQ(v.report.mrenclave, p.enclave.mrenclave);
  EXPECT_EQ(v.platform.fmspc, p.platform.fmspc);
  EXPECT_EQ(v.platform.ppid, p.platform.ppid);
  EXPECT_EQ(v.tcb_evaluation_number, 17U);
  EXPECT_EQ(v.expiry, kNextUpdate);
  EXPECT_FALSE(v.development_root);
}

TEST(Appraise, ExpiryIsTheEarliestOfEverything) {
  const UnixTime early = kNow + 5 * kDay;
  const auto expiry_of = [](const TestPlatform& p) { return p.appraise_at(kNow).value().expiry; };
  {
    TestPlatform p;
    p.tcb.next_update = early;
    EXPECT_EQ(expiry_of(p), early);
  }
  {
    TestPlatform p;
    p.qe_identity.next_update = early;
    EXPECT_EQ(expiry_of(p), early);
  }
  {
    TestPlatform p;
    p.pck_crl_spec.next_update = early;
    EXPECT_EQ(expiry_of(p), early);
  }
  {
    TestPlatform p;
    p.root_crl_spec.next_update = early;
    EXPECT_EQ(expiry_of(p), early);
  }
  for (CertSpec TestPlatform::*spec :
       {&TestPlatform::root_spec, &TestPlatform::ca_spec, &TestPlatform::signer_spec, &TestPlatform::pck_spec}) {
    TestPlatform p;
    (p.*spec).not_after = early;
    p.certify();
    EXPECT_EQ(expiry_of(p), early);
  }
}

TEST(Appraise, PlatformBelowTheBestLevel) {
  TestPlatform p;
  auto platform = p.platform;
  platform.components[7] = 4;  // one component is enough
  p.change_platform(platform);
  const auto result = p.appraise_at(kNow);
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result.value().status, TcbStatus::kOutOfDate);
  EXPECT_EQ(result.value().advisories, std::vector<std::string>{"SA-2"});
}

TEST(Appraise, PcesvnCountsAsWell) {
  TestPlatform p;
  auto platform = p.platform;
  platform.pcesvn = 9;
  p.change_platform(platform);
  expect_failure(p.appraise_at(kNow), VerifyError::kTcbNotRecognized);
}

TEST(Appraise, RevokedLevelIsReportedAndNeverAccepted) {
  TestPlatform p;
  auto platform = p.platform;
  platform.components.fill(3);
  p.change_platform(platform);
  const auto result = p.appraise_at(kNow);
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result.value().status, TcbStatus::kRevoked);
  Policy anything;
  anything.accepted_tcb = ~0U;
  EXPECT_EQ(judge(result.value(), anything, kNow), (VerifyFailure{VerifyError::kTcbRevoked}));
}

TEST(Appraise, PlatformBelowEveryLevel) {
  TestPlatform p;
  auto platform = p.platform;
  platform.components.fill(2);
  p.change_platform(platform);
  expect_failure(p.appraise_at(kNow), VerifyError::kTcbNotRecognized);
}

TEST(Appraise, OutOfDateQeLowersABetterPlatform) {
  TestPlatform p;
  p.qe.isvsvn = 7;
  const auto result = p.appraise_at(kNow);
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result.value().status, TcbStatus::kOutOfDate);
  EXPECT_EQ(result.value().platform_status, TcbStatus::kUpToDate);
  EXPECT_EQ(result.value().qe_status, TcbStatus::kOutOfDate);
  EXPECT_EQ(result.value().advisories, std::vector<std::string>{"SA-9"});
}

TEST(Appraise, OutOfDateQeOfAPlatformThatNeedsConfiguration) {
  TestPlatform p;
  p.qe.isvsvn = 7;
  p.tcb.levels[0].status = "ConfigurationAndSWHardeningNeeded";
  EXPECT_EQ(p.appraise_at(kNow).value().status, TcbStatus::kOutOfDateConfigurationNeeded);
}

TEST(Appraise, RevokedQe) {
  TestPlatform p;
  p.qe.isvsvn = 5;
  EXPECT_EQ(p.appraise_at(kNow).value().status, TcbStatus::kRevoked);
}

TEST(Appraise, QeBelowEveryLevel) {
  TestPlatform p;
  p.qe.isvsvn = 4;
  expect_failure(p.appraise_at(kNow), VerifyError::kQeTcbNotRecognized);
}

// --- Signatures and bindings of the quote ---

Result<Verdict, VerifyFailure> with_changed_quote(const TestPlatform& p, void (*change)(Quote&)) {
  auto quote = parse_quote(p.quote());
  change(quote.value());
  return appraise(serialize_quote(quote.value()), p.collateral(), p.anchors(), kNow);
}

TEST(Appraise, MalformedQuote) {
  const TestPlatform p;
  Bytes quote = p.quote();
  quote.pop_back();
  expect_failure(appraise(quote, p.collateral(), p.anchors(), kNow), VerifyError::kMalformedQuote,
                 QuoteError::kTruncatedSignatureData);
}

TEST(Appraise, UnknownVendor) {
  expect_failure(with_changed_quote({}, [](Quote& q) { q.signed_part.header.qe_vendor_id[0] ^= 1; }),
                 VerifyError::kUnknownQeVendor);
}

TEST(Appraise, ChangedQeReport) {
  expect_failure(with_changed_quote({}, [](Quote& q) { q.qe_report.isvsvn = 9; }), VerifyError::kBadQeReportSignature);
}

TEST(Appraise, ChangedReport) {
  expect_failure(with_changed_quote({}, [](Quote& q) { q.signed_part.body.mrenclave.bytes[0] ^= 1; }),
                 VerifyError::kBadQuoteSignature);
}

TEST(Appraise, ChangedAuthData) {
  expect_failure(with_changed_quote({}, [](Quote& q) { q.qe_auth_data[0] ^= 1; }),
                 VerifyError::kAttestationKeyNotBound);
}

// The attacker's own attestation key with a signature that is good under it.
TEST(Appraise, AnotherAttestationKey) {
  TestPlatform p;
  auto quote = parse_quote(p.quote());
  const auto key = TestPlatform::key("attacker");
  quote.value().attestation_key = testing::gen::public_point(key.get());
  quote.value().signature = testing::gen::sign_raw(key.get(), object_bytes(quote.value().signed_part));
  expect_failure(appraise(serialize_quote(quote.value()), p.collateral(), p.anchors(), kNow),
                 VerifyError::kAttestationKeyNotBound);
}

TEST(Appraise, AttestationKeyThatIsNoPoint) {
  TestPlatform p;
  auto quote = parse_quote(p.quote());
  Quote& q = quote.value();
  q.attestation_key.fill(1);
  const Digest binding = sha256(q.attestation_key, q.qe_auth_data);
  std::memcpy(q.qe_report.reportdata, binding.data(), binding.size());
  q.qe_report_signature = testing::gen::sign_raw(p.pck_key.get(), object_bytes(q.qe_report));
  expect_failure(appraise(serialize_quote(q), p.collateral(), p.anchors(), kNow), VerifyError::kBadQuoteSignature);
}

TEST(Appraise, SecondHalfOfTheQeReportDataMustBeZero) {
  TestPlatform p;
  auto quote = parse_quote(p.quote());
  Quote& q = quote.value();
  q.qe_report.reportdata[63] = 1;
  q.qe_report_signature = testing::gen::sign_raw(p.pck_key.get(), object_bytes(q.qe_report));
  expect_failure(appraise(serialize_quote(q), p.collateral(), p.anchors(), kNow), VerifyError::kAttestationKeyNotBound);
}

// --- Documents ---

TEST(Appraise, DocumentsSignedByAnotherKey) {
  const TestPlatform p;
  Collateral c = p.collateral();
  c.tcb_info = testing::gen::make_tcb_info(p.tcb, p.pck_key.get());
  expect_failure(appraise(p.quote(), c, p.anchors(), kNow), VerifyError::kBadTcbInfoSignature);
  c = p.collateral();
  c.qe_identity = testing::gen::make_qe_identity(p.qe_identity, p.pck_key.get());
  expect_failure(appraise(p.quote(), c, p.anchors(), kNow), VerifyError::kBadQeIdentitySignature);
}

TEST(Appraise, ChangedBody) {
  const TestPlatform p;
  Collateral c = p.collateral();
  const std::size_t at = c.tcb_info.find("OutOfDate");
  c.tcb_info.replace(at, 9, "UpToDate");
  expect_failure(appraise(p.quote(), c, p.anchors(), kNow), VerifyError::kBadTcbInfoSignature);
}

TEST(Appraise, MalformedDocuments) {
  const TestPlatform p;
  Collateral c = p.collateral();
  c.tcb_info = "{}";
  expect_failure(appraise(p.quote(), c, p.anchors(), kNow), VerifyError::kMalformedTcbInfo,
                 CollateralError::kBadEnvelope);
  c = p.collateral();
  c.qe_identity = "{}";
  expect_failure(appraise(p.quote(), c, p.anchors(), kNow), VerifyError::kMalformedQeIdentity,
                 CollateralError::kBadEnvelope);
}

TEST(Appraise, DocumentDates) {
  TestPlatform p;
  p.tcb.next_update = kNow;
  expect_failure(p.appraise_at(kNow), VerifyError::kTcbInfoExpired);
  p.tcb = TestPlatform().tcb;
  p.tcb.issue_date = kNow + 1;
  expect_failure(p.appraise_at(kNow), VerifyError::kTcbInfoNotYetValid);
  p.tcb = TestPlatform().tcb;
  p.qe_identity.next_update = kNow;
  expect_failure(p.appraise_at(kNow), VerifyError::kQeIdentityExpired);
  p.qe_identity = TestPlatform().qe_identity;
  p.qe_identity.issue_date = kNow + 1;
  expect_failure(p.appraise_at(kNow), VerifyError::kQeIdentityNotYetValid);
}

TEST(Appraise, DocumentsOfOtherThings) {
  TestPlatform p;
  p.tcb.id = "TDX";
  expect_failure(p.appraise_at(kNow), VerifyError::kTcbInfoWrongId);
  p.tcb.id = "SGX";
  p.qe_identity.id = "QVE";
  expect_failure(p.appraise_at(kNow), VerifyError::kQeIdentityWrongId);
  p.qe_identity.id = "QE";
  p.tcb.fmspc[0] ^= 1;
  expect_failure(p.appraise_at(kNow), VerifyError::kTcbInfoOtherPlatform);
  p.tcb.fmspc[0] ^= 1;
  p.tcb.pceid[0] ^= 1;
  expect_failure(p.appraise_at(kNow), VerifyError::kTcbInfoOtherPlatform);
}

TEST(Appraise, QeOfAnotherIdentity) {
  {
    TestPlatform p;
    p.qe.miscselect = 1;
    expect_failure(p.appraise_at(kNow), VerifyError::kQeIdentityMismatch, QeField::kMiscselect);
  }
  {
    TestPlatform p;
    p.qe.attributes.flags |= sgx::attribute::kDebug;
    expect_failure(p.appraise_at(kNow), VerifyError::kQeIdentityMismatch, QeField::kAttributes);
  }
  {
    TestPlatform p;
    p.qe.mrsigner.bytes[31] ^= 1;
    expect_failure(p.appraise_at(kNow), VerifyError::kQeIdentityMismatch, QeField::kMrsigner);
  }
  {
    TestPlatform p;
    p.qe.isvprodid = 2;
    expect_failure(p.appraise_at(kNow), VerifyError::kQeIdentityMismatch, QeField::kIsvprodid);
  }
}

// --- Policy ---

TEST(Judge, Policy) {
  const TestPlatform p;
  const Verdict verdict = p.appraise_at(kNow).value();
  const auto refusal = [&](const Policy& policy) { return judge(verdict, policy, kNow); };
  EXPECT_EQ(refusal({}), std::nullopt);
  EXPECT_EQ(judge(verdict, {}, verdict.expiry - 1), std::nullopt);
  EXPECT_EQ(judge(verdict, {}, verdict.expiry), (VerifyFailure{VerifyError::kVerdictExpired}));

  Policy policy;
  policy.accepted_tcb = 1U << static_cast<unsigned>(TcbStatus::kOutOfDate);
  EXPECT_EQ(refusal(policy), (VerifyFailure{VerifyError::kTcbRefused, 0}));
  policy = {.min_evaluation_number = 18, .enclave = {}};
  EXPECT_EQ(refusal(policy), (VerifyFailure{VerifyError::kEvaluationTooOld}));
  policy = {.min_evaluation_number = 17, .enclave = {}};
  EXPECT_EQ(refusal(policy), std::nullopt);

  const VerifyFailure refused{VerifyError::kEnclaveRefused};
  policy = {};
  policy.enclave = {.mrenclave = p.enclave.mrenclave, .mrsigner = p.enclave.mrsigner, .isvprodid = 42, .min_isvsvn = 7};
  EXPECT_EQ(refusal(policy), std::nullopt);
  Policy other = policy;
  other.enclave.mrenclave->bytes[0] ^= 1;
  EXPECT_EQ(refusal(other), refused);
  other = policy;
  other.enclave.mrsigner->bytes[0] ^= 1;
  EXPECT_EQ(refusal(other), refused);
  other = policy;
  other.enclave.isvprodid = 43;
  EXPECT_EQ(refusal(other), refused);
  other = policy;
  other.enclave.min_isvsvn = 8;
  EXPECT_EQ(refusal(other), refused);
}

TEST(Judge, DebugEnclave) {
  TestPlatform p;
  p.enclave.attributes.flags |= sgx::attribute::kDebug;
  const auto verdict = p.appraise_at(kNow);
  ASSERT_TRUE(verdict.ok());
  EXPECT_EQ(judge(verdict.value(), {}, kNow), (VerifyFailure{VerifyError::kDebugEnclave}));
  Policy lenient;
  lenient.allow_debug = true;
  EXPECT_EQ(judge(verdict.value(), lenient, kNow), std::nullopt);
}

TEST(Verify, AppraisesAndJudges) {
  TestPlatform p;
  EXPECT_TRUE(verify(p.quote(), p.collateral(), p.anchors(), kNow, {}).ok());
  p.qe.isvsvn = 7;
  expect_failure(verify(p.quote(), p.collateral(), p.anchors(), kNow, {}), VerifyError::kTcbRefused,
                 TcbStatus::kOutOfDate);
}

}  // namespace
}  // namespace sealift::attestation

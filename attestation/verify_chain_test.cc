// Certificates and revocation lists: every way in which a chain must not be believed.
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

TEST(Appraise, UnknownRoot) {
  const TestPlatform p;
  expect_failure(appraise(p.quote(), p.collateral(), production_anchors(), kNow), VerifyError::kPckChain,
                 ChainError::kUntrustedRoot);
  expect_failure(appraise(p.quote(), p.collateral(), {}, kNow), VerifyError::kPckChain, ChainError::kUntrustedRoot);
}

// A root of the right name with another key: the anchor is the key.
TEST(Appraise, RootOfTheSameNameIsNotTheRoot) {
  TestPlatform p, impostor;
  impostor.root_key = TestPlatform::key("impostor");
  impostor.certify();
  expect_failure(appraise(impostor.quote(), impostor.collateral(), p.anchors(), kNow), VerifyError::kPckChain,
                 ChainError::kUntrustedRoot);
}

// With two anchors, a public development key must not be able to vouch for genuine hardware's TCB.
TEST(Appraise, CollateralUnderAnotherAnchorIsRefused) {
  const TestPlatform genuine;
  TestPlatform development;
  development.root_key = TestPlatform::key("development root");
  development.certify();
  TrustAnchors both = genuine.anchors();
  both.roots.push_back({testing::gen::public_point(development.root_key.get()), true});

  const auto own = appraise(development.quote(), development.collateral(), both, kNow);
  ASSERT_TRUE(own.ok());
  EXPECT_TRUE(own.value().development_root);

  Collateral mixed = genuine.collateral();
  mixed.tcb_info = development.collateral().tcb_info;
  mixed.tcb_info_issuer_chain = development.signer_chain();
  expect_failure(appraise(genuine.quote(), mixed, both, kNow), VerifyError::kTcbInfoChain, ChainError::kUntrustedRoot);
  mixed = genuine.collateral();
  mixed.qe_identity = development.collateral().qe_identity;
  mixed.qe_identity_issuer_chain = development.signer_chain();
  expect_failure(appraise(genuine.quote(), mixed, both, kNow), VerifyError::kQeIdentityChain,
                 ChainError::kUntrustedRoot);
}

TEST(Appraise, LeafSignedByAnotherCa) {
  TestPlatform p;
  p.pck = testing::gen::make_certificate(p.pck_spec, p.pck_key.get(), p.ca.get(), p.signer_key.get());
  expect_failure(p.appraise_at(kNow), VerifyError::kPckChain, ChainError::kBrokenChain);
}

TEST(Appraise, IntermediateWithoutCaRights) {
  TestPlatform p;
  p.ca_spec.usage = testing::gen::Usage::kSignature;
  p.certify();
  expect_failure(p.appraise_at(kNow), VerifyError::kPckChain, ChainError::kBrokenChain);
}

TEST(Appraise, ExpiredCertificate) {
  TestPlatform p;
  p.pck_spec.not_after = kNow - 1;
  p.certify();
  expect_failure(p.appraise_at(kNow), VerifyError::kPckChain, ChainError::kExpired);
}

TEST(Appraise, CertificateOfTheFuture) {
  TestPlatform p;
  p.signer_spec.not_before = kNow + 1;
  p.certify();
  expect_failure(p.appraise_at(kNow), VerifyError::kTcbInfoChain, ChainError::kNotYetValid);
}

TEST(Appraise, RevokedPck) {
  TestPlatform p;
  p.pck_crl_spec.revoked = {9, p.pck_spec.serial};
  expect_failure(p.appraise_at(kNow), VerifyError::kPckChain, ChainError::kRevoked);
}

TEST(Appraise, RevokedPckCa) {
  TestPlatform p;
  p.root_crl_spec.revoked = {p.ca_spec.serial};
  expect_failure(p.appraise_at(kNow), VerifyError::kPckChain, ChainError::kRevoked);
}

TEST(Appraise, RevokedTcbSigner) {
  TestPlatform p;
  p.root_crl_spec.revoked = {p.signer_spec.serial};
  expect_failure(p.appraise_at(kNow), VerifyError::kTcbInfoChain, ChainError::kRevoked);
}

TEST(Appraise, ExpiredCrl) {
  TestPlatform p;
  p.pck_crl_spec.next_update = kNow - 1;
  expect_failure(p.appraise_at(kNow), VerifyError::kPckChain, ChainError::kCrlExpired);
}

TEST(Appraise, CrlOfTheFuture) {
  TestPlatform p;
  p.root_crl_spec.this_update = kNow + 1;
  expect_failure(p.appraise_at(kNow), VerifyError::kPckChain, ChainError::kCrlNotYetValid);
}

TEST(Appraise, CrlSignedByAnotherKey) {
  const TestPlatform p;
  Collateral c = p.collateral();
  c.pck_crl = testing::gen::make_crl(p.pck_crl_spec, p.ca.get(), p.signer_key.get());
  expect_failure(appraise(p.quote(), c, p.anchors(), kNow), VerifyError::kPckChain, ChainError::kBadCrl);
}

TEST(Appraise, PckCrlInPlaceOfTheRootCrl) {
  const TestPlatform p;
  Collateral c = p.collateral();
  c.root_ca_crl = c.pck_crl;
  expect_failure(appraise(p.quote(), c, p.anchors(), kNow), VerifyError::kPckChain, ChainError::kNoCrl);
}

TEST(Appraise, MalformedCrls) {
  const TestPlatform p;
  for (Bytes bad : {Bytes{}, Bytes{0x30}, Bytes(100, 'a')}) {
    Collateral c = p.collateral();
    c.pck_crl = bad;
    expect_failure(appraise(p.quote(), c, p.anchors(), kNow), VerifyError::kPckCrl, ChainError::kMalformedCrl);
    c = p.collateral();
    c.root_ca_crl = bad;
    expect_failure(appraise(p.quote(), c, p.anchors(), kNow), VerifyError::kRootCaCrl, ChainError::kMalformedCrl);
  }
  Collateral c = p.collateral();
  c.pck_crl.push_back(0x30);  // something behind the list
  expect_failure(appraise(p.quote(), c, p.anchors(), kNow), VerifyError::kPckCrl, ChainError::kMalformedCrl);
}

// A PCK belongs to a machine; whoever breaks one must not be able to sign TCB info with it.
TEST(Appraise, PckMustNotSignTcbInfo) {
  TestPlatform p;
  Collateral c = p.collateral();
  c.tcb_info = testing::gen::make_tcb_info(p.tcb, p.pck_key.get());
  c.tcb_info_issuer_chain = p.pck_chain();
  expect_failure(appraise(p.quote(), c, p.anchors(), kNow), VerifyError::kTcbInfoChain, ChainError::kWrongLength);
  c.tcb_info_issuer_chain = testing::gen::to_pem(p.pck.get()) + testing::gen::to_pem(p.root.get());
  expect_failure(appraise(p.quote(), c, p.anchors(), kNow), VerifyError::kTcbInfoChain, ChainError::kBrokenChain);
}

TEST(Appraise, CaMustNotSignTcbInfo) {
  TestPlatform p;
  Collateral c = p.collateral();
  c.tcb_info = testing::gen::make_tcb_info(p.tcb, p.ca_key.get());
  c.tcb_info_issuer_chain = testing::gen::to_pem(p.ca.get()) + testing::gen::to_pem(p.root.get());
  expect_failure(appraise(p.quote(), c, p.anchors(), kNow), VerifyError::kTcbInfoChain, ChainError::kWrongRole);
}

TEST(Appraise, LeafOfAnotherNameIsNoPck) {
  TestPlatform p;
  p.pck_spec.common_name = "test SGX QE Certificate";
  p.certify();
  expect_failure(p.appraise_at(kNow), VerifyError::kPckChain, ChainError::kWrongRole);
}

TEST(Appraise, SignerOfAnotherNameIsNoTcbSigner) {
  TestPlatform p;
  p.signer_spec.common_name = "test SGX Something Else";
  p.certify();
  expect_failure(p.appraise_at(kNow), VerifyError::kTcbInfoChain, ChainError::kWrongRole);
}

TEST(Appraise, ChainsThatAreNoPem) {
  const TestPlatform p;
  Collateral c = p.collateral();
  c.tcb_info_issuer_chain = "no certificate";
  expect_failure(appraise(p.quote(), c, p.anchors(), kNow), VerifyError::kTcbInfoChain, ChainError::kMalformedPem);
  c = p.collateral();
  c.qe_identity_issuer_chain.insert(100, "*");
  expect_failure(appraise(p.quote(), c, p.anchors(), kNow), VerifyError::kQeIdentityChain, ChainError::kMalformedPem);
  c = p.collateral();
  c.qe_identity_issuer_chain = testing::gen::to_pem(p.signer.get());
  expect_failure(appraise(p.quote(), c, p.anchors(), kNow), VerifyError::kQeIdentityChain, ChainError::kWrongLength);
  for (int i = 0; i < 4; ++i) c.qe_identity_issuer_chain += testing::gen::to_pem(p.root.get());
  expect_failure(appraise(p.quote(), c, p.anchors(), kNow), VerifyError::kQeIdentityChain, ChainError::kWrongLength);
}

TEST(Appraise, PckWithoutSgxExtension) {
  TestPlatform p;
  p.with_sgx_extension = false;
  p.pck_spec.sgx_extension.clear();
  p.certify();
  expect_failure(p.appraise_at(kNow), VerifyError::kBadPckExtension, PckError::kNoExtension);
}

}  // namespace
}  // namespace sealift::attestation

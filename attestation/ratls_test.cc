// RA-TLS: two endpoints, joined by this test's memory; and peers that are something else.
#include "attestation/ratls.h"

#include <gtest/gtest.h>

#include "attestation/test_party.h"

namespace sealift::attestation {
namespace {

using testing::bytes_of;
using testing::kDay;
using testing::kNextUpdate;
using testing::kNow;
using testing::Party;
using testing::TestPlatform;

// Carries bytes both ways until nothing moves.
void pump(Endpoint& a, Endpoint& b) {
  for (;;) {
    const Bytes to_b = a.take(), to_a = b.take();
    if (to_a.empty() && to_b.empty()) return;
    b.feed(to_b);
    a.feed(to_a);
  }
}

struct Pair {
  std::unique_ptr<Endpoint> client, server;
  Pair(Party& c, Party& s) : client(c.endpoint(Role::kClient)), server(s.endpoint(Role::kServer)) {
    pump(*client, *server);
  }
};

TEST(Ratls, BothSidesAreAttested) {
  Party c(1), s(2);
  const Pair pair(c, s);
  ASSERT_EQ(pair.client->phase(), Phase::kOpen) << static_cast<int>(pair.client->error());
  ASSERT_EQ(pair.server->phase(), Phase::kOpen) << static_cast<int>(pair.server->error());
  EXPECT_EQ(pair.client->peer()->report.mrenclave.bytes[0], 2);
  EXPECT_EQ(pair.server->peer()->report.mrenclave.bytes[0], 1);
  EXPECT_EQ(pair.client->peer_instance(), s.identity_->instance());
  EXPECT_EQ(pair.server->peer_instance(), c.identity_->instance());
  EXPECT_EQ(pair.client->peer()->expiry, kNextUpdate);
}

TEST(Ratls, CarriesBytesBothWays) {
  Party c, s;
  const Pair pair(c, s);
  ASSERT_EQ(pair.client->write(bytes_of("from the client")), RatlsError::kNone);
  Bytes large(1 << 20);
  for (std::size_t i = 0; i < large.size(); ++i) large[i] = static_cast<std::uint8_t>(i * 7);
  ASSERT_EQ(pair.server->write(large), RatlsError::kNone);
  ASSERT_EQ(pair.server->write({}), RatlsError::kNone);
  pump(*pair.client, *pair.server);
  EXPECT_EQ(pair.server->read(), bytes_of("from the client"));
  EXPECT_EQ(pair.client->read(), large);
  EXPECT_TRUE(pair.client->read().empty());
}

TEST(Ratls, AnySplitOfTheStreamWorks) {
  Party c, s;
  auto client = c.endpoint(Role::kClient), server = s.endpoint(Role::kServer);
  const auto drip = [](Endpoint& from, Endpoint& to) {
    for (const std::uint8_t byte : from.take()) to.feed({&byte, 1});
  };
  for (int round = 0; round < 3; ++round) {
    drip(*client, *server);
    drip(*server, *client);
  }
  EXPECT_EQ(client->phase(), Phase::kOpen);
  EXPECT_EQ(server->phase(), Phase::kOpen);
}

TEST(Ratls, ExporterAgreesAndDependsOnEverything) {
  Party c, s;
  const Pair pair(c, s);
  Digest a{}, b{}, other{};
  ASSERT_EQ(pair.client->export_key("label", bytes_of("context"), a), RatlsError::kNone);
  ASSERT_EQ(pair.server->export_key("label", bytes_of("context"), b), RatlsError::kNone);
  EXPECT_EQ(a, b);
  ASSERT_EQ(pair.client->export_key("label", bytes_of("contexu"), other), RatlsError::kNone);
  EXPECT_NE(a, other);
  ASSERT_EQ(pair.client->export_key("lapel", bytes_of("context"), other), RatlsError::kNone);
  EXPECT_NE(a, other);
  const Pair second(c, s);
  ASSERT_EQ(second.client->export_key("label", bytes_of("context"), other), RatlsError::kNone);
  EXPECT_NE(a, other);
}

TEST(Ratls, NothingBeforeTheHandshake) {
  Party c;
  const auto client = c.endpoint(Role::kClient);
  Digest out;
  EXPECT_EQ(client->phase(), Phase::kHandshaking);
  EXPECT_EQ(client->write(bytes_of("early")), RatlsError::kNotOpen);
  EXPECT_EQ(client->export_key("label", {}, out), RatlsError::kNotOpen);
  EXPECT_FALSE(client->peer());
}

TEST(Ratls, CloseIsSeenAndEndsWriting) {
  Party c, s;
  const Pair pair(c, s);
  ASSERT_EQ(pair.client->write(bytes_of("last words")), RatlsError::kNone);
  pair.client->close();
  EXPECT_EQ(pair.client->write(bytes_of("more")), RatlsError::kNotOpen);
  pump(*pair.client, *pair.server);
  EXPECT_EQ(pair.server->read(), bytes_of("last words"));
  EXPECT_EQ(pair.server->phase(), Phase::kClosed);
  EXPECT_EQ(pair.server->error(), RatlsError::kNone);
}

TEST(Ratls, FlippedByteEndsTheConnection) {
  Party c, s;
  const Pair pair(c, s);
  ASSERT_EQ(pair.client->write(bytes_of("pay 10 coins")), RatlsError::kNone);
  Bytes wire = pair.client->take();
  wire[wire.size() / 2] ^= 1;
  pair.server->feed(wire);
  EXPECT_EQ(pair.server->phase(), Phase::kFailed);
  EXPECT_EQ(pair.server->error(), RatlsError::kProtocol);
  EXPECT_TRUE(pair.server->read().empty());
}

TEST(Ratls, ReplayedRecordEndsTheConnection) {
  Party c, s;
  const Pair pair(c, s);
  ASSERT_EQ(pair.client->write(bytes_of("once")), RatlsError::kNone);
  const Bytes wire = pair.client->take();
  pair.server->feed(wire);
  pair.server->feed(wire);
  EXPECT_EQ(pair.server->phase(), Phase::kFailed);
}

// --- Refusals: the refused side is told by an alert ---

void expect_refused(Endpoint& refuser, Endpoint& refused, RatlsError error) {
  EXPECT_EQ(refuser.phase(), Phase::kFailed);
  EXPECT_EQ(refuser.error(), error) << refuser.cause();
  EXPECT_FALSE(refuser.peer());
  EXPECT_EQ(refused.phase(), Phase::kFailed);
  EXPECT_EQ(refused.error(), RatlsError::kRefusedByPeer);
  EXPECT_EQ(refuser.write(bytes_of("x")), RatlsError::kNotOpen);
}

TEST(Ratls, ClientRefusesTheServersIdentity) {
  Party c, s(2);
  c.policy_.enclave.mrenclave = c.platform_.enclave.mrenclave;
  const Pair pair(c, s);
  expect_refused(*pair.client, *pair.server, RatlsError::kPeerRefused);
  EXPECT_EQ(pair.client->verify_failure(), (VerifyFailure{VerifyError::kEnclaveRefused}));
  EXPECT_EQ(pair.server->cause(), SSL_AD_BAD_CERTIFICATE);
}

TEST(Ratls, ServerRefusesTheClientsIdentity) {
  Party c(2), s;
  s.policy_.enclave.mrenclave = s.platform_.enclave.mrenclave;
  const Pair pair(c, s);
  expect_refused(*pair.server, *pair.client, RatlsError::kPeerRefused);
  EXPECT_EQ(pair.client->cause(), SSL_AD_BAD_CERTIFICATE);
}

TEST(Ratls, ExpiredCollateral) {
  Party c, s;
  c.now_ = kNextUpdate;
  const Pair pair(c, s);
  expect_refused(*pair.client, *pair.server, RatlsError::kPeerRefused);
}

TEST(Ratls, OutOfDatePlatform) {
  Party c, s;
  auto platform = s.platform_.platform;
  platform.components.fill(4);
  s.platform_.change_platform(platform);
  s.certify(s.identity_->report_data());
  const Pair pair(c, s);
  expect_refused(*pair.client, *pair.server, RatlsError::kPeerRefused);
  EXPECT_EQ(pair.client->verify_failure()->error, VerifyError::kTcbRefused);
}

// A genuine quote of the right enclave, but bound to the key of another instance: certificate theft.
TEST(Ratls, QuoteOfAnotherInstance) {
  Party c, s, victim;
  RatlsIdentity& identity = *s.identity_;
  const Bytes evidence =
      serialize_evidence({victim.platform_.quote(), serialize_collateral(victim.platform_.collateral())});
  EXPECT_EQ(identity.certify(evidence), IdentityError::kOtherKey);
}

TEST(Identity, RefusesEvidenceThatIsNone) {
  const auto identity = std::move(RatlsIdentity::create()).value();
  EXPECT_FALSE(identity->certified());
  EXPECT_EQ(identity->certify({}), IdentityError::kMalformedEvidence);
  EXPECT_EQ(identity->certify(serialize_evidence({Bytes(10), {}})), IdentityError::kMalformedEvidence);
  TestPlatform platform;
  DcapVerifier verifier(platform.anchors(), {}, [] { return kNow; });
  EXPECT_EQ(Endpoint::create(Role::kClient, *identity, verifier).error(), RatlsError::kNotCertified);
}

TEST(Identity, ReportDataIsDigestAndLabel) {
  Digest digest;
  digest.fill(7);
  const ReportData data = bind_key(digest);
  EXPECT_EQ(data[0], 7);
  EXPECT_EQ(data[31], 7);
  EXPECT_EQ(as_text(data).substr(32, 16), "sealift RA-TLS 1");
  EXPECT_EQ(data[63], 0);
}

// Two instances of one enclave have different keys, so they can be told apart.
TEST(Identity, InstancesDiffer) {
  EXPECT_NE(std::move(RatlsIdentity::create()).value()->instance(),
            std::move(RatlsIdentity::create()).value()->instance());
}

TEST(Ratls, PeerWithoutCollateralNeedsAFallback) {
  Party c, s;
  s.certify(s.identity_->report_data(), /*with_collateral=*/false);
  {
    const Pair pair(c, s);
    expect_refused(*pair.client, *pair.server, RatlsError::kPeerRefused);
  }
  c.fallback_ = s.platform_.collateral();
  const Pair pair(c, s);
  EXPECT_EQ(pair.client->phase(), Phase::kOpen);
}

TEST(Ratls, VerdictIsRenewedWithFreshCollateral) {
  Party c, s;
  const Pair pair(c, s);
  c.now_ = kNextUpdate + kDay;
  ASSERT_EQ(judge(*pair.client->peer(), {}, c.now_), (VerifyFailure{VerifyError::kVerdictExpired}));
  const Bytes stale = serialize_collateral(s.platform_.collateral());
  EXPECT_TRUE(pair.client->reverify(stale));
  EXPECT_EQ(pair.client->peer()->expiry, kNextUpdate);

  const UnixTime later = kNextUpdate + 30 * kDay;
  TestPlatform fresh;
  fresh.tcb.next_update = fresh.qe_identity.next_update = later;
  fresh.pck_crl_spec.next_update = fresh.root_crl_spec.next_update = later;
  EXPECT_EQ(pair.client->reverify(serialize_collateral(fresh.collateral())), std::nullopt);
  EXPECT_EQ(pair.client->peer()->expiry, later);
  EXPECT_EQ(judge(*pair.client->peer(), {}, c.now_), std::nullopt);
}

}  // namespace
}  // namespace sealift::attestation

// RA-TLS: two endpoints, joined by this test's memory; and peers that are something else.
#include "attestation/ratls.h"

#include <gtest/gtest.h>
#include <openssl/err.h>

#include "attestation/test_platform.h"

namespace sealift::attestation {
namespace {

using testing::kDay;
using testing::kNextUpdate;
using testing::kNow;
using testing::TestPlatform;

Bytes bytes_of(std::string_view text) {
  return {text.begin(), text.end()};
}

// An agent enclave on some platform: its identity, certified by the platform's QE, and what it accepts.
class Party {
 public:
  explicit Party(std::uint8_t mrenclave = 0xee) : identity_(std::move(RatlsIdentity::create()).value()) {
    platform_.enclave.mrenclave.bytes[0] = mrenclave;
    certify(identity_->report_data());
  }

  std::optional<IdentityError> certify(const ReportData& data, bool with_collateral = true) {
    std::memcpy(platform_.enclave.reportdata, data.data(), data.size());
    const Bytes collateral = with_collateral ? serialize_collateral(platform_.collateral()) : Bytes{};
    return identity_->certify(serialize_evidence({platform_.quote(), collateral}));
  }

  std::unique_ptr<Endpoint> endpoint(Role role) {
    verifier_ = std::make_unique<DcapVerifier>(
        platform_.anchors(), policy_, [this] { return now_; }, fallback_);
    return std::move(Endpoint::create(role, *identity_, *verifier_)).value();
  }

  std::unique_ptr<RatlsIdentity> identity_;
  TestPlatform platform_;
  Policy policy_;
  Collateral fallback_;
  UnixTime now_ = kNow;
  std::unique_ptr<DcapVerifier> verifier_;
};

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

// --- Peers that are not endpoints ---

// A TLS client of the test's own making, to do what Endpoint never would.
class RawClient {
 public:
  RawClient() : context_(SSL_CTX_new(TLS_client_method())) {
    SSL_CTX_set_verify(context_.get(), SSL_VERIFY_NONE, nullptr);
  }

  void start() {
    ssl_.reset(SSL_new(context_.get()));
    SSL_set_bio(ssl_.get(), BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_connect_state(ssl_.get());
  }

  // Runs the handshake against `server`; what SSL_do_handshake and a read said last.
  void run(Endpoint& server) {
    for (int round = 0; round < 4; ++round) {
      SSL_do_handshake(ssl_.get());
      std::array<char, 16> plain;
      SSL_read(ssl_.get(), plain.data(), plain.size());
      Bytes out(BIO_ctrl_pending(SSL_get_wbio(ssl_.get())));
      BIO_read(SSL_get_wbio(ssl_.get()), out.data(), static_cast<int>(out.size()));
      server.feed(out);
      const Bytes in = server.take();
      BIO_write(SSL_get_rbio(ssl_.get()), in.data(), static_cast<int>(in.size()));
    }
    ERR_clear_error();
  }

  // A self-signed certificate for `key`, without evidence or with some.
  void use(EVP_PKEY* key, X509* certificate) {
    ASSERT_EQ(SSL_CTX_use_certificate(context_.get(), certificate), 1);
    ASSERT_EQ(SSL_CTX_use_PrivateKey(context_.get(), key), 1);
  }

  SslContextPtr context_;
  SslPtr ssl_;
};

CertPtr plain_certificate(EVP_PKEY* key) {
  const auto made = testing::gen::make_certificate(
      {.common_name = "plain", .not_before = 0, .not_after = testing::kIssued * 2, .sgx_extension = {}}, key, nullptr,
      key);
  return CertPtr(X509_dup(made.get()));
}

// The certificate of `holder`, issued anew for `key`: evidence that binds another key.
CertPtr stolen_certificate(const RatlsIdentity& holder, EVP_PKEY* key) {
  CertPtr certificate(X509_dup(holder.certificate()));
  X509_set_pubkey(certificate.get(), key);
  X509_sign(certificate.get(), key, EVP_sha256());
  return certificate;
}

RatlsError server_error_against(RawClient& client) {
  Party s;
  const auto server = s.endpoint(Role::kServer);
  client.start();
  client.run(*server);
  EXPECT_EQ(server->phase(), Phase::kFailed);
  return server->error();
}

TEST(RatlsForeign, ClientWithoutCertificate) {
  RawClient client;
  EXPECT_EQ(server_error_against(client), RatlsError::kProtocol);
}

TEST(RatlsForeign, ClientOfTls12) {
  RawClient client;
  SSL_CTX_set_max_proto_version(client.context_.get(), TLS1_2_VERSION);
  EXPECT_EQ(server_error_against(client), RatlsError::kProtocol);
}

TEST(RatlsForeign, ClientWithoutEvidence) {
  RawClient client;
  const auto key = TestPlatform::key("plain client");
  client.use(key.get(), plain_certificate(key.get()).get());
  EXPECT_EQ(server_error_against(client), RatlsError::kNoEvidence);
}

TEST(RatlsForeign, ClientWithStolenEvidence) {
  RawClient client;
  const Party victim;
  const auto key = TestPlatform::key("thief");
  client.use(key.get(), stolen_certificate(*victim.identity_, key.get()).get());
  EXPECT_EQ(server_error_against(client), RatlsError::kKeyNotBound);
}

TEST(RatlsForeign, CertificateSignedByAnotherKey) {
  RawClient client;
  const Party victim;
  const auto key = TestPlatform::key("thief"), other = TestPlatform::key("other");
  CertPtr certificate = stolen_certificate(*victim.identity_, key.get());
  X509_sign(certificate.get(), other.get(), EVP_sha256());
  client.use(key.get(), certificate.get());
  EXPECT_EQ(server_error_against(client), RatlsError::kBadPeerCertificate);
}

TEST(RatlsForeign, KeyOfAnotherCurve) {
  RawClient client;
  const KeyPtr key(EVP_EC_gen("P-384"));
  const CertPtr certificate = plain_certificate(key.get());
  client.use(key.get(), certificate.get());
  const RatlsError error = server_error_against(client);
  // libssl itself refuses to sign with a key that the server's signature algorithms do not name.
  EXPECT_TRUE(error == RatlsError::kProtocol || error == RatlsError::kBadPeerCertificate);
}

TEST(RatlsForeign, ChainOfCertificates) {
  RawClient client;
  const Party victim;
  const auto key = TestPlatform::key("chain");
  client.use(key.get(), stolen_certificate(*victim.identity_, key.get()).get());
  ASSERT_EQ(SSL_CTX_add1_chain_cert(client.context_.get(), plain_certificate(key.get()).get()), 1);
  EXPECT_EQ(server_error_against(client), RatlsError::kBadPeerCertificate);
}

TEST(RatlsForeign, Garbage) {
  Party s;
  const auto server = s.endpoint(Role::kServer);
  server->feed(bytes_of("GET / HTTP/1.1\r\n\r\n"));
  EXPECT_EQ(server->phase(), Phase::kFailed);
  EXPECT_EQ(server->error(), RatlsError::kProtocol);
  server->feed(Bytes(100));  // dropped
  EXPECT_EQ(server->error(), RatlsError::kProtocol);
}

// A server of ours hands out nothing to resume with, and a client that offers an old session is attested again.
TEST(RatlsForeign, NoTicketsAndNoResumption) {
  Party s, honest;
  RawClient client;
  client.use(honest.identity_->key(), honest.identity_->certificate());
  SSL_CTX_set_session_cache_mode(client.context_.get(), SSL_SESS_CACHE_CLIENT);
  static int tickets;
  tickets = 0;
  SSL_CTX_sess_set_new_cb(client.context_.get(), [](SSL*, SSL_SESSION*) {
    ++tickets;
    return 0;
  });
  client.start();
  const auto server = s.endpoint(Role::kServer);
  client.run(*server);
  ASSERT_EQ(server->phase(), Phase::kOpen);
  EXPECT_EQ(tickets, 0);
  SSL_SESSION* session = SSL_get1_session(client.ssl_.get());
  EXPECT_EQ(SSL_SESSION_is_resumable(session), 0);
  client.start();
  SSL_set_session(client.ssl_.get(), session);
  SSL_SESSION_free(session);
  const auto second = s.endpoint(Role::kServer);
  client.run(*second);
  EXPECT_EQ(SSL_session_reused(client.ssl_.get()), 0);
  EXPECT_TRUE(second->peer());
}

}  // namespace
}  // namespace sealift::attestation

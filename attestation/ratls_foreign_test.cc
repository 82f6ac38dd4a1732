// RA-TLS against peers that are not endpoints of ours.
#include <gtest/gtest.h>
#include <openssl/err.h>

#include "attestation/test_party.h"

namespace sealift::attestation {
namespace {

using testing::bytes_of;
using testing::Party;
using testing::TestPlatform;

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

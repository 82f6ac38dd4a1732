#include "attestation/ratls.h"

#include <openssl/err.h>

#include <limits>

namespace sealift::attestation {
namespace {

constexpr char kCipherSuite[] = "TLS_AES_256_GCM_SHA384";
constexpr char kGroups[] = "X25519:P-256";
constexpr char kSignatureAlgorithms[] = "ECDSA+SHA256";
constexpr long kMaxCertificateMessage = kMaxEvidenceSize + 4096;

// An alert number per reason lets the other side's operator see what is wrong; it tells an attacker nothing that the
// attacker's own evidence does not.
int x509_error(const VerifyFailure& failure) noexcept {
  switch (failure.error) {
    case VerifyError::kTcbInfoExpired:
    case VerifyError::kQeIdentityExpired:
    case VerifyError::kVerdictExpired:
      return X509_V_ERR_CERT_HAS_EXPIRED;
    case VerifyError::kTcbRevoked:
      return X509_V_ERR_CERT_REVOKED;
    default:
      return X509_V_ERR_CERT_REJECTED;
  }
}

// One certificate, of a P-256 key, signed by itself.
bool well_formed(X509_STORE_CTX* store, X509* certificate) {
  const STACK_OF(X509)* sent = X509_STORE_CTX_get0_untrusted(store);
  EVP_PKEY* key = certificate ? X509_get0_pubkey(certificate) : nullptr;
  const bool good = key && sk_X509_num(sent) <= 1 && p256_point(key) && X509_verify(certificate, key) == 1;
  ERR_clear_error();
  return good;
}

}  // namespace

DcapVerifier::DcapVerifier(TrustAnchors anchors, Policy policy, std::function<UnixTime()> now, Collateral fallback)
    : anchors_(std::move(anchors)), policy_(std::move(policy)), now_(std::move(now)), fallback_(std::move(fallback)) {}

Result<Verdict, VerifyFailure> DcapVerifier::check(ByteSpan quote, ByteSpan collateral) {
  if (collateral.empty()) return verify(quote, fallback_, anchors_, now_(), policy_);
  const auto parsed = parse_collateral(collateral);
  if (!parsed) return VerifyFailure{VerifyError::kMalformedCollateral, static_cast<int>(parsed.error())};
  return verify(quote, parsed.value(), anchors_, now_(), policy_);
}

Result<std::unique_ptr<Endpoint>, RatlsError> Endpoint::create(Role role, const RatlsIdentity& identity,
                                                               EvidenceVerifier& verifier) {
  if (!identity.certified()) return RatlsError::kNotCertified;
  std::unique_ptr<Endpoint> endpoint(new Endpoint(verifier));
  const bool ready = endpoint->set_up(role, identity);
  ERR_clear_error();
  if (!ready) return RatlsError::kOpenSsl;
  endpoint->drive();  // a client has something to say at once
  return endpoint;
}

Endpoint::~Endpoint() = default;

bool Endpoint::set_up(Role role, const RatlsIdentity& identity) {
  context_.reset(SSL_CTX_new(TLS_method()));
  SSL_CTX* context = context_.get();
  if (!context || SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1 ||
      SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION) != 1 ||
      SSL_CTX_set_ciphersuites(context, kCipherSuite) != 1 || SSL_CTX_set1_groups_list(context, kGroups) != 1 ||
      SSL_CTX_set1_sigalgs_list(context, kSignatureAlgorithms) != 1 || SSL_CTX_set_num_tickets(context, 0) != 1 ||
      SSL_CTX_set_max_early_data(context, 0) != 1 || SSL_CTX_use_certificate(context, identity.certificate()) != 1 ||
      SSL_CTX_use_PrivateKey(context, identity.key()) != 1) {
    return false;
  }
  SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_max_cert_list(context, kMaxCertificateMessage);
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  SSL_CTX_set_cert_verify_callback(context, &Endpoint::verify_certificate, this);

  ssl_.reset(SSL_new(context));
  from_network_ = BIO_new(BIO_s_mem());
  to_network_ = BIO_new(BIO_s_mem());
  if (!ssl_ || !from_network_ || !to_network_) {
    BIO_free(from_network_);
    BIO_free(to_network_);
    return false;
  }
  SSL_set_bio(ssl_.get(), from_network_, to_network_);
  if (role == Role::kClient) {
    SSL_set_connect_state(ssl_.get());
  } else {
    SSL_set_accept_state(ssl_.get());
  }
  return true;
}

int Endpoint::verify_certificate(X509_STORE_CTX* store, void* self) {
  const int error = static_cast<Endpoint*>(self)->judge_peer(store);
  X509_STORE_CTX_set_error(store, error);
  return error == X509_V_OK ? 1 : 0;
}

// The X509_V_ERR number that libssl turns into an alert, or X509_V_OK.
int Endpoint::judge_peer(X509_STORE_CTX* store) {
  const auto refuse = [this](RatlsError error, int cause = -1) {
    fail(error, cause);
    return X509_V_ERR_CERT_REJECTED;
  };
  X509* certificate = X509_STORE_CTX_get0_cert(store);
  if (!well_formed(store, certificate)) return refuse(RatlsError::kBadPeerCertificate);
  const auto digest = spki_digest(certificate);
  if (!digest) return refuse(RatlsError::kBadPeerCertificate);
  const auto container = evidence_of(certificate);
  if (!container) return refuse(RatlsError::kNoEvidence);
  auto evidence = parse_evidence(*container);
  if (!evidence) return refuse(RatlsError::kMalformedEvidence, static_cast<int>(evidence.error()));

  auto verdict = verifier_.check(evidence.value().quote, evidence.value().collateral);
  if (!verdict) {
    verify_failure_ = verdict.error();
    fail(RatlsError::kPeerRefused, static_cast<int>(verdict.error().error));
    return x509_error(verdict.error());
  }
  const ReportData bound = bind_key(*digest);
  if (std::memcmp(verdict.value().report.reportdata, bound.data(), bound.size()) != 0) {
    return refuse(RatlsError::kKeyNotBound);
  }
  peer_instance_ = *digest;
  peer_quote_ = std::move(evidence.value().quote);
  verdict_ = std::move(verdict).value();
  return X509_V_OK;
}

void Endpoint::feed(ByteSpan from_network) {
  if (phase_ == Phase::kFailed || phase_ == Phase::kClosed) return;
  while (!from_network.empty()) {
    const std::size_t part = std::min<std::size_t>(from_network.size(), std::numeric_limits<int>::max());
    if (BIO_write(from_network_, from_network.data(), static_cast<int>(part)) != static_cast<int>(part)) {
      return fail(RatlsError::kOpenSsl);
    }
    from_network = from_network.subspan(part);
  }
  drive();
}

void Endpoint::drive() {
  ERR_clear_error();
  if (phase_ == Phase::kHandshaking) {
    const int result = SSL_do_handshake(ssl_.get());
    if (result != 1) return fail_from_ssl(result);
    phase_ = Phase::kOpen;
  }
  read_plain();
}

void Endpoint::read_plain() {
  std::array<std::uint8_t, 16384> buffer;
  std::size_t size = 0;
  while (SSL_read_ex(ssl_.get(), buffer.data(), buffer.size(), &size) == 1) {
    plain_.insert(plain_.end(), buffer.begin(), buffer.begin() + static_cast<std::ptrdiff_t>(size));
  }
  // Not SSL_get_shutdown: libssl sets SSL_RECEIVED_SHUTDOWN for a fatal alert, too.
  if (SSL_get_error(ssl_.get(), 0) != SSL_ERROR_ZERO_RETURN) return fail_from_ssl(0);
  if (phase_ == Phase::kOpen) phase_ = Phase::kClosed;
}

void Endpoint::fail(RatlsError error, int cause) {
  if (error_ != RatlsError::kNone) return;  // the first reason is the true one
  phase_ = Phase::kFailed;
  error_ = error;
  cause_ = cause;
}

void Endpoint::fail_from_ssl(int result) {
  const int kind = SSL_get_error(ssl_.get(), result);
  if (kind == SSL_ERROR_WANT_READ || kind == SSL_ERROR_WANT_WRITE) return;
  const unsigned long error = ERR_peek_error();
  ERR_clear_error();
  const int reason = ERR_GET_REASON(error);
  if (ERR_GET_LIB(error) == ERR_LIB_SSL && reason > SSL_AD_REASON_OFFSET && reason <= SSL_AD_REASON_OFFSET + 255) {
    return fail(RatlsError::kRefusedByPeer, reason - SSL_AD_REASON_OFFSET);
  }
  fail(RatlsError::kProtocol);
}

Bytes Endpoint::take() {
  Bytes out(BIO_ctrl_pending(to_network_));
  if (out.empty()) return out;
  const int size = BIO_read(to_network_, out.data(), static_cast<int>(out.size()));
  out.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
  return out;
}

RatlsError Endpoint::write(ByteSpan plain) {
  if (phase_ != Phase::kOpen || SSL_get_shutdown(ssl_.get()) != 0) return RatlsError::kNotOpen;
  std::size_t written = 0;
  ERR_clear_error();
  if (!plain.empty() && SSL_write_ex(ssl_.get(), plain.data(), plain.size(), &written) != 1) {
    fail(RatlsError::kProtocol);
    return error_;
  }
  return RatlsError::kNone;
}

Bytes Endpoint::read() {
  return std::exchange(plain_, {});
}

void Endpoint::close() {
  if (phase_ == Phase::kOpen || phase_ == Phase::kClosed) SSL_shutdown(ssl_.get());
  ERR_clear_error();
}

std::optional<VerifyFailure> Endpoint::reverify(ByteSpan collateral) {
  auto verdict = verifier_.check(peer_quote_, collateral);
  if (!verdict) return verdict.error();
  verdict_ = std::move(verdict).value();
  return std::nullopt;
}

RatlsError Endpoint::export_key(std::string_view label, ByteSpan context, std::span<std::uint8_t> out) const {
  if (phase_ != Phase::kOpen) return RatlsError::kNotOpen;
  const int made = SSL_export_keying_material(ssl_.get(), out.data(), out.size(), label.data(), label.size(),
                                              context.data(), context.size(), /*use_context=*/1);
  ERR_clear_error();
  return made == 1 ? RatlsError::kNone : RatlsError::kOpenSsl;
}

}  // namespace sealift::attestation

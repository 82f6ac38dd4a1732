// RA-TLS: mutually attested TLS 1.3 over memory. Bytes in, bytes out; the caller carries them, and may be hostile.
//
// TLS 1.3 alone, AES-256-GCM, both sides with certificates as RatlsIdentity makes them. No resumption, no tickets, no
// early data: every connection is attested anew. A peer whose evidence is not accepted gets a TLS alert.
//
// In TLS 1.3 the client finishes first: its phase is kOpen once it has accepted the server, while the server may yet
// refuse it. What the client writes until then reaches nobody but the server that it has accepted; a refusal shows as
// kRefusedByPeer at a later feed().
#pragma once

#include <functional>

#include "attestation/ratls_identity.h"
#include "attestation/verify.h"

namespace sealift::attestation {

// Judges evidence. Called inside feed(), once per connection, and by reverify().
class EvidenceVerifier {
 public:
  virtual ~EvidenceVerifier() = default;
  // `collateral` is what the peer sent: a container, perhaps empty. That the quote binds the peer's TLS key is checked
  // by the endpoint, on the verdict's report.
  [[nodiscard]] virtual Result<Verdict, VerifyFailure> check(ByteSpan quote, ByteSpan collateral) = 0;
};

// verify() with fixed anchors and policy.
class DcapVerifier final : public EvidenceVerifier {
 public:
  // `now` is asked at every check. `fallback` is used for peers that send no collateral.
  DcapVerifier(TrustAnchors anchors, Policy policy, std::function<UnixTime()> now, Collateral fallback = {});
  [[nodiscard]] Result<Verdict, VerifyFailure> check(ByteSpan quote, ByteSpan collateral) override;

 private:
  TrustAnchors anchors_;
  Policy policy_;
  std::function<UnixTime()> now_;
  Collateral fallback_;
};

enum class RatlsError {
  kNone,
  kOpenSsl,             // libssl could not be set up
  kNotCertified,        // the identity has no evidence yet
  kBadPeerCertificate,  // not one self-signed P-256 certificate
  kNoEvidence,          // its certificate has no evidence extension
  kMalformedEvidence,   // the cause is an EvidenceError
  kPeerRefused,         // verify_failure() has the reason
  kKeyNotBound,         // a good quote, but for another TLS key
  kRefusedByPeer,       // the peer sent an alert; the cause is its number
  kProtocol,            // not TLS 1.3 as above, or bytes were changed on the way
  kNotOpen,             // write or export outside of kOpen
};

enum class Phase {
  kHandshaking,
  kOpen,
  kClosed,  // the peer said that it will send no more
  kFailed,  // for good; error() tells why
};

enum class Role { kClient, kServer };

// One end of one connection. Not thread-safe. Copies what it needs of the identity; `verifier` must outlive it.
class Endpoint {
 public:
  [[nodiscard]] static Result<std::unique_ptr<Endpoint>, RatlsError> create(Role role, const RatlsIdentity& identity,
                                                                            EvidenceVerifier& verifier);
  ~Endpoint();
  Endpoint(const Endpoint&) = delete;
  Endpoint& operator=(const Endpoint&) = delete;

  // Takes bytes that came from the network and drives the connection. After kFailed or kClosed they are dropped.
  void feed(ByteSpan from_network);
  // Bytes for the network; empty if there are none. Also after kFailed: the alert.
  [[nodiscard]] Bytes take();

  // kNone, or why nothing was written.
  [[nodiscard]] RatlsError write(ByteSpan plain);
  // Everything that has arrived; empty if nothing.
  [[nodiscard]] Bytes read();
  // Tells the peer that no more will come (close_notify). Reading goes on, writing does not.
  void close();

  [[nodiscard]] Phase phase() const noexcept { return phase_; }
  [[nodiscard]] RatlsError error() const noexcept { return error_; }
  [[nodiscard]] int cause() const noexcept { return cause_; }
  [[nodiscard]] const std::optional<VerifyFailure>& verify_failure() const noexcept { return verify_failure_; }

  // Who the peer is; set once its evidence has been accepted. Whether the verdict still holds (expiry) is for the
  // application to judge, each time it matters.
  [[nodiscard]] const std::optional<Verdict>& peer() const noexcept { return verdict_; }
  [[nodiscard]] const Digest& peer_instance() const noexcept { return peer_instance_; }

  // Verifies the peer's quote again with other collateral, in the background of an open connection. On success the
  // verdict is replaced; on failure the old one stays, until it expires.
  [[nodiscard]] std::optional<VerifyFailure> reverify(ByteSpan collateral);

  // The exporter of RFC 8446, section 7.5: the same bytes on both sides, for binding other protocols to this channel.
  [[nodiscard]] RatlsError export_key(std::string_view label, ByteSpan context, std::span<std::uint8_t> out) const;

 private:
  explicit Endpoint(EvidenceVerifier& verifier) : verifier_(verifier) {}
  [[nodiscard]] bool set_up(Role role, const RatlsIdentity& identity);
  static int verify_certificate(X509_STORE_CTX* store, void* self);
  [[nodiscard]] int judge_peer(X509_STORE_CTX* store);
  void drive();
  void read_plain();
  void fail(RatlsError error, int cause = -1);
  void fail_from_ssl(int result);

  EvidenceVerifier& verifier_;
  SslContextPtr context_;
  SslPtr ssl_;
  BIO* from_network_ = nullptr;  // owned by ssl_
  BIO* to_network_ = nullptr;    // owned by ssl_
  Phase phase_ = Phase::kHandshaking;
  RatlsError error_ = RatlsError::kNone;
  int cause_ = -1;
  std::optional<VerifyFailure> verify_failure_;
  Bytes peer_quote_;
  Digest peer_instance_{};
  std::optional<Verdict> verdict_;
  Bytes plain_;
};

}  // namespace sealift::attestation

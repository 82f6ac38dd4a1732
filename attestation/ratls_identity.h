// The attested identity of one RA-TLS party: a key that lives as long as the object, and a self-signed certificate that
// carries the evidence for it.
#pragma once

#include <array>
#include <memory>

#include "attestation/crypto.h"
#include "attestation/evidence.h"

namespace sealift::attestation {

using ReportData = std::array<std::uint8_t, 64>;

// REPORTDATA that binds a TLS key: SHA-256 of its SubjectPublicKeyInfo (DER), then kReportDataLabel padded with zeroes
// to 32 bytes. The label keeps any other use that an enclave may make of its REPORTDATA from being taken for this one.
inline constexpr std::string_view kReportDataLabel = "sealift RA-TLS 1";
[[nodiscard]] ReportData bind_key(const Digest& spki_digest);

// The certificate extension, not critical: an OCTET STRING with serialize_evidence()'s container. The identifier is a
// UUID (ITU-T X.667), so it collides with nobody's.
inline constexpr char kOidEvidence[] = "2.25.93243817353365322276525694958881649558";

enum class IdentityError {
  kOpenSsl,            // libcrypto refused: no entropy or no memory
  kMalformedEvidence,  // not an evidence container with a quote
  kOtherKey,           // the quote's REPORTDATA is not report_data()
};

// The key is drawn at creation and never leaves the object. Not thread-safe; endpoints that are being created read it.
class RatlsIdentity {
 public:
  [[nodiscard]] static Result<std::unique_ptr<RatlsIdentity>, IdentityError> create();

  // SHA-256 of the SubjectPublicKeyInfo: names this instance.
  [[nodiscard]] const Digest& instance() const noexcept { return instance_; }
  // What the enclave must put into its REPORT.
  [[nodiscard]] ReportData report_data() const { return bind_key(instance_); }

  // Installs evidence whose quote binds report_data(), for endpoints that are made from now on. May be repeated, with
  // fresher collateral. It is not verified here: that is for the other side to do. nullopt on success.
  [[nodiscard]] std::optional<IdentityError> certify(ByteSpan evidence);
  [[nodiscard]] bool certified() const noexcept { return certificate_ != nullptr; }

  // For Endpoint. Owned by the identity; the certificate is null before certify().
  [[nodiscard]] EVP_PKEY* key() const noexcept { return key_.get(); }
  [[nodiscard]] X509* certificate() const noexcept { return certificate_.get(); }

 private:
  RatlsIdentity() = default;
  KeyPtr key_;
  Digest instance_{};
  CertPtr certificate_;
};

// SHA-256 of the certificate's SubjectPublicKeyInfo.
[[nodiscard]] std::optional<Digest> spki_digest(const X509* certificate);

// The evidence container in a certificate; nullopt if there is not exactly one such extension or it is not an OCTET
// STRING.
[[nodiscard]] std::optional<Bytes> evidence_of(const X509* certificate);

}  // namespace sealift::attestation

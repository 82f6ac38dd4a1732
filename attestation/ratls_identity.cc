#include "attestation/ratls_identity.h"

#include <openssl/err.h>

#include <algorithm>

#include "attestation/quote.h"

namespace sealift::attestation {
namespace {

using ExtensionPtr = std::unique_ptr<X509_EXTENSION, Deleter<X509_EXTENSION_free>>;
using IntegerPtr = std::unique_ptr<ASN1_INTEGER, Deleter<ASN1_INTEGER_free>>;

// DER of the key's SubjectPublicKeyInfo, hashed.
std::optional<Digest> hash_spki(const EVP_PKEY* key) {
  std::uint8_t* der = nullptr;
  const int size = i2d_PUBKEY(key, &der);
  if (size <= 0) return std::nullopt;
  const Digest digest = sha256({der, static_cast<std::size_t>(size)});
  OPENSSL_free(der);
  return digest;
}

OctetsPtr octet_string(ByteSpan bytes) {
  OctetsPtr string(ASN1_OCTET_STRING_new());
  if (string && ASN1_OCTET_STRING_set(string.get(), bytes.data(), static_cast<int>(bytes.size())) != 1) string.reset();
  return string;
}

bool add_evidence(X509* certificate, ByteSpan evidence) {
  const OctetsPtr inner = octet_string(evidence);
  std::uint8_t* der = nullptr;
  const int size = inner ? i2d_ASN1_OCTET_STRING(inner.get(), &der) : -1;
  if (size <= 0) return false;
  const OctetsPtr outer = octet_string({der, static_cast<std::size_t>(size)});
  OPENSSL_free(der);
  const ObjectPtr oid(OBJ_txt2obj(kOidEvidence, /*no_name=*/1));
  const ExtensionPtr extension(oid && outer ? X509_EXTENSION_create_by_OBJ(nullptr, oid.get(), /*crit=*/0, outer.get())
                                            : nullptr);
  return extension && X509_add_ext(certificate, extension.get(), -1) == 1;
}

// The dates say nothing: an enclave has no clock to set them by, and the verdict's expiry is what counts. RFC 5280,
// 4.1.2.5, has this notAfter for "no well-defined end".
bool set_fields(X509* certificate, EVP_PKEY* key) {
  X509_NAME* name = X509_get_subject_name(certificate);
  constexpr unsigned char kName[] = "sealift RA-TLS";
  const IntegerPtr serial(ASN1_INTEGER_new());
  return serial && ASN1_INTEGER_set_uint64(serial.get(), 1) == 1 &&
         X509_set_version(certificate, X509_VERSION_3) == 1 && X509_set_serialNumber(certificate, serial.get()) == 1 &&
         X509_NAME_add_entry_by_NID(name, NID_commonName, MBSTRING_ASC, kName, sizeof kName - 1, -1, 0) == 1 &&
         X509_set_issuer_name(certificate, name) == 1 &&
         ASN1_TIME_set_string_X509(X509_getm_notBefore(certificate), "19700101000000Z") == 1 &&
         ASN1_TIME_set_string_X509(X509_getm_notAfter(certificate), "99991231235959Z") == 1 &&
         X509_set_pubkey(certificate, key) == 1;
}

}  // namespace

ReportData bind_key(const Digest& spki_digest) {
  static_assert(sizeof(Digest) + kReportDataLabel.size() <= sizeof(ReportData));
  ReportData data{};
  std::ranges::copy(spki_digest, data.begin());
  std::ranges::copy(kReportDataLabel, data.begin() + sizeof(Digest));
  return data;
}

Result<std::unique_ptr<RatlsIdentity>, IdentityError> RatlsIdentity::create() {
  std::unique_ptr<RatlsIdentity> identity(new RatlsIdentity);
  identity->key_.reset(EVP_EC_gen(SN_X9_62_prime256v1));
  const auto digest = identity->key_ ? hash_spki(identity->key_.get()) : std::nullopt;
  ERR_clear_error();
  if (!digest) return IdentityError::kOpenSsl;
  identity->instance_ = *digest;
  return identity;
}

std::optional<IdentityError> RatlsIdentity::certify(ByteSpan evidence) {
  const auto parsed = parse_evidence(evidence);
  if (!parsed) return IdentityError::kMalformedEvidence;
  const auto quote = parse_quote(parsed.value().quote);
  if (!quote) return IdentityError::kMalformedEvidence;
  const ReportData wanted = report_data();
  if (std::memcmp(quote.value().signed_part.body.reportdata, wanted.data(), wanted.size()) != 0) {
    return IdentityError::kOtherKey;
  }
  CertPtr certificate(X509_new());
  const bool made = certificate && set_fields(certificate.get(), key_.get()) &&
                    add_evidence(certificate.get(), evidence) &&
                    X509_sign(certificate.get(), key_.get(), EVP_sha256()) > 0;
  ERR_clear_error();
  if (!made) return IdentityError::kOpenSsl;
  certificate_ = std::move(certificate);
  return std::nullopt;
}

std::optional<Digest> spki_digest(const X509* certificate) {
  const EVP_PKEY* key = X509_get0_pubkey(certificate);
  return key ? hash_spki(key) : std::nullopt;
}

std::optional<Bytes> evidence_of(const X509* certificate) {
  const ObjectPtr oid(OBJ_txt2obj(kOidEvidence, /*no_name=*/1));
  const int at = X509_get_ext_by_OBJ(certificate, oid.get(), -1);
  if (at < 0 || X509_get_ext_by_OBJ(certificate, oid.get(), at) >= 0) return std::nullopt;
  const ASN1_OCTET_STRING* value = X509_EXTENSION_get_data(X509_get_ext(certificate, at));
  const std::uint8_t* cursor = ASN1_STRING_get0_data(value);
  const std::uint8_t* end = cursor + ASN1_STRING_length(value);
  const OctetsPtr inner(d2i_ASN1_OCTET_STRING(nullptr, &cursor, ASN1_STRING_length(value)));
  ERR_clear_error();
  if (!inner || cursor != end) return std::nullopt;
  const std::uint8_t* data = ASN1_STRING_get0_data(inner.get());
  return Bytes(data, data + ASN1_STRING_length(inner.get()));
}

}  // namespace sealift::attestation

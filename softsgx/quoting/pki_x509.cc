#include <openssl/asn1t.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "softsgx/quoting/check.h"
#include "softsgx/quoting/pki.h"

namespace softsgx::quoting {
namespace {

struct FreeExtension {
  void operator()(X509_EXTENSION* extension) const noexcept { X509_EXTENSION_free(extension); }
};
struct FreeCrl {
  void operator()(X509_CRL* crl) const noexcept { X509_CRL_free(crl); }
};
struct FreeRevoked {
  void operator()(X509_REVOKED* entry) const noexcept { X509_REVOKED_free(entry); }
};
struct FreeName {
  void operator()(X509_NAME* name) const noexcept { X509_NAME_free(name); }
};
struct FreeInteger {
  void operator()(ASN1_INTEGER* number) const noexcept { ASN1_INTEGER_free(number); }
};
struct FreeTime {
  void operator()(ASN1_TIME* time) const noexcept { ASN1_TIME_free(time); }
};
struct FreeString {
  void operator()(ASN1_OCTET_STRING* string) const noexcept { ASN1_OCTET_STRING_free(string); }
};
struct FreeObject {
  void operator()(ASN1_OBJECT* object) const noexcept { ASN1_OBJECT_free(object); }
};
struct FreeBio {
  void operator()(BIO* bio) const noexcept { BIO_free_all(bio); }
};

using Time = std::unique_ptr<ASN1_TIME, FreeTime>;
using Integer = std::unique_ptr<ASN1_INTEGER, FreeInteger>;

Time make_time(UnixTime time) {
  return Time(check(ASN1_TIME_set(nullptr, static_cast<time_t>(time))));
}

Integer make_integer(std::uint64_t value) {
  Integer number(check(ASN1_INTEGER_new()));
  check(ASN1_INTEGER_set_uint64(number.get(), value));
  return number;
}

std::unique_ptr<X509_NAME, FreeName> make_name(const std::string& common_name) {
  std::unique_ptr<X509_NAME, FreeName> name(check(X509_NAME_new()));
  for (const auto& [field, value] : {std::pair<const char*, const char*>{"CN", common_name.c_str()},
                                     std::pair<const char*, const char*>{"O", "softsgx (proves nothing)"}}) {
    check(X509_NAME_add_entry_by_txt(name.get(), field, MBSTRING_UTF8, reinterpret_cast<const unsigned char*>(value),
                                     -1, -1, 0));
  }
  return name;
}

void add_extension(X509* certificate, const X509* issuer, int nid, const char* value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, const_cast<X509*>(issuer), certificate, nullptr, nullptr, 0);
  const std::unique_ptr<X509_EXTENSION, FreeExtension> extension(
      check(X509V3_EXT_conf_nid(nullptr, &context, nid, value)));
  check(X509_add_ext(certificate, extension.get(), -1));
}

void add_sgx_extension(X509* certificate, const Bytes& der) {
  const std::unique_ptr<ASN1_OCTET_STRING, FreeString> value(check(ASN1_OCTET_STRING_new()));
  check(ASN1_OCTET_STRING_set(value.get(), der.data(), static_cast<int>(der.size())));
  const std::unique_ptr<ASN1_OBJECT, FreeObject> oid(check(OBJ_txt2obj(sgx::quote::kOidSgxExtensions, 1)));
  const std::unique_ptr<X509_EXTENSION, FreeExtension> extension(
      check(X509_EXTENSION_create_by_OBJ(nullptr, oid.get(), 0, value.get())));
  check(X509_add_ext(certificate, extension.get(), -1));
}

// --- DER, as far as the SGX extension needs it: every length is below 64 KiB. ---
constexpr std::uint8_t kTagInteger = 0x02, kTagOctets = 0x04, kTagEnumerated = 0x0a, kTagSequence = 0x30;

Bytes tlv(std::uint8_t tag, Span value) {
  Bytes out = {tag};
  if (value.size() < 0x80) {
    out.push_back(static_cast<std::uint8_t>(value.size()));
  } else {
    out.push_back(0x82);
    out.push_back(static_cast<std::uint8_t>(value.size() >> 8));
    out.push_back(static_cast<std::uint8_t>(value.size()));
  }
  out.insert(out.end(), value.begin(), value.end());
  return out;
}

Bytes der_integer(std::uint16_t value) {
  Bytes digits = {static_cast<std::uint8_t>(value)};
  if (value > 0xff) digits.insert(digits.begin(), static_cast<std::uint8_t>(value >> 8));
  if (digits.front() & 0x80) digits.insert(digits.begin(), 0);
  return tlv(kTagInteger, digits);
}

// SEQUENCE { OBJECT IDENTIFIER, value }, appended to `out`.
void append_field(Bytes& out, const std::string& oid, const Bytes& value) {
  const std::unique_ptr<ASN1_OBJECT, FreeObject> object(check(OBJ_txt2obj(oid.c_str(), 1)));
  Bytes pair(static_cast<std::size_t>(i2d_ASN1_OBJECT(object.get(), nullptr)));
  std::uint8_t* at = pair.data();
  check(i2d_ASN1_OBJECT(object.get(), &at));
  pair.insert(pair.end(), value.begin(), value.end());
  const Bytes field = tlv(kTagSequence, pair);
  out.insert(out.end(), field.begin(), field.end());
}

}  // namespace

Cert make_certificate(const CertSpec& spec, EVP_PKEY* subject_key, const X509* issuer, EVP_PKEY* issuer_key) {
  Cert certificate(check(X509_new()));
  X509* c = certificate.get();
  const auto name = make_name(spec.common_name);
  check(X509_set_version(c, X509_VERSION_3));
  check(X509_set_serialNumber(c, make_integer(spec.serial).get()));
  check(X509_set_subject_name(c, name.get()));
  check(X509_set_issuer_name(c, issuer ? X509_get_subject_name(issuer) : name.get()));
  check(X509_set1_notBefore(c, make_time(spec.not_before).get()));
  check(X509_set1_notAfter(c, make_time(spec.not_after).get()));
  check(X509_set_pubkey(c, subject_key));
  const bool ca = spec.usage == Usage::kCa;
  add_extension(c, issuer, NID_subject_key_identifier, "hash");
  add_extension(c, issuer ? issuer : c, NID_authority_key_identifier, "keyid:always");
  add_extension(c, issuer, NID_basic_constraints, ca ? "critical,CA:TRUE" : "critical,CA:FALSE");
  add_extension(c, issuer, NID_key_usage, ca ? "critical,keyCertSign,cRLSign" : "critical,digitalSignature");
  if (!spec.sgx_extension.empty()) add_sgx_extension(c, spec.sgx_extension);
  check(X509_sign(c, issuer_key, EVP_sha256()));
  return certificate;
}

std::string to_pem(const X509* certificate) {
  const std::unique_ptr<BIO, FreeBio> bio(check(BIO_new(BIO_s_mem())));
  check(PEM_write_bio_X509(bio.get(), const_cast<X509*>(certificate)));
  char* text = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &text);
  return {text, static_cast<std::size_t>(size)};
}

Bytes make_crl(const CrlSpec& spec, const X509* issuer, EVP_PKEY* issuer_key) {
  const std::unique_ptr<X509_CRL, FreeCrl> crl(check(X509_CRL_new()));
  check(X509_CRL_set_version(crl.get(), X509_CRL_VERSION_2));
  check(X509_CRL_set_issuer_name(crl.get(), X509_get_subject_name(issuer)));
  check(X509_CRL_set1_lastUpdate(crl.get(), make_time(spec.this_update).get()));
  check(X509_CRL_set1_nextUpdate(crl.get(), make_time(spec.next_update).get()));
  for (const std::uint64_t serial : spec.revoked) {
    std::unique_ptr<X509_REVOKED, FreeRevoked> entry(check(X509_REVOKED_new()));
    check(X509_REVOKED_set_serialNumber(entry.get(), make_integer(serial).get()));
    check(X509_REVOKED_set_revocationDate(entry.get(), make_time(spec.this_update).get()));
    check(X509_CRL_add0_revoked(crl.get(), entry.get()));
    static_cast<void>(entry.release());  // the list owns it now
  }
  X509V3_CTX context;
  X509V3_set_ctx(&context, const_cast<X509*>(issuer), nullptr, nullptr, crl.get(), 0);
  const std::unique_ptr<X509_EXTENSION, FreeExtension> keyid(
      check(X509V3_EXT_conf_nid(nullptr, &context, NID_authority_key_identifier, "keyid:always")));
  check(X509_CRL_add_ext(crl.get(), keyid.get(), -1));
  check(X509_CRL_add1_ext_i2d(crl.get(), NID_crl_number, make_integer(1).get(), 0, 0));
  check(X509_CRL_sort(crl.get()));
  check(X509_CRL_sign(crl.get(), issuer_key, EVP_sha256()));
  Bytes der(static_cast<std::size_t>(i2d_X509_CRL(crl.get(), nullptr)));
  std::uint8_t* at = der.data();
  check(i2d_X509_CRL(crl.get(), &at));
  return der;
}

Bytes sgx_extension(const PlatformTcb& platform) {
  const std::string tcb_oid = sgx::quote::kOidTcb;
  Bytes tcb;
  for (std::size_t i = 0; i < platform.components.size(); ++i) {
    append_field(tcb, tcb_oid + "." + std::to_string(i + 1), der_integer(platform.components[i]));
  }
  append_field(tcb, tcb_oid + ".17", der_integer(platform.pcesvn));
  append_field(tcb, tcb_oid + ".18", tlv(kTagOctets, platform.cpusvn));
  constexpr std::uint8_t kSgxTypeStandard[] = {0};
  Bytes fields;
  append_field(fields, sgx::quote::kOidPpid, tlv(kTagOctets, platform.ppid));
  append_field(fields, tcb_oid, tlv(kTagSequence, tcb));
  append_field(fields, sgx::quote::kOidPceid, tlv(kTagOctets, platform.pceid));
  append_field(fields, sgx::quote::kOidFmspc, tlv(kTagOctets, platform.fmspc));
  append_field(fields, sgx::quote::kOidSgxType, tlv(kTagEnumerated, kSgxTypeStandard));
  return tlv(kTagSequence, fields);
}

}  // namespace softsgx::quoting

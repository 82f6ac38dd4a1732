// Makes the X.509 objects and signed documents of a DCAP infrastructure: certificates, revocation lists, TCB info, QE
// identity. Only makes them; verifiers live elsewhere and must treat these like anybody's.
//
// Every function throws std::runtime_error, with one line, when OpenSSL refuses (out of memory, malformed input).
#pragma once

#include <openssl/evp.h>
#include <openssl/x509.h>

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "sgx/quote.h"

namespace softsgx::quoting {

struct FreeKey {
  void operator()(EVP_PKEY* key) const noexcept { EVP_PKEY_free(key); }
};
struct FreeCert {
  void operator()(X509* certificate) const noexcept { X509_free(certificate); }
};
using Key = std::unique_ptr<EVP_PKEY, FreeKey>;
using Cert = std::unique_ptr<X509, FreeCert>;
using Bytes = std::vector<std::uint8_t>;
using Span = std::span<const std::uint8_t>;
using UnixTime = std::int64_t;  // seconds since 1970, UTC
using PublicPoint = std::array<std::uint8_t, sgx::quote::kPublicKeySize>;
using RawSignature = std::array<std::uint8_t, sgx::quote::kSignatureSize>;
using Digest = std::array<std::uint8_t, 32>;

// --- Keys ---
// The P-256 key whose scalar is HKDF-SHA-256(seed, label), reduced. The same inputs give the same key.
[[nodiscard]] Key derive_key(Span seed, std::string_view label);
[[nodiscard]] PublicPoint public_point(const EVP_PKEY* key);
[[nodiscard]] RawSignature sign_raw(EVP_PKEY* key, Span message);  // ECDSA over SHA-256, as r, s
[[nodiscard]] Digest sha256(Span first, Span second = {});
// HKDF-SHA-256 without salt.
[[nodiscard]] Bytes derive_bytes(Span seed, std::string_view label, std::size_t size);

// --- Certificates and revocation lists ---
enum class Usage { kCa, kSignature };

struct CertSpec {
  std::string common_name;
  std::uint64_t serial = 1;
  Usage usage = Usage::kSignature;
  UnixTime not_before = 0;
  UnixTime not_after = 0;
  Bytes sgx_extension;  // DER value of the SGX extension; empty: none
};

// Signed by `issuer_key`. A null `issuer` makes a self-signed certificate.
[[nodiscard]] Cert make_certificate(const CertSpec& spec, EVP_PKEY* subject_key, const X509* issuer,
                                    EVP_PKEY* issuer_key);
[[nodiscard]] std::string to_pem(const X509* certificate);

struct CrlSpec {
  UnixTime this_update = 0;
  UnixTime next_update = 0;
  std::vector<std::uint64_t> revoked;  // serial numbers
};
[[nodiscard]] Bytes make_crl(const CrlSpec& spec, const X509* issuer, EVP_PKEY* issuer_key);  // DER

// --- The SGX extension of a PCK certificate ---
struct PlatformTcb {
  std::array<std::uint8_t, 16> ppid{};
  std::array<std::uint8_t, 16> cpusvn{};
  std::array<std::uint8_t, sgx::quote::kTcbComponents> components{};
  std::uint16_t pcesvn = 0;
  std::array<std::uint8_t, 2> pceid{};
  std::array<std::uint8_t, 6> fmspc{};
};
[[nodiscard]] Bytes sgx_extension(const PlatformTcb& platform);

// --- Signed documents ---
struct TcbLevelSpec {
  std::array<std::uint8_t, sgx::quote::kTcbComponents> components{};
  std::uint16_t pcesvn = 0;
  UnixTime tcb_date = 0;
  std::string status = "UpToDate";
  std::vector<std::string> advisories;
};
struct TcbInfoSpec {
  std::string id = "SGX";
  UnixTime issue_date = 0, next_update = 0;
  std::array<std::uint8_t, 6> fmspc{};
  std::array<std::uint8_t, 2> pceid{};
  std::uint32_t evaluation_number = 1;
  std::vector<TcbLevelSpec> levels;  // best first
};
struct QeLevelSpec {
  std::uint16_t isvsvn = 0;
  UnixTime tcb_date = 0;
  std::string status = "UpToDate";
  std::vector<std::string> advisories;
};
struct QeIdentitySpec {
  std::string id = "QE";
  UnixTime issue_date = 0, next_update = 0;
  std::uint32_t evaluation_number = 1;
  std::array<std::uint8_t, 4> miscselect{}, miscselect_mask{};
  std::array<std::uint8_t, 16> attributes{}, attributes_mask{};
  std::array<std::uint8_t, 32> mrsigner{};
  std::uint16_t isvprodid = 0;
  std::vector<QeLevelSpec> levels;
};
// {"tcbInfo":{…},"signature":"…"} and {"enclaveIdentity":{…},"signature":"…"}, version 3 and 2.
[[nodiscard]] std::string make_tcb_info(const TcbInfoSpec& spec, EVP_PKEY* signer);
[[nodiscard]] std::string make_qe_identity(const QeIdentitySpec& spec, EVP_PKEY* signer);
// {"name":body,"signature":"…"} for any body.
[[nodiscard]] std::string sign_document(std::string_view name, std::string_view body, EVP_PKEY* signer);

}  // namespace softsgx::quoting

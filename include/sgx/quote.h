// The ECDSA quote, version 3, as data (Intel "SGX ECDSA QuoteGenReference", appendix A.4), and the small structures
// of the quoting service's protocol. No behaviour. All integers are little-endian; ECDSA values are big-endian r, s
// and x, y as P-256 prints them.
#pragma once

#include "sgx/arch.h"

namespace sgx::quote {

inline constexpr std::uint16_t kVersion3 = 3;
inline constexpr std::uint16_t kKeyTypeEcdsaP256 = 2;
inline constexpr std::uint16_t kCertPckChain = 5;  // certification data: PEM chain, leaf first

inline constexpr std::size_t kSignatureSize = 64;  // r, s
inline constexpr std::size_t kPublicKeySize = 64;  // x, y

// Intel's vendor id, carried by every quote that Intel's QE (or a stand-in that speaks its format) makes.
inline constexpr std::uint8_t kIntelQeVendorId[16] = {0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9,
                                                      0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07};

// MRSIGNER and product id of Intel's production QE: clients name the attestation key by them.
inline constexpr std::uint8_t kIntelQeMrsigner[32] = {0x8c, 0x4f, 0x57, 0x75, 0xd7, 0x96, 0x50, 0x3e, 0x96, 0x13, 0x7f,
                                                      0x77, 0xc6, 0x8a, 0x82, 0x9a, 0x00, 0x56, 0xac, 0x8d, 0xed, 0x70,
                                                      0x14, 0x0b, 0x08, 0x1b, 0x09, 0x44, 0x90, 0xc5, 0x7b, 0xff};

struct [[gnu::packed]] Header {
  std::uint16_t version;
  std::uint16_t attestation_key_type;
  std::uint32_t reserved;
  std::uint16_t qe_svn;   // informative; the QE report's ISVSVN is what is verified
  std::uint16_t pce_svn;  // informative
  std::uint8_t qe_vendor_id[16];
  std::uint8_t user_data[20];
};
static_assert(sizeof(Header) == 48);

// What the quote's own signature covers; the 32-bit length of the signature data follows.
struct [[gnu::packed]] Signed {
  Header header;
  ReportBody body;
};
static_assert(sizeof(Signed) == 432);

// The fixed head of the signature data. Then: u16 length, QE authentication data; u16 type, u32 length,
// certification data.
struct [[gnu::packed]] SignatureHead {
  std::uint8_t signature[kSignatureSize];        // by the attestation key, over Signed
  std::uint8_t attestation_key[kPublicKeySize];  // its public half
  ReportBody qe_report;  // REPORTDATA = SHA-256(attestation key, QE authentication data), zeroes
  std::uint8_t qe_report_signature[kSignatureSize];  // by the PCK, over qe_report
};
static_assert(sizeof(SignatureHead) == 576);

// Names an attestation key in the quoting service's requests (Intel sgx_quote.h, sgx_ql_att_key_id_t).
struct [[gnu::packed]] AttestationKeyId {
  std::uint16_t id;
  std::uint16_t version;
  std::uint16_t mrsigner_length;
  std::uint8_t mrsigner[48];
  std::uint32_t product_id;
  std::uint8_t extended_product_id[16];
  std::uint8_t config_id[64];
  std::uint8_t family_id[16];
  std::uint32_t algorithm_id;
};
static_assert(sizeof(AttestationKeyId) == 158);
inline constexpr std::size_t kAttestationKeyIdWire = 256;  // on the wire it is padded with zeroes to this size

// Lets the caller check that the quote came from the QE (sgx_qe_report_info_t).
struct [[gnu::packed]] QeReportInfo {
  std::uint8_t nonce[16];
  std::uint8_t app_targetinfo[sizeof(Targetinfo)];
  std::uint8_t qe_report[sizeof(Report)];  // REPORTDATA = SHA-256(nonce, quote), zeroes; MACed for app_targetinfo
};
static_assert(sizeof(QeReportInfo) == 960);

// The object identifiers of a PCK certificate's extension (Intel "PCK Certificate and CRL profile", section 1.3.5).
inline constexpr char kOidSgxExtensions[] = "1.2.840.113741.1.13.1";
inline constexpr char kOidPpid[] = "1.2.840.113741.1.13.1.1";
inline constexpr char kOidTcb[] = "1.2.840.113741.1.13.1.2";  // .1 to .16 components, .17 PCESVN, .18 CPUSVN
inline constexpr char kOidPceid[] = "1.2.840.113741.1.13.1.3";
inline constexpr char kOidFmspc[] = "1.2.840.113741.1.13.1.4";
inline constexpr char kOidSgxType[] = "1.2.840.113741.1.13.1.5";
inline constexpr std::size_t kTcbComponents = 16;

}  // namespace sgx::quote

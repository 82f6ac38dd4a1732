// Collateral: what a verifier needs besides the quote, signed by the maker of the CPU. And decoders for its parts.
//
// Collateral is untrusted until attestation/verify.h has checked its signatures and dates, so any party may carry it;
// in RA-TLS the attested side sends its own.
#pragma once

#include "attestation/bytes.h"
#include "attestation/quote.h"
#include "attestation/result.h"
#include "attestation/tcb.h"

namespace sealift::attestation {

enum class CollateralError {
  // The container.
  kBadMagic,
  kUnsupportedContainer,
  kTooLarge,
  kTruncated,
  kTrailingBytes,
  // A signed JSON document.
  kBadEnvelope,        // not {"NAME": {…}, "signature": "128 hex digits"}
  kBadJson,            // the signed body is not a JSON object
  kMissingField,       // a field that must be there is not
  kBadField,           // a field has another type, size or range
  kBadDate,            // not YYYY-MM-DDThh:mm:ssZ
  kUnknownStatus,      // a TCB status that this version does not know
  kUnsupportedFormat,  // TCB info neither version 2 nor 3, QE identity not version 2, or another TCB type
  kNoLevels,           // an empty list of TCB levels
};

// The documents as Intel's provisioning certification service serves them. The issuer chain of the PCK's CRL is not
// among them: that CRL must be signed by the very CA that issued the quote's PCK certificate.
struct Collateral {
  std::string tcb_info;                  // {"tcbInfo":{…},"signature":"…"}
  std::string tcb_info_issuer_chain;     // PEM: TCB signing certificate, root
  std::string qe_identity;               // {"enclaveIdentity":{…},"signature":"…"}
  std::string qe_identity_issuer_chain;  // PEM
  Bytes pck_crl;                         // DER, PEM or hexadecimal DER
  Bytes root_ca_crl;
  friend bool operator==(const Collateral&, const Collateral&) = default;
};

inline constexpr std::size_t kMaxCollateralSize = 256 * 1024;

// Container (docs/attestation.md): u32 magic "SLCO", u32 version 1, then the six documents in the order above, each a
// u32 length and its bytes. Little-endian.
inline constexpr std::uint32_t kCollateralMagic = 0x4f434c53;
inline constexpr std::uint32_t kCollateralVersion = 1;
[[nodiscard]] Bytes serialize_collateral(const Collateral& collateral);
[[nodiscard]] Result<Collateral, CollateralError> parse_collateral(ByteSpan bytes);

// A document with the bytes that its signature covers.
template <class T>
struct SignedDocument {
  T value;
  std::string body;  // exactly as served
  Signature signature{};
};

// Take the served text. TCB info in version 2 or 3, QE identity in version 2.
[[nodiscard]] Result<SignedDocument<TcbInfo>, CollateralError> parse_tcb_info(std::string_view served);
[[nodiscard]] Result<SignedDocument<QeIdentity>, CollateralError> parse_qe_identity(std::string_view served);

// Splits {"name": {…}, "signature": "…"} without touching the body; for the parsers above and their tests.
struct Envelope {
  std::string_view body;
  Signature signature{};
};
[[nodiscard]] std::optional<Envelope> split_envelope(std::string_view served, std::string_view name) noexcept;

}  // namespace sealift::attestation

// Reads and writes ECDSA quotes, version 3, with a PCK certificate chain as certification data (sgx/quote.h has the
// layout). The decoder is strict: every length is checked, nothing may follow, unknown variants are refused. It
// verifies no signature; attestation/verify.h does.
#pragma once

#include <array>

#include "attestation/bytes.h"
#include "attestation/result.h"
#include "sgx/quote.h"

namespace sealift::attestation {

using Signature = std::array<std::uint8_t, sgx::quote::kSignatureSize>;
using PublicKey = std::array<std::uint8_t, sgx::quote::kPublicKeySize>;

enum class QuoteError {
  kTruncatedHeader,         // shorter than header, report body and length
  kUnsupportedVersion,      // not 3
  kUnsupportedKeyType,      // not ECDSA P-256
  kReservedNotZero,         // header's reserved field (other TEEs use it)
  kTooLarge,                // longer than kMaxQuoteSize
  kTruncatedSignatureData,  // the signature data is shorter than its declared length
  kTrailingBytes,           // bytes after the declared signature data
  kShortSignatureData,      // declared length cannot hold the fixed part
  kTruncatedAuthData,       // QE authentication data runs over the end
  kTruncatedCertData,       // certification data runs over the end
  kUnsupportedCertData,     // not a PCK certificate chain
  kTrailingSignatureData,   // bytes after the certification data
};

// Real quotes have 4 to 5 KB.
inline constexpr std::size_t kMaxQuoteSize = 64 * 1024;

struct Quote {
  sgx::quote::Signed signed_part;  // header and report body: what `signature` covers
  Signature signature;
  PublicKey attestation_key;
  sgx::ReportBody qe_report;
  Signature qe_report_signature;
  Bytes qe_auth_data;
  Bytes cert_data;  // PEM; may end in NULs

  // The PEM text without trailing NULs. A view of cert_data.
  [[nodiscard]] std::string_view pck_chain() const noexcept;
};

[[nodiscard]] Result<Quote, QuoteError> parse_quote(ByteSpan bytes);

// The exact inverse. qe_auth_data must be shorter than 64 KiB.
[[nodiscard]] Bytes serialize_quote(const Quote& quote);

// The size of the quote that `bytes` begins with, without what follows (quoting services pad to the caller's buffer);
// nullopt if it does not begin with a whole quote.
[[nodiscard]] std::optional<std::size_t> quote_size(ByteSpan bytes) noexcept;

}  // namespace sealift::attestation

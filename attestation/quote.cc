#include "attestation/quote.h"

namespace sealift::attestation {
namespace {

// Checks the fixed head and takes the signature data; `reader` is left behind it.
std::optional<QuoteError> read_head(Reader& reader, Quote& quote, ByteSpan& signature_data) noexcept {
  std::uint32_t length = 0;
  if (!reader.read(quote.signed_part) || !reader.read(length)) return QuoteError::kTruncatedHeader;
  const sgx::quote::Header& header = quote.signed_part.header;
  if (header.version != sgx::quote::kVersion3) return QuoteError::kUnsupportedVersion;
  if (header.attestation_key_type != sgx::quote::kKeyTypeEcdsaP256) return QuoteError::kUnsupportedKeyType;
  if (header.reserved != 0) return QuoteError::kReservedNotZero;
  if (!reader.take(length, signature_data)) return QuoteError::kTruncatedSignatureData;
  return std::nullopt;
}

std::optional<QuoteError> read_signature_data(ByteSpan data, Quote& quote) {
  Reader reader(data);
  sgx::quote::SignatureHead head{};
  if (!reader.read(head)) return QuoteError::kShortSignatureData;
  std::memcpy(quote.signature.data(), head.signature, sizeof head.signature);
  std::memcpy(quote.attestation_key.data(), head.attestation_key, sizeof head.attestation_key);
  std::memcpy(&quote.qe_report, &head.qe_report, sizeof head.qe_report);
  std::memcpy(quote.qe_report_signature.data(), head.qe_report_signature, sizeof head.qe_report_signature);

  std::uint16_t auth_size = 0;
  ByteSpan auth;
  if (!reader.read(auth_size) || !reader.take(auth_size, auth)) return QuoteError::kTruncatedAuthData;
  quote.qe_auth_data.assign(auth.begin(), auth.end());

  std::uint16_t cert_type = 0;
  std::uint32_t cert_size = 0;
  ByteSpan cert;
  if (!reader.read(cert_type) || !reader.read(cert_size) || !reader.take(cert_size, cert)) {
    return QuoteError::kTruncatedCertData;
  }
  if (cert_type != sgx::quote::kCertPckChain) return QuoteError::kUnsupportedCertData;
  if (reader.left() != 0) return QuoteError::kTrailingSignatureData;
  quote.cert_data.assign(cert.begin(), cert.end());
  return std::nullopt;
}

}  // namespace

std::string_view Quote::pck_chain() const noexcept {
  std::string_view text = as_text(cert_data);
  while (text.ends_with('\0')) text.remove_suffix(1);
  return text;
}

Result<Quote, QuoteError> parse_quote(ByteSpan bytes) {
  if (bytes.size() > kMaxQuoteSize) return QuoteError::kTooLarge;
  Quote quote{};
  Reader reader(bytes);
  ByteSpan signature_data;
  if (const auto error = read_head(reader, quote, signature_data)) return *error;
  if (reader.left() != 0) return QuoteError::kTrailingBytes;
  if (const auto error = read_signature_data(signature_data, quote)) return *error;
  return quote;
}

Bytes serialize_quote(const Quote& quote) {
  sgx::quote::SignatureHead head{};
  std::memcpy(head.signature, quote.signature.data(), sizeof head.signature);
  std::memcpy(head.attestation_key, quote.attestation_key.data(), sizeof head.attestation_key);
  head.qe_report = quote.qe_report;
  std::memcpy(head.qe_report_signature, quote.qe_report_signature.data(), sizeof head.qe_report_signature);

  Bytes data;
  append_object(data, head);
  append_object(data, static_cast<std::uint16_t>(quote.qe_auth_data.size()));
  data.insert(data.end(), quote.qe_auth_data.begin(), quote.qe_auth_data.end());
  append_object(data, sgx::quote::kCertPckChain);
  append_object(data, static_cast<std::uint32_t>(quote.cert_data.size()));
  data.insert(data.end(), quote.cert_data.begin(), quote.cert_data.end());

  Bytes out;
  append_object(out, quote.signed_part);
  append_object(out, static_cast<std::uint32_t>(data.size()));
  out.insert(out.end(), data.begin(), data.end());
  return out;
}

std::optional<std::size_t> quote_size(ByteSpan bytes) noexcept {
  Reader reader(bytes);
  Quote quote{};
  ByteSpan signature_data;
  if (read_head(reader, quote, signature_data)) return std::nullopt;
  return bytes.size() - reader.left();
}

}  // namespace sealift::attestation

// Every error of the quote decoder, by name, and what it accepts.
#include "attestation/quote.h"

#include <gtest/gtest.h>

namespace sealift::attestation {
namespace {

constexpr std::size_t kLengthAt = sizeof(sgx::quote::Signed);
constexpr std::size_t kDataAt = kLengthAt + 4;
constexpr std::size_t kAuthSizeAt = kDataAt + sizeof(sgx::quote::SignatureHead);
constexpr std::string_view kPem = "-----BEGIN CERTIFICATE-----";

Quote sample() {
  Quote quote{};
  quote.signed_part.header.version = 3;
  quote.signed_part.header.attestation_key_type = 2;
  quote.signed_part.body.isvsvn = 7;
  quote.signature.fill(1);
  quote.attestation_key.fill(2);
  quote.qe_report.isvsvn = 8;
  quote.qe_report_signature.fill(3);
  quote.qe_auth_data = Bytes(32, 4);
  quote.cert_data.assign(kPem.begin(), kPem.end());
  return quote;
}

Bytes bytes() {
  return serialize_quote(sample());
}

template <class T>
void put(Bytes& out, std::size_t at, T value) {
  std::memcpy(out.data() + at, &value, sizeof value);
}

QuoteError error_of(const Bytes& quote) {
  const auto result = parse_quote(quote);
  EXPECT_FALSE(result.ok());
  return result.ok() ? QuoteError{-1} : result.error();
}

TEST(Quote, RoundTrip) {
  const auto parsed = parse_quote(bytes());
  ASSERT_TRUE(parsed.ok());
  const Quote& q = parsed.value();
  EXPECT_EQ(q.signed_part.body.isvsvn, 7);
  EXPECT_EQ(q.qe_report.isvsvn, 8);
  EXPECT_EQ(q.signature, sample().signature);
  EXPECT_EQ(q.attestation_key, sample().attestation_key);
  EXPECT_EQ(q.qe_report_signature, sample().qe_report_signature);
  EXPECT_EQ(q.qe_auth_data, sample().qe_auth_data);
  EXPECT_EQ(q.pck_chain(), kPem);
  EXPECT_EQ(serialize_quote(q), bytes());
}

TEST(Quote, EmptyAuthDataAndChainDecode) {
  Quote q = sample();
  q.qe_auth_data.clear();
  q.cert_data.clear();
  EXPECT_TRUE(parse_quote(serialize_quote(q)).ok());
}

TEST(Quote, ChainMayEndInNuls) {
  Quote q = sample();
  q.cert_data.resize(q.cert_data.size() + 2);
  const auto parsed = parse_quote(serialize_quote(q));
  ASSERT_TRUE(parsed.ok());
  EXPECT_EQ(parsed.value().pck_chain(), kPem);
  EXPECT_EQ(serialize_quote(parsed.value()), serialize_quote(q));
}

TEST(Quote, TruncatedHeader) {
  EXPECT_EQ(error_of({}), QuoteError::kTruncatedHeader);
  Bytes quote = bytes();
  quote.resize(kDataAt - 1);
  EXPECT_EQ(error_of(quote), QuoteError::kTruncatedHeader);
}

TEST(Quote, UnsupportedVersion) {
  Bytes quote = bytes();
  put<std::uint16_t>(quote, 0, 4);
  EXPECT_EQ(error_of(quote), QuoteError::kUnsupportedVersion);
}

TEST(Quote, UnsupportedKeyType) {
  Bytes quote = bytes();
  put<std::uint16_t>(quote, 2, 3);
  EXPECT_EQ(error_of(quote), QuoteError::kUnsupportedKeyType);
}

TEST(Quote, ReservedNotZero) {
  Bytes quote = bytes();
  put<std::uint32_t>(quote, 4, 0x81);  // where version 4 says TDX
  EXPECT_EQ(error_of(quote), QuoteError::kReservedNotZero);
}

TEST(Quote, TooLarge) {
  EXPECT_EQ(error_of(Bytes(kMaxQuoteSize + 1)), QuoteError::kTooLarge);
}

TEST(Quote, TruncatedAtEveryLength) {
  const Bytes whole = bytes();
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const Bytes part(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
    EXPECT_EQ(error_of(part), size < kDataAt ? QuoteError::kTruncatedHeader : QuoteError::kTruncatedSignatureData);
  }
}

TEST(Quote, SignatureDataLongerThanAnything) {
  Bytes quote = bytes();
  put<std::uint32_t>(quote, kLengthAt, 0xffffffff);
  EXPECT_EQ(error_of(quote), QuoteError::kTruncatedSignatureData);
}

TEST(Quote, TrailingBytes) {
  Bytes quote = bytes();
  quote.push_back(0);
  EXPECT_EQ(error_of(quote), QuoteError::kTrailingBytes);
}

TEST(Quote, ShortSignatureData) {
  Bytes quote = bytes();
  quote.resize(kAuthSizeAt - 1);
  put<std::uint32_t>(quote, kLengthAt, static_cast<std::uint32_t>(quote.size() - kDataAt));
  EXPECT_EQ(error_of(quote), QuoteError::kShortSignatureData);
}

TEST(Quote, TruncatedAuthData) {
  Bytes quote = bytes();
  put<std::uint16_t>(quote, kAuthSizeAt, 0xffff);
  EXPECT_EQ(error_of(quote), QuoteError::kTruncatedAuthData);
  quote = bytes();
  quote.resize(kAuthSizeAt + 1);  // half of the length itself
  put<std::uint32_t>(quote, kLengthAt, static_cast<std::uint32_t>(quote.size() - kDataAt));
  EXPECT_EQ(error_of(quote), QuoteError::kTruncatedAuthData);
}

TEST(Quote, TruncatedCertData) {
  const std::size_t cert_at = kAuthSizeAt + 2 + sample().qe_auth_data.size();
  Bytes quote = bytes();
  put<std::uint32_t>(quote, cert_at + 2, static_cast<std::uint32_t>(kPem.size() + 1));
  EXPECT_EQ(error_of(quote), QuoteError::kTruncatedCertData);
  quote = bytes();
  quote.resize(cert_at + 3);
  put<std::uint32_t>(quote, kLengthAt, static_cast<std::uint32_t>(quote.size() - kDataAt));
  EXPECT_EQ(error_of(quote), QuoteError::kTruncatedCertData);
}

TEST(Quote, UnsupportedCertData) {
  Bytes quote = bytes();
  put<std::uint16_t>(quote, kAuthSizeAt + 2 + sample().qe_auth_data.size(), 3);  // an encrypted PPID
  EXPECT_EQ(error_of(quote), QuoteError::kUnsupportedCertData);
}

TEST(Quote, TrailingSignatureData) {
  Bytes quote = bytes();
  quote.push_back(0);
  put<std::uint32_t>(quote, kLengthAt, static_cast<std::uint32_t>(quote.size() - kDataAt));
  EXPECT_EQ(error_of(quote), QuoteError::kTrailingSignatureData);
}

TEST(Quote, SizeOfAPaddedQuote) {
  Bytes padded = bytes();
  padded.resize(8192);
  EXPECT_EQ(quote_size(padded), bytes().size());
  EXPECT_EQ(quote_size(bytes()), bytes().size());
  EXPECT_EQ(quote_size({}), std::nullopt);
  padded.resize(bytes().size() - 1);
  EXPECT_EQ(quote_size(padded), std::nullopt);
}

}  // namespace
}  // namespace sealift::attestation

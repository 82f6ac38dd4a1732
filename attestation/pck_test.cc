// Every error of the decoder of a PCK certificate's SGX extension.
#include "attestation/pck.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "softsgx/quoting/pki.h"

namespace sealift::attestation {
namespace {

softsgx::quoting::PlatformTcb platform() {
  softsgx::quoting::PlatformTcb p;
  p.ppid.fill(1);
  p.cpusvn.fill(2);
  for (std::size_t i = 0; i < p.components.size(); ++i) p.components[i] = static_cast<std::uint8_t>(i * 17);
  p.pcesvn = 0x8001;
  p.pceid = {0, 3};
  p.fmspc = {9, 8, 7, 6, 5, 4};
  return p;
}

Bytes good() {
  return softsgx::quoting::sgx_extension(platform());
}

PckError error_of(const Bytes& der) {
  const auto result = parse_pck_extension(ByteSpan(der));
  EXPECT_FALSE(result.ok());
  return result.ok() ? PckError{-1} : result.error();
}

// The field whose identifier ends in `suffix` (after Intel's common prefix), as found in the DER.
std::size_t find_oid(const Bytes& der, std::initializer_list<std::uint8_t> suffix) {
  Bytes oid = {0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 0x01, 0x0d, 0x01};
  oid.insert(oid.end(), suffix);
  oid.insert(oid.begin(), static_cast<std::uint8_t>(oid.size()));
  oid.insert(oid.begin(), 0x06);
  const auto at = std::ranges::search(der, oid);
  EXPECT_FALSE(at.empty());
  return static_cast<std::size_t>(at.begin() - der.begin());
}

// The value's tag, which follows the identifier.
std::size_t value_of(const Bytes& der, std::initializer_list<std::uint8_t> suffix) {
  return find_oid(der, suffix) + 2 + 9 + suffix.size();
}

TEST(PckExtension, Good) {
  const Bytes der = good();
  const auto result = parse_pck_extension(ByteSpan(der));
  ASSERT_TRUE(result.ok());
  const PckExtension& e = result.value();
  EXPECT_EQ(e.ppid, platform().ppid);
  EXPECT_EQ(e.cpusvn, platform().cpusvn);
  EXPECT_EQ(e.components, platform().components);
  EXPECT_EQ(e.pcesvn, 0x8001);
  EXPECT_EQ(e.pceid, platform().pceid);
  EXPECT_EQ(e.fmspc, platform().fmspc);
}

TEST(PckExtension, Malformed) {
  EXPECT_EQ(error_of({}), PckError::kMalformed);
  EXPECT_EQ(error_of({0x04, 0x00}), PckError::kMalformed);              // no SEQUENCE
  EXPECT_EQ(error_of({0x30, 0x02, 0x05, 0x00}), PckError::kMalformed);  // of no pairs
  EXPECT_EQ(error_of({0x30, 0x04, 0x30, 0x02, 0x05, 0x00}), PckError::kMalformed);
  EXPECT_EQ(error_of({0x30, 0x06, 0x30, 0x04, 0x05, 0x00, 0x05, 0x00}), PckError::kMalformed);
  Bytes trailing = good();
  trailing.push_back(0);
  EXPECT_EQ(error_of(trailing), PckError::kMalformed);
}

TEST(PckExtension, TruncatedAtEveryLength) {
  const Bytes whole = good();
  for (std::size_t size = 0; size < whole.size(); ++size) {
    EXPECT_EQ(error_of(Bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size))), PckError::kMalformed);
  }
}

TEST(PckExtension, EveryMissingField) {
  for (std::uint8_t field = 1; field <= 4; ++field) {
    Bytes der = good();
    der[find_oid(der, {field}) + 2 + 9] = 0x63;  // an identifier that nobody knows
    EXPECT_EQ(error_of(der), PckError::kMissingField) << int{field};
  }
  for (std::uint8_t part = 1; part <= 18; ++part) {
    Bytes der = good();
    der[find_oid(der, {2, part}) + 2 + 10] = 0x63;
    EXPECT_EQ(error_of(der), PckError::kMissingField) << int{part};
  }
  EXPECT_EQ(error_of({0x30, 0x00}), PckError::kMissingField);
}

TEST(PckExtension, Duplicates) {
  Bytes der = good();
  der[find_oid(der, {2, 2}) + 2 + 10] = 1;
  EXPECT_EQ(error_of(der), PckError::kDuplicateField);
  der = good();
  der[find_oid(der, {3}) + 2 + 9] = 1;  // PCE-ID named PPID
  EXPECT_EQ(error_of(der), PckError::kDuplicateField);
}

TEST(PckExtension, FieldsOfAnotherType) {
  for (std::uint8_t field = 1; field <= 4; ++field) {
    Bytes der = good();
    der[value_of(der, {field})] = 0x0c;  // UTF8String
    EXPECT_EQ(error_of(der), PckError::kBadField) << int{field};
  }
  for (std::uint8_t part = 1; part <= 18; ++part) {
    Bytes der = good();
    der[value_of(der, {2, part})] = 0x0c;
    EXPECT_EQ(error_of(der), PckError::kBadField) << int{part};
  }
}

TEST(PckExtension, NegativeComponent) {
  Bytes der = good();
  der[value_of(der, {2, 2}) + 2] = 0x91;
  EXPECT_EQ(error_of(der), PckError::kBadField);
}

TEST(PckExtension, WrongSizes) {
  Bytes der = good();
  // PCE-ID's two bytes, named FMSPC; and FMSPC's six, named PCE-ID.
  std::swap(der[find_oid(der, {3}) + 11], der[find_oid(der, {4}) + 11]);
  EXPECT_EQ(error_of(der), PckError::kBadField);
  der = good();
  // The PCESVN, of 16 bits, named as a component.
  std::swap(der[find_oid(der, {2, 16}) + 12], der[find_oid(der, {2, 17}) + 12]);
  EXPECT_EQ(error_of(der), PckError::kBadField);
}

}  // namespace
}  // namespace sealift::attestation

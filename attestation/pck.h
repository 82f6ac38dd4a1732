// The SGX extension of a PCK certificate (Intel "PCK Certificate and CRL profile", section 1.3.5): which platform the
// certificate is for, and at which TCB.
#pragma once

#include "attestation/openssl_ptr.h"
#include "attestation/result.h"
#include "attestation/tcb.h"

namespace sealift::attestation {

enum class PckError {
  kNoExtension,     // the certificate has no SGX extension, or more than one
  kMalformed,       // not the DER structure that the profile describes
  kDuplicateField,  // an object identifier occurs twice
  kMissingField,    // PPID, TCB, PCE-ID, FMSPC or one of the TCB's 18 parts is missing
  kBadField,        // a field has another type, size or range
};

struct PckExtension {
  std::array<std::uint8_t, 16> ppid{};
  TcbComponents components{};
  std::uint16_t pcesvn = 0;
  std::array<std::uint8_t, 16> cpusvn{};
  std::array<std::uint8_t, 2> pceid{};
  std::array<std::uint8_t, 6> fmspc{};
};

[[nodiscard]] Result<PckExtension, PckError> parse_pck_extension(const X509* certificate);

// The extension's value alone (what the certificate holds in the extension's OCTET STRING).
[[nodiscard]] Result<PckExtension, PckError> parse_pck_extension(ByteSpan der);

}  // namespace sealift::attestation

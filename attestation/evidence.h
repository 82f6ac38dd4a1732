// Evidence: what an attested side shows of itself, a quote and the collateral to verify it with.
#pragma once

#include "attestation/bytes.h"
#include "attestation/result.h"

namespace sealift::attestation {

enum class EvidenceError { kBadMagic, kUnsupportedVersion, kTooLarge, kTruncated, kTrailingBytes };

struct Evidence {
  Bytes quote;
  Bytes collateral;  // serialize_collateral()'s container; may be empty if the verifier has its own
};

inline constexpr std::size_t kMaxEvidenceSize = 384 * 1024;

// u32 magic "SLEV", u32 version 1, u32 length and quote, u32 length and collateral. Little-endian.
inline constexpr std::uint32_t kEvidenceMagic = 0x56454c53;
inline constexpr std::uint32_t kEvidenceVersion = 1;
[[nodiscard]] Bytes serialize_evidence(const Evidence& evidence);
[[nodiscard]] Result<Evidence, EvidenceError> parse_evidence(ByteSpan bytes);

}  // namespace sealift::attestation

#include "attestation/evidence.h"

namespace sealift::attestation {

Bytes serialize_evidence(const Evidence& evidence) {
  Bytes out;
  append_object(out, kEvidenceMagic);
  append_object(out, kEvidenceVersion);
  for (const Bytes* part : {&evidence.quote, &evidence.collateral}) {
    append_object(out, static_cast<std::uint32_t>(part->size()));
    out.insert(out.end(), part->begin(), part->end());
  }
  return out;
}

Result<Evidence, EvidenceError> parse_evidence(ByteSpan bytes) {
  if (bytes.size() > kMaxEvidenceSize) return EvidenceError::kTooLarge;
  Reader reader(bytes);
  std::uint32_t magic = 0, version = 0;
  if (!reader.read(magic) || magic != kEvidenceMagic) return EvidenceError::kBadMagic;
  if (!reader.read(version)) return EvidenceError::kTruncated;
  if (version != kEvidenceVersion) return EvidenceError::kUnsupportedVersion;
  Evidence evidence;
  for (Bytes* part : {&evidence.quote, &evidence.collateral}) {
    std::uint32_t size = 0;
    ByteSpan content;
    if (!reader.read(size) || !reader.take(size, content)) return EvidenceError::kTruncated;
    part->assign(content.begin(), content.end());
  }
  if (reader.left() != 0) return EvidenceError::kTrailingBytes;
  return evidence;
}

}  // namespace sealift::attestation

// The root of software machines (softsgx). Its private key is public: whoever believes it believes anybody.
//
// Includable only where SEALIFT_DEVELOPMENT_ANCHOR is defined, so that no production target gets it by accident. Every
// verdict under it says so (Verdict::development_root), and a policy that wants hardware refuses it.
#pragma once

#ifndef SEALIFT_DEVELOPMENT_ANCHOR
#error "the development root proves nothing; a target that may believe it must define SEALIFT_DEVELOPMENT_ANCHOR"
#endif

#include "attestation/trust_anchors.h"

namespace sealift::attestation {

inline constexpr PublicKey kSoftsgxDevelopmentRoot = {
    0xcf, 0xad, 0xd7, 0xed, 0xdf, 0xce, 0xa5, 0xf1, 0xeb, 0xa3, 0x56, 0x7b, 0xe0, 0x47, 0x05, 0x5d,
    0x24, 0x5a, 0xb7, 0xca, 0x51, 0x9f, 0x65, 0x6d, 0x1f, 0x53, 0xa0, 0x47, 0x8f, 0xdd, 0x32, 0xf6,
    0x55, 0xcd, 0xaf, 0xd5, 0xbe, 0xbe, 0x32, 0x4e, 0xfd, 0x6a, 0x6a, 0xb7, 0xbb, 0xf5, 0xb7, 0xd9,
    0x7e, 0x4a, 0x7b, 0xf7, 0x3e, 0x86, 0x43, 0x0b, 0xf5, 0x42, 0xc4, 0xcf, 0xcf, 0x3e, 0x3a, 0x62,
};

// Intel's root and the development root, each marked.
[[nodiscard]] inline TrustAnchors development_anchors() {
  TrustAnchors anchors = production_anchors();
  anchors.roots.push_back({.key = kSoftsgxDevelopmentRoot, .development = true});
  return anchors;
}

}  // namespace sealift::attestation

// The root keys that a verifier believes. They are compiled in, so in an enclave they are part of its identity.
#pragma once

#include <vector>

#include "attestation/quote.h"

namespace sealift::attestation {

// A public key, not a certificate: the same root key has been issued in several certificates.
struct TrustAnchor {
  PublicKey key{};
  bool development = false;  // a verdict under this root proves nothing about hardware, and says so
};

struct TrustAnchors {
  std::vector<TrustAnchor> roots;
};

// Intel SGX Root CA. Nothing else.
[[nodiscard]] TrustAnchors production_anchors();

}  // namespace sealift::attestation

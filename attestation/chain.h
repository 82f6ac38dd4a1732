// X.509 chains of attestation: from a leaf to a pinned root key, with revocation lists, at a given time.
#pragma once

#include <vector>

#include "attestation/crypto.h"
#include "attestation/trust_anchors.h"

namespace sealift::attestation {

enum class ChainError {
  kMalformedPem,    // not a sequence of PEM certificates
  kWrongLength,     // not as many certificates as this kind of chain has
  kUntrustedRoot,   // no self-issued certificate of a pinned key
  kBrokenChain,     // a signature, an issuer or a CA's rights are wrong
  kWrongRole,       // a valid chain, but of another kind of certificate
  kNotYetValid,     // a certificate
  kExpired,         // a certificate
  kRevoked,         // a certificate
  kMalformedCrl,    // neither DER, PEM nor hexadecimal DER
  kNoCrl,           // an issuer of the chain has no revocation list here
  kBadCrl,          // its signature is wrong
  kCrlNotYetValid,  // a revocation list
  kCrlExpired,      // a revocation list
};

// What the certificates of a chain are for. A key of one role must not be believed in another: a PCK, for example,
// chains to the same root as the key that signs TCB info.
enum class ChainRole {
  kPck,        // leaf "… SGX PCK Certificate", CA "… SGX PCK Platform CA" or "… SGX PCK Processor CA", root
  kTcbSigner,  // leaf "… SGX TCB Signing", issued by the root itself
};

using Chain = std::vector<CertPtr>;  // as in the PEM text; the first is the leaf

// Text outside of the PEM blocks is ignored, as tools write comments there.
[[nodiscard]] Result<Chain, ChainError> parse_chain(std::string_view pem);

// DER, PEM or hexadecimal DER.
[[nodiscard]] Result<CrlPtr, ChainError> parse_crl(ByteSpan bytes);

struct CheckedChain {
  UnixTime expiry;  // when the first certificate or revocation list that was used ends
  TrustAnchor root;
};

// Checks the chain (certificates after the leaf may come in any order) at `now`, and every certificate of it against
// `crls`.
[[nodiscard]] Result<CheckedChain, ChainError> check_chain(const Chain& chain, ChainRole role,
                                                           const std::vector<X509_CRL*>& crls,
                                                           const TrustAnchors& anchors, UnixTime now);

}  // namespace sealift::attestation

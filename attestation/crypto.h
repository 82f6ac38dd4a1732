// SHA-256 and ECDSA P-256 as quotes and collateral use them, over OpenSSL's libcrypto.
#pragma once

#include <array>

#include "attestation/openssl_ptr.h"
#include "attestation/quote.h"

namespace sealift::attestation {

using Digest = std::array<std::uint8_t, 32>;

// Keeps OpenSSL from reading a configuration file. An enclave calls this before anything else of this library: the file
// would be the host's, and may name other algorithms, providers and code to load. The environment (OPENSSL_CONF,
// OPENSSL_ia32cap) is for the enclave's start-up to leave empty.
void isolate_crypto();

// Throws std::bad_alloc if libcrypto cannot allocate, like all of this library.
[[nodiscard]] Digest sha256(ByteSpan first, ByteSpan second = {});

// A public key from its coordinates; null if the point is not on P-256.
[[nodiscard]] KeyPtr p256_key(const PublicKey& xy);

// The coordinates of a P-256 key; nullopt for any other kind of key.
[[nodiscard]] std::optional<PublicKey> p256_point(const EVP_PKEY* key);

// Whether `signature` (r, s) is a valid ECDSA P-256 signature over SHA-256 of `message`.
[[nodiscard]] bool p256_verify(EVP_PKEY* key, ByteSpan message, const Signature& signature);

}  // namespace sealift::attestation

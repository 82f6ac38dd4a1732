// The agent's cryptography: compositions of libsodium and OpenSSL calls, in the terms of migration/messages.h.
// No state, any thread. Failures of the libraries themselves (out of memory) end the enclave: there is nothing to save.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string_view>
#include <vector>

#include "migration/record.h"
#include "migration/secret.h"

namespace sealift::agent {

using ByteView = std::span<const std::uint8_t>;
using Digest = std::array<std::uint8_t, 32>;
using Key = Secret<32>;

[[nodiscard]] Digest sha256(std::initializer_list<ByteView> pieces);
[[nodiscard]] Digest hmac_sha256(const Key& key, ByteView data);
// Constant time.
[[nodiscard]] bool equal(ByteView a, ByteView b) noexcept;

// RFC 5869 with one block of output; the label goes in without its terminating zero.
[[nodiscard]] Key hkdf_extract(const Digest& salt, const Key& ikm);
[[nodiscard]] Key hkdf_expand(const Key& prk, std::string_view label);

[[nodiscard]] std::array<std::uint8_t, 32> x25519_public(const Key& secret);
// False: the peer's key is of small order, so anybody knows the result.
[[nodiscard]] bool x25519(const Key& secret, const std::uint8_t (&peer)[32], Key& shared);

// AES-256-GCM; nonce = 4 zero bytes and `sequence`, little-endian. `out` has room for in.size().
void gcm_seal(const Key& key, std::uint64_t sequence, ByteView aad, ByteView in, std::uint8_t* out, std::uint8_t* tag);
// False: the tag did not verify, and `out` is wiped.
[[nodiscard]] bool gcm_open(const Key& key, std::uint64_t sequence, ByteView aad, ByteView in, std::uint8_t* out,
                            const std::uint8_t* tag);

// The bytes of a message's structure. A view: not of a temporary, which would be gone.
template <typename T>
[[nodiscard]] ByteView bytes_of(const T& object) noexcept {
  static_assert(std::is_trivially_copyable_v<T>);
  return {reinterpret_cast<const std::uint8_t*>(&object), sizeof(T)};
}
template <typename T>
ByteView bytes_of(const T&& object) = delete;

}  // namespace sealift::agent

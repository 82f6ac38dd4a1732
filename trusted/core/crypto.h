// Core's cryptography: names for compositions of library primitives. intel-ipsec-mb gives AES-GCM and AES, libsodium
// X25519, SHA-256 and HMAC. Nothing allocates. All state lives in the core area or on the caller's (core) stack.
//
// Only the control thread calls these: they use vector registers and a stack deeper than stage 1's.
#pragma once

#include <cstddef>
#include <cstdint>

#include "migration/errc.h"

namespace sealift::core {

inline constexpr std::size_t kKeyBytes = 32;
inline constexpr std::size_t kTagBytes = 16;

// Expanded AES-256-GCM key (intel-ipsec-mb's gcm_key_data), opaque here.
struct alignas(64) GcmKey {
  std::uint8_t bytes[1408];
};

// Chooses the implementation by the measured CPU baseline, never by the host's CPUID. Once, before any other call.
void crypto_init() noexcept;

void gcm_expand(GcmKey& key, const std::uint8_t (&raw)[kKeyBytes]) noexcept;
// AES-256-GCM in pieces of any length, so that a record can pass through a scratch that stays in the L1 cache. One
// object a record. Nonce = 4 zero bytes and `sequence`, little-endian (docs/format.md).
class GcmPieces {
 public:
  GcmPieces(const GcmKey& key, std::uint64_t sequence, const void* aad, std::size_t aad_len) noexcept;
  GcmPieces(const GcmPieces&) = delete;
  GcmPieces& operator=(const GcmPieces&) = delete;

 protected:
  ~GcmPieces();
  const GcmKey& key_;
  alignas(64) std::uint8_t context_[128];
};

class GcmSeal : public GcmPieces {
 public:
  using GcmPieces::GcmPieces;
  void update(const void* in, std::size_t len, void* out) noexcept;
  void finish(std::uint8_t (&tag)[kTagBytes]) noexcept;
};

// What update() writes must not be used before finish() has said true: the tag verified.
class GcmOpen : public GcmPieces {
 public:
  using GcmPieces::GcmPieces;
  void update(const void* in, std::size_t len, void* out) noexcept;
  [[nodiscard]] bool finish(const std::uint8_t (&tag)[kTagBytes]) noexcept;
};

// In one piece. `out` may equal `in`.
void gcm_seal(const GcmKey& key, std::uint64_t sequence, const void* aad, std::size_t aad_len, const void* in,
              std::size_t len, void* out, std::uint8_t (&tag)[kTagBytes]) noexcept;
[[nodiscard]] bool gcm_open(const GcmKey& key, std::uint64_t sequence, const void* aad, std::size_t aad_len,
                            const void* in, std::size_t len, void* out, const std::uint8_t (&tag)[kTagBytes]) noexcept;

// copy() for pieces of a few KiB that are sealed, between the L1 cache and memory outside, without the time that `rep
// movsb` takes to start, where the enclave may use AVX-512.
void copy_sealed(void* to, const void* from, std::size_t len) noexcept;

// AES-128-CMAC (NIST SP 800-38B), as EREPORT computes it.
void cmac(const std::uint8_t (&key)[16], const void* data, std::size_t len, std::uint8_t (&mac)[16]) noexcept;

// SHA-256 over pieces.
class Sha256 {
 public:
  Sha256() noexcept;
  void add(const void* data, std::size_t len) noexcept;
  template <typename T>
  void add(const T& object) noexcept {
    add(&object, sizeof object);
  }
  void finish(std::uint8_t (&digest)[32]) noexcept;

 private:
  alignas(8) std::uint8_t state_[104];
};

void hmac_sha256(const std::uint8_t (&key)[32], const void* data, std::size_t len, std::uint8_t (&mac)[32]) noexcept;
// HKDF-SHA-256 (RFC 5869) with a 32-byte salt and one 32-byte output block.
void hkdf_extract(const std::uint8_t (&salt)[32], const std::uint8_t (&ikm)[32], std::uint8_t (&prk)[32]) noexcept;
void hkdf_expand(const std::uint8_t (&prk)[32], const char* label, std::uint8_t (&okm)[32]) noexcept;

void x25519_public(const std::uint8_t (&secret)[32], std::uint8_t (&pub)[32]) noexcept;
// False: the peer's key is of small order.
[[nodiscard]] bool x25519(const std::uint8_t (&secret)[32], const std::uint8_t (&peer)[32],
                          std::uint8_t (&shared)[32]) noexcept;

// From RDRAND, which the host cannot influence. False: the CPU gave none after many tries.
[[nodiscard]] bool random_bytes(void* to, std::size_t n) noexcept;

}  // namespace sealift::core

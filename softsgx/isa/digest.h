// SHA-256 of a few bytes, and random ones.
#pragma once

#include <nettle/sha2.h>
#include <sys/random.h>

#include <array>
#include <cstddef>
#include <cstdint>

namespace softsgx {

using Digest = std::array<std::uint8_t, SHA256_DIGEST_SIZE>;

inline Digest sha256(const void* data, std::size_t size) noexcept {
  sha256_ctx ctx;
  sha256_init(&ctx);
  sha256_update(&ctx, size, static_cast<const std::uint8_t*>(data));
  Digest out;
  sha256_digest(&ctx, out.size(), out.data());
  return out;
}

// The kernel's. False if it has none to give, which Linux only does before it has started up.
template <typename T>
[[nodiscard]] bool draw_random(T& out) noexcept {
  static_assert(sizeof(T) <= 256, "getrandom(2) gives as much without interruption");
  return getrandom(&out, sizeof(T), 0) == static_cast<ssize_t>(sizeof(T));
}

}  // namespace softsgx

#include "softsgx/isa/measurement.h"

#include <openssl/sha.h>

#include <algorithm>
#include <cstdint>
#include <iterator>

// The state has to be stored between leaves, in the SECS, where another process may continue it. OpenSSL's EVP
// interface cannot export a running hash; SHA256_CTX can, and uses the same optimised code.
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

namespace softsgx::measurement {
namespace {

constexpr std::uint64_t kBlock = 64;

SHA256_CTX load(const SecsState& state) noexcept {
  SHA256_CTX ctx;
  SHA256_Init(&ctx);
  std::copy(std::begin(state.sha256_h), std::end(state.sha256_h), std::begin(ctx.h));
  const std::uint64_t bits = state.measured_blocks * kBlock * 8;
  ctx.Nl = static_cast<SHA_LONG>(bits);
  ctx.Nh = static_cast<SHA_LONG>(bits >> 32);
  return ctx;
}

void store(SecsState& state, const SHA256_CTX& ctx) noexcept {
  std::copy(std::begin(ctx.h), std::end(ctx.h), std::begin(state.sha256_h));
}

}  // namespace

void begin(SecsState& state) noexcept {
  SHA256_CTX ctx;
  SHA256_Init(&ctx);
  store(state, ctx);
  state.measured_blocks = 0;
}

void add(SecsState& state, std::span<const std::byte> blocks) noexcept {
  SHA256_CTX ctx = load(state);
  SHA256_Update(&ctx, blocks.data(), blocks.size());
  store(state, ctx);
  state.measured_blocks += blocks.size() / kBlock;
}

sgx::Measurement digest(const SecsState& state) noexcept {
  SHA256_CTX ctx = load(state);
  sgx::Measurement out;
  SHA256_Final(out.bytes, &ctx);
  return out;
}

}  // namespace softsgx::measurement

#include "softsgx/isa/measurement.h"

#include <nettle/sha2.h>

#include <algorithm>
#include <cstdint>
#include <iterator>

// The state is stored between leaves, in the SECS, where another process may continue it.

namespace softsgx::measurement {
namespace {

sha256_ctx load(const SecsState& state) noexcept {
  sha256_ctx ctx;
  sha256_init(&ctx);
  std::copy(std::begin(state.sha256_h), std::end(state.sha256_h), std::begin(ctx.state));
  ctx.count = state.measured_blocks;
  return ctx;
}

void store(SecsState& state, const sha256_ctx& ctx) noexcept {
  std::copy(std::begin(ctx.state), std::end(ctx.state), std::begin(state.sha256_h));
  state.measured_blocks = ctx.count;
}

}  // namespace

void begin(SecsState& state) noexcept {
  sha256_ctx ctx;
  sha256_init(&ctx);
  store(state, ctx);
}

void add(SecsState& state, std::span<const std::byte> blocks) noexcept {
  sha256_ctx ctx = load(state);
  sha256_update(&ctx, blocks.size(), reinterpret_cast<const std::uint8_t*>(blocks.data()));
  store(state, ctx);
}

sgx::Measurement digest(const SecsState& state) noexcept {
  sha256_ctx ctx = load(state);
  sgx::Measurement out;
  sha256_digest(&ctx, sizeof(out.bytes), out.bytes);
  return out;
}

}  // namespace softsgx::measurement

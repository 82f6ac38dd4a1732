// MRENCLAVE's running SHA-256, kept with the SECS. Private to softsgx/isa.
#pragma once

#include <cstddef>
#include <span>

#include "sgx/arch.h"
#include "softsgx/isa/machine.h"

namespace softsgx::measurement {

void begin(SecsState& state) noexcept;
// Adds whole 64-byte blocks.
void add(SecsState& state, std::span<const std::byte> blocks) noexcept;
// The digest of what was added; the state stays as it is.
[[nodiscard]] sgx::Measurement digest(const SecsState& state) noexcept;

}  // namespace softsgx::measurement

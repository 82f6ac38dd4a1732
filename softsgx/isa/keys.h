// Key derivation (SDM 3D, section 38.17 and EGETKEY's pseudo-code): AES-CMAC over KEYDEPENDENCIES, under a key that
// belongs to the package.
//
// The SDM leaves the layout of KEYDEPENDENCIES and the package's derivation key to the implementation; only equality
// and difference of keys are architectural. Keys therefore never leave the machine file they were made for.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "sgx/arch.h"
#include "softsgx/isa/machine.h"

namespace softsgx::keys {

using Key = std::array<std::uint8_t, 16>;

// AES-128-CMAC. Async-signal-safe.
[[nodiscard]] Key cmac(const Key& key, std::span<const std::byte> message) noexcept;

// The key with which EREPORT authenticates a report for `target`, and which the target gets from EGETKEY.
[[nodiscard]] Key report_key(const Machine& m, const sgx::Targetinfo& target) noexcept;

// Who asks for a key: the fields of its SECS that derivation reads.
struct Identity {
  const sgx::Secs* secs;
  const SecsState* state;
};

// EGETKEY after its operand checks: the code for RAX, and the key if it is kSuccess.
[[nodiscard]] sgx::Error get_key(const Machine& m, const Identity& who, const sgx::Keyrequest& request,
                                 Key& key) noexcept;

}  // namespace softsgx::keys

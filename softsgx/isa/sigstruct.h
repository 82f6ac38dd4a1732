// SIGSTRUCT's signature. Private to softsgx/isa.
#pragma once

#include "sgx/arch.h"

namespace softsgx {

// The header fields that EINIT requires (SDM 3D, table "Layout of Enclave Signature Structure").
[[nodiscard]] bool sigstruct_well_formed(const sgx::Sigstruct& s) noexcept;

// RSA-3072, exponent 3, PKCS#1 v1.5 with SHA-256 over the signed parts; q1 and q2 as EINIT's microcode needs them.
[[nodiscard]] bool sigstruct_signature_valid(const sgx::Sigstruct& s) noexcept;

// SHA-256 of the modulus, little-endian as stored.
[[nodiscard]] sgx::Measurement sigstruct_mrsigner(const sgx::Sigstruct& s) noexcept;

}  // namespace softsgx

// Local attestation inside: is this REPORT aimed at us, and made on this machine?
#pragma once

#include "sgx/arch.h"

namespace sealift::core {

// Recomputes the MAC under this enclave's report key (SDM 3D, section 35.15.2).
[[nodiscard]] bool verify_report(const sgx::Report& report) noexcept;

}  // namespace sealift::core

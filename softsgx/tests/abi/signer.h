// SIGSTRUCT, by OpenSSL: RSA-3072 with exponent 3 over SHA-256, and the two quotients that EINIT needs.
#pragma once

#include "sgx/arch.h"

namespace third_party {

struct SignRequest {
  sgx::Measurement enclavehash{};
  sgx::Attributes attributes{};
  std::uint32_t miscselect = 0;
  std::uint16_t isvprodid = 7, isvsvn = 3;
};

// Signed with the key in the PEM file $ABI_KEY, or with one made at first use (which takes many seconds under TCG).
[[nodiscard]] sgx::Sigstruct sign_sigstruct(const SignRequest& request);

}  // namespace third_party

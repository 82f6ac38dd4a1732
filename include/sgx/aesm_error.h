// Error numbers of the quoting service's protocol (Intel aesm_error.h); the ones that a DCAP quoting service gives.
#pragma once

#include <cstdint>

namespace sgx::aesm {

enum class ErrorCode : std::uint32_t {
  kSuccess = 0,
  kUnexpected = 1,
  kParameter = 3,
  kUnsupportedKeyId = 38,
  kInvalidReport = 47,
};

}  // namespace sgx::aesm

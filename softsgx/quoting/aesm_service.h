// Answers the quoting service's requests (include/sgx/aesm.proto). Bytes in, bytes out: no I/O.
//
// Clients name the attestation key in most requests. They are given this QE's own name, and Intel's production QE's is
// taken as well, since many clients have it built in.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "softsgx/quoting/quoting_enclave.h"

namespace softsgx::quoting {

// Longer requests are not read.
inline constexpr std::uint32_t kMaxRequest = 64 * 1024;
// Larger buffers are refused: the answer is padded to the client's buffer, as Intel's service does.
inline constexpr std::uint32_t kMaxQuoteBuffer = 1024 * 1024;

class AesmService {
 public:
  // `enclave` must outlive it. Any thread may call answer().
  explicit AesmService(const QuotingEnclave& enclave) : enclave_(enclave) {}

  // The serialised response to a serialised request. What does not decode is answered as an unsupported request.
  [[nodiscard]] std::string answer(std::string_view request) const;

 private:
  const QuotingEnclave& enclave_;
};

}  // namespace softsgx::quoting

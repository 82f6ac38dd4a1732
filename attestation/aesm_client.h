// Client of the quoting service (Intel's aesmd, or softsgx-aesmd). Host side only.
//
// Blocking, one connection per request as the protocol wants it; any thread. The service is untrusted: whoever needs
// assurance verifies the quote.
#pragma once

#include <chrono>
#include <string>

#include "attestation/quote.h"
#include "attestation/result.h"

namespace sealift::attestation {

inline constexpr char kDefaultAesmSocket[] = "/var/run/aesmd/aesm.socket";

enum class AesmErrorKind {
  kConnect,      // nobody listens
  kIo,           // the connection broke or timed out
  kBadResponse,  // not an answer to the request
  kService,      // the service says no; `code` is its error number
  kNoEcdsaKey,   // the service makes no ECDSA quotes
};

struct AesmError {
  AesmErrorKind kind;
  std::uint32_t code = 0;
  std::string message;  // one line for people
};

class AesmClient {
 public:
  // `timeout` bounds each wait for the service; the first quote after a start of Intel's can take seconds.
  explicit AesmClient(std::string socket = kDefaultAesmSocket, std::chrono::seconds timeout = std::chrono::seconds(30));

  // What EREPORT must aim at for the quoting enclave to accept the report.
  [[nodiscard]] Result<sgx::Targetinfo, AesmError> get_target_info() const;
  // The quote of `report`, without padding.
  [[nodiscard]] Result<Bytes, AesmError> get_quote(const sgx::Report& report) const;

 private:
  [[nodiscard]] Result<std::string, AesmError> ecdsa_key_id() const;

  std::string socket_;
  std::chrono::seconds timeout_;
};

}  // namespace sealift::attestation

// Builds ECDSA quotes, version 3, from parts: the layout and the three signatures, no policy.
#pragma once

#include "softsgx/quoting/pki.h"

namespace softsgx::quoting {

struct QuoteParts {
  sgx::ReportBody enclave{};    // whom the quote is about
  EVP_PKEY* attestation_key{};  // signs the quote
  sgx::ReportBody qe{};         // its REPORTDATA is filled in here
  EVP_PKEY* pck{};              // signs the QE report
  Bytes qe_auth_data;           // below 64 KiB
  std::string pck_chain;        // PEM
  std::uint16_t pce_svn = 0;    // informative
};

[[nodiscard]] Bytes build_quote(const QuoteParts& parts);

}  // namespace softsgx::quoting

// Collateral from a folder. Host side only.
#pragma once

#include "attestation/collateral.h"

namespace sealift::attestation {

// Reads tcb_info.json, tcb_info_issuer_chain.pem, qe_identity.json, qe_identity_issuer_chain.pem, pck_crl.der and
// root_ca_crl.der: documents as Intel's certification service serves them, or as softsgx-aesmd writes them. The error
// is one line for people. Nothing is verified.
[[nodiscard]] Result<Collateral, std::string> load_collateral(const std::string& folder);

}  // namespace sealift::attestation

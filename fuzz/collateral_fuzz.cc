// Collateral: the container, and every document in it; also taken for a bare document.
#include "attestation/collateral.h"

#include <algorithm>
#include <cstdlib>

#include "attestation/chain.h"
#include "attestation/evidence.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sealift::attestation;
  const ByteSpan bytes(data, size);
  static_cast<void>(parse_tcb_info(as_text(bytes)).ok());
  static_cast<void>(parse_qe_identity(as_text(bytes)).ok());
  static_cast<void>(parse_evidence(bytes).ok());
  static_cast<void>(parse_crl(bytes).ok());
  const auto collateral = parse_collateral(bytes);
  if (!collateral) return 0;
  const Collateral& c = collateral.value();
  if (!std::ranges::equal(serialize_collateral(c), bytes)) std::abort();
  static_cast<void>(parse_tcb_info(c.tcb_info).ok());
  static_cast<void>(parse_qe_identity(c.qe_identity).ok());
  static_cast<void>(parse_chain(c.tcb_info_issuer_chain).ok());
  static_cast<void>(parse_chain(c.qe_identity_issuer_chain).ok());
  static_cast<void>(parse_crl(c.pck_crl).ok());
  static_cast<void>(parse_crl(c.root_ca_crl).ok());
  return 0;
}

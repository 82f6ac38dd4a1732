#include "softsgx/quoting/quote.h"

#include <algorithm>
#include <cstring>

namespace softsgx::quoting {
namespace {

template <class T>
Span object_span(const T& object) noexcept {
  return {reinterpret_cast<const std::uint8_t*>(&object), sizeof object};
}

template <class T>
void append(Bytes& out, const T& object) {
  const Span bytes = object_span(object);
  out.insert(out.end(), bytes.begin(), bytes.end());
}

}  // namespace

Bytes build_quote(const QuoteParts& parts) {
  sgx::quote::Signed head{};
  head.header.version = sgx::quote::kVersion3;
  head.header.attestation_key_type = sgx::quote::kKeyTypeEcdsaP256;
  head.header.qe_svn = parts.qe.isvsvn;
  head.header.pce_svn = parts.pce_svn;
  std::memcpy(head.header.qe_vendor_id, sgx::quote::kIntelQeVendorId, sizeof head.header.qe_vendor_id);
  head.body = parts.enclave;

  sgx::quote::SignatureHead signatures{};
  const PublicPoint attestation_key = public_point(parts.attestation_key);
  const RawSignature quote_signature = sign_raw(parts.attestation_key, object_span(head));
  signatures.qe_report = parts.qe;
  const Digest binding = sha256(attestation_key, parts.qe_auth_data);
  std::memset(signatures.qe_report.reportdata, 0, sizeof signatures.qe_report.reportdata);
  std::memcpy(signatures.qe_report.reportdata, binding.data(), binding.size());
  const RawSignature qe_signature = sign_raw(parts.pck, object_span(signatures.qe_report));
  std::ranges::copy(quote_signature, signatures.signature);
  std::ranges::copy(attestation_key, signatures.attestation_key);
  std::ranges::copy(qe_signature, signatures.qe_report_signature);

  Bytes data;
  append(data, signatures);
  append(data, static_cast<std::uint16_t>(parts.qe_auth_data.size()));
  data.insert(data.end(), parts.qe_auth_data.begin(), parts.qe_auth_data.end());
  append(data, sgx::quote::kCertPckChain);
  append(data, static_cast<std::uint32_t>(parts.pck_chain.size()));
  data.insert(data.end(), parts.pck_chain.begin(), parts.pck_chain.end());

  Bytes quote;
  append(quote, head);
  append(quote, static_cast<std::uint32_t>(data.size()));
  quote.insert(quote.end(), data.begin(), data.end());
  return quote;
}

}  // namespace softsgx::quoting

#include "softsgx/quoting/quoting_enclave.h"

#include <openssl/crypto.h>

#include <algorithm>
#include <cstring>
#include <numeric>

#include "softsgx/isa/keys.h"
#include "softsgx/quoting/quote.h"

namespace softsgx::quoting {
namespace {

// What EREPORT's MAC covers (SDM 3D, EREPORT): REPORT up to KEYID.
keys::Key mac_of(const Machine& machine, const sgx::Targetinfo& target, const sgx::ReportBody& body) {
  return keys::cmac(keys::report_key(machine, target), std::as_bytes(std::span(&body, 1)));
}

// Intel's QE puts 00 01 … 1f here; the length must be signed data, the content says nothing.
Bytes auth_data() {
  Bytes data(32);
  std::iota(data.begin(), data.end(), std::uint8_t{0});
  return data;
}

}  // namespace

QuotingEnclave::QuotingEnclave(const Machine& machine, const DevelopmentPki& pki)
    : machine_(machine),
      pck_(pck_key(machine)),
      attestation_key_(derive_key(machine.fuses().root_provisioning_key, "softsgx attestation key")),
      pck_chain_(quoting::pck_chain(machine, pki)),
      key_id_(sha256(public_point(attestation_key_.get()))) {
  targetinfo_.measurement = qe_mrenclave();
  targetinfo_.attributes = {sgx::attribute::kInit | sgx::attribute::kMode64Bit | sgx::attribute::kProvisionKey,
                            sgx::xfrm::kLegacy};
  quote_size_ = sizeof(sgx::quote::Signed) + sizeof(std::uint32_t) + sizeof(sgx::quote::SignatureHead) +
                sizeof(std::uint16_t) + auth_data().size() + sizeof(std::uint16_t) + sizeof(std::uint32_t) +
                pck_chain_.size();
}

sgx::ReportBody QuotingEnclave::body() const {
  sgx::ReportBody body{};
  std::ranges::copy(machine_.cpusvn(), body.cpusvn);
  body.attributes = targetinfo_.attributes;
  body.mrenclave = targetinfo_.measurement;
  body.mrsigner = qe_mrsigner();
  body.isvprodid = kQeIsvprodid;
  body.isvsvn = kQeIsvsvn;
  return body;
}

std::optional<Bytes> QuotingEnclave::quote(const sgx::Report& report) const {
  const keys::Key mac = mac_of(machine_, targetinfo_, report.body);
  if (CRYPTO_memcmp(mac.data(), report.mac, mac.size()) != 0) return std::nullopt;
  return build_quote({.enclave = report.body,
                      .attestation_key = attestation_key_.get(),
                      .qe = body(),
                      .pck = pck_.get(),
                      .qe_auth_data = auth_data(),
                      .pck_chain = pck_chain_,
                      .pce_svn = kPcesvn});
}

sgx::Report QuotingEnclave::qe_report(const sgx::Targetinfo& target, Span nonce, Span quote) const {
  sgx::Report report{};
  report.body = body();
  const Digest digest = sha256(nonce, quote);
  std::memcpy(report.body.reportdata, digest.data(), digest.size());
  std::ranges::copy(machine_.report_keyid(), report.keyid);
  const keys::Key mac = mac_of(machine_, target, report.body);
  std::memcpy(report.mac, mac.data(), mac.size());
  return report;
}

}  // namespace softsgx::quoting

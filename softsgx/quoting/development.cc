#include "softsgx/quoting/development.h"

#include <algorithm>
#include <cstring>

namespace softsgx::quoting {
namespace {

constexpr UnixTime kNotBefore = 1704067200;  // 2024-01-01T00:00:00Z
constexpr UnixTime kNotAfter = 2524607999;   // 2049-12-31T23:59:59Z
constexpr UnixTime kDay = 86400;

Span text_span(std::string_view text) noexcept {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

Key development_key(std::string_view label) {
  return derive_key(text_span(kDevelopmentSeed), label);
}

CertSpec authority(const char* role, std::uint64_t serial, Usage usage) {
  return {.common_name = std::string("softsgx development ") + role,
          .serial = serial,
          .usage = usage,
          .not_before = kNotBefore,
          .not_after = kNotAfter,
          .sgx_extension = {}};
}

sgx::Measurement measurement_of(std::string_view sentence) {
  const Digest digest = sha256(text_span(sentence));
  sgx::Measurement measurement;
  std::memcpy(measurement.bytes, digest.data(), digest.size());
  return measurement;
}

TcbLevelSpec platform_level(std::uint8_t svn, const char* status, std::vector<std::string> advisories) {
  TcbLevelSpec level{
      .components = {}, .pcesvn = 0, .tcb_date = kNotBefore, .status = status, .advisories = std::move(advisories)};
  std::fill_n(level.components.begin(), 8, svn);
  return level;
}

}  // namespace

DevelopmentPki::DevelopmentPki() {
  root.key = development_key("root");
  root.certificate = make_certificate(authority("SGX Root CA", 1, Usage::kCa), root.key.get(), nullptr, root.key.get());
  platform_ca.key = development_key("platform CA");
  platform_ca.certificate = make_certificate(authority("SGX PCK Platform CA", 2, Usage::kCa), platform_ca.key.get(),
                                             root.certificate.get(), root.key.get());
  tcb_signer.key = development_key("TCB signing");
  tcb_signer.certificate = make_certificate(authority("SGX TCB Signing", 3, Usage::kSignature), tcb_signer.key.get(),
                                            root.certificate.get(), root.key.get());
}

sgx::Measurement qe_mrenclave() {
  return measurement_of("softsgx quoting enclave");
}
sgx::Measurement qe_mrsigner() {
  return measurement_of("softsgx quoting enclave's signer");
}

PlatformTcb platform_of(const Machine& machine) {
  PlatformTcb platform;
  const Bytes ppid = derive_bytes(machine.fuses().root_provisioning_key, "softsgx PPID", platform.ppid.size());
  std::ranges::copy(ppid, platform.ppid.begin());
  platform.cpusvn = machine.cpusvn();
  platform.components = machine.cpusvn();
  platform.pcesvn = kPcesvn;
  platform.pceid = kPceid;
  platform.fmspc = kFmspc;
  return platform;
}

Key pck_key(const Machine& machine) {
  Bytes seed(std::begin(machine.fuses().root_provisioning_key), std::end(machine.fuses().root_provisioning_key));
  seed.insert(seed.end(), machine.cpusvn().begin(), machine.cpusvn().end());
  return derive_key(seed, "softsgx PCK");
}

std::string pck_chain(const Machine& machine, const DevelopmentPki& pki) {
  const PlatformTcb platform = platform_of(machine);
  const Digest name = sha256(platform.ppid, platform.cpusvn);
  std::uint64_t serial = 0;
  std::memcpy(&serial, name.data(), sizeof serial);
  CertSpec spec = authority("SGX PCK Certificate", serial | 1, Usage::kSignature);
  spec.sgx_extension = sgx_extension(platform);
  const Key key = pck_key(machine);
  const Cert leaf = make_certificate(spec, key.get(), pki.platform_ca.certificate.get(), pki.platform_ca.key.get());
  return to_pem(leaf.get()) + to_pem(pki.platform_ca.certificate.get()) + to_pem(pki.root.certificate.get());
}

std::vector<CollateralFile> development_collateral(const DevelopmentPki& pki, UnixTime now) {
  const UnixTime next = now + kCollateralDays * kDay;
  TcbInfoSpec tcb{.issue_date = now, .next_update = next, .fmspc = kFmspc, .pceid = kPceid, .levels = {}};
  tcb.levels.push_back(platform_level(2, "UpToDate", {}));
  tcb.levels.push_back(platform_level(1, "OutOfDate", {"SOFTSGX-SA-00001"}));
  tcb.levels.push_back(platform_level(0, "Revoked", {"SOFTSGX-SA-00001", "SOFTSGX-SA-00002"}));

  QeIdentitySpec qe{.issue_date = now, .next_update = next, .isvprodid = kQeIsvprodid, .levels = {}};
  qe.miscselect_mask.fill(0xff);
  qe.attributes[0] = sgx::attribute::kInit | sgx::attribute::kProvisionKey;
  std::fill_n(qe.attributes_mask.begin(), 8, std::uint8_t{0xff});
  qe.attributes_mask[0] = static_cast<std::uint8_t>(~sgx::attribute::kMode64Bit);  // as in Intel's; XFRM is free
  std::memcpy(qe.mrsigner.data(), qe_mrsigner().bytes, qe.mrsigner.size());
  qe.levels.push_back({.isvsvn = kQeIsvsvn, .tcb_date = kNotBefore, .status = "UpToDate", .advisories = {}});
  qe.levels.push_back({.isvsvn = 1, .tcb_date = kNotBefore, .status = "OutOfDate", .advisories = {"SOFTSGX-SA-00003"}});

  const CrlSpec crl{.this_update = now, .next_update = next, .revoked = {}};
  const std::string root_pem = to_pem(pki.root.certificate.get());
  const std::string signer_chain = to_pem(pki.tcb_signer.certificate.get()) + root_pem;
  const Bytes pck_crl = make_crl(crl, pki.platform_ca.certificate.get(), pki.platform_ca.key.get());
  const Bytes root_crl = make_crl(crl, pki.root.certificate.get(), pki.root.key.get());
  return {{"tcb_info.json", make_tcb_info(tcb, pki.tcb_signer.key.get())},
          {"tcb_info_issuer_chain.pem", signer_chain},
          {"qe_identity.json", make_qe_identity(qe, pki.tcb_signer.key.get())},
          {"qe_identity_issuer_chain.pem", signer_chain},
          {"pck_crl.der", {pck_crl.begin(), pck_crl.end()}},
          {"pck_crl_issuer_chain.pem", to_pem(pki.platform_ca.certificate.get()) + root_pem},
          {"root_ca_crl.der", {root_crl.begin(), root_crl.end()}}};
}

}  // namespace softsgx::quoting

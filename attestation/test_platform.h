// For tests: a platform, its quoting enclave and its certification service, under a root of the test's own, with every
// part open to change before the evidence is made. Uses the generator of software machines.
#pragma once

#include "attestation/verify.h"
#include "softsgx/quoting/development.h"
#include "softsgx/quoting/quote.h"

namespace sealift::attestation::testing {

namespace gen = softsgx::quoting;

inline constexpr UnixTime kDay = 86400;
inline constexpr UnixTime kIssued = 1700000000;  // 2023-11-14T22:13:20Z
inline constexpr UnixTime kNow = kIssued + kDay;
inline constexpr UnixTime kNextUpdate = kIssued + 30 * kDay;

// As published and issued; a test changes what it is about, then calls quote() and collateral().
struct TestPlatform {
  TestPlatform() {
    for (gen::CertSpec* spec : {&root_spec, &ca_spec, &signer_spec, &pck_spec}) {
      spec->not_before = kIssued - 100 * kDay;
      spec->not_after = kIssued + 1000 * kDay;
    }
    root_spec = with(root_spec, "test SGX Root CA", 1, gen::Usage::kCa);
    ca_spec = with(ca_spec, "test SGX PCK Platform CA", 2, gen::Usage::kCa);
    signer_spec = with(signer_spec, "test SGX TCB Signing", 3, gen::Usage::kSignature);
    pck_spec = with(pck_spec, "test SGX PCK Certificate", 4, gen::Usage::kSignature);

    platform.fmspc = {1, 2, 3, 4, 5, 6};
    platform.components.fill(5);
    platform.cpusvn.fill(5);
    platform.pcesvn = 10;
    platform.ppid.fill(0x77);

    tcb.issue_date = qe_identity.issue_date = kIssued;
    tcb.next_update = qe_identity.next_update = kNextUpdate;
    tcb.fmspc = platform.fmspc;
    tcb.evaluation_number = qe_identity.evaluation_number = 17;
    add_level(5, 10, "UpToDate", {});
    add_level(4, 10, "OutOfDate", {"SA-2"});
    add_level(3, 10, "Revoked", {"SA-3", "SA-2"});

    qe.mrsigner.bytes[0] = 0xaa;
    qe.isvprodid = 1;
    qe.isvsvn = 8;
    qe.attributes = {sgx::attribute::kInit | sgx::attribute::kMode64Bit | sgx::attribute::kProvisionKey, 3};
    qe_identity.mrsigner[0] = 0xaa;
    qe_identity.isvprodid = 1;
    qe_identity.miscselect_mask.fill(0xff);
    qe_identity.attributes[0] = 0x11;
    std::fill_n(qe_identity.attributes_mask.begin(), 8, std::uint8_t{0xff});
    qe_identity.attributes_mask[0] = 0xfb;
    qe_identity.levels = {
        {8, kIssued, "UpToDate", {}}, {6, kIssued, "OutOfDate", {"SA-9"}}, {5, kIssued, "Revoked", {}}};

    pck_crl_spec = root_crl_spec = {kIssued, kNextUpdate, {}};
    enclave.mrenclave.bytes[0] = 0xee;
    enclave.mrsigner.bytes[0] = 0xdd;
    enclave.attributes = {sgx::attribute::kInit | sgx::attribute::kMode64Bit, 3};
    enclave.isvprodid = 42;
    enclave.isvsvn = 7;
    certify();
  }

  void add_level(std::uint8_t svn, std::uint16_t pcesvn, const char* status, std::vector<std::string> advisories) {
    gen::TcbLevelSpec level{
        .components = {}, .pcesvn = pcesvn, .tcb_date = kIssued, .status = status, .advisories = std::move(advisories)};
    level.components.fill(svn);
    tcb.levels.push_back(std::move(level));
  }

  // Issues all certificates again; needed after a change of a spec, a key or the platform.
  void certify() {
    if (pck_spec.sgx_extension.empty() && with_sgx_extension) pck_spec.sgx_extension = gen::sgx_extension(platform);
    root = gen::make_certificate(root_spec, root_key.get(), nullptr, root_key.get());
    ca = gen::make_certificate(ca_spec, ca_key.get(), root.get(), root_key.get());
    signer = gen::make_certificate(signer_spec, signer_key.get(), root.get(), root_key.get());
    pck = gen::make_certificate(pck_spec, pck_key.get(), ca.get(), ca_key.get());
  }

  void change_platform(const gen::PlatformTcb& changed) {
    platform = changed;
    pck_spec.sgx_extension = gen::sgx_extension(platform);
    certify();
  }

  [[nodiscard]] std::string pck_chain() const {
    return gen::to_pem(pck.get()) + gen::to_pem(ca.get()) + gen::to_pem(root.get());
  }
  [[nodiscard]] std::string signer_chain() const { return gen::to_pem(signer.get()) + gen::to_pem(root.get()); }

  [[nodiscard]] Bytes quote() const {
    return gen::build_quote({.enclave = enclave,
                             .attestation_key = attestation_key.get(),
                             .qe = qe,
                             .pck = pck_key.get(),
                             .qe_auth_data = Bytes(32, 1),
                             .pck_chain = pck_chain(),
                             .pce_svn = 0});
  }

  [[nodiscard]] Collateral collateral() const {
    Collateral c;
    c.tcb_info = gen::make_tcb_info(tcb, signer_key.get());
    c.tcb_info_issuer_chain = signer_chain();
    c.qe_identity = gen::make_qe_identity(qe_identity, signer_key.get());
    c.qe_identity_issuer_chain = signer_chain();
    c.pck_crl = gen::make_crl(pck_crl_spec, ca.get(), ca_key.get());
    c.root_ca_crl = gen::make_crl(root_crl_spec, root.get(), root_key.get());
    return c;
  }

  [[nodiscard]] TrustAnchors anchors() const { return {.roots = {{gen::public_point(root_key.get()), false}}}; }

  [[nodiscard]] Result<Verdict, VerifyFailure> appraise_at(UnixTime now) const {
    return appraise(quote(), collateral(), anchors(), now);
  }

  gen::Key root_key = key("root"), ca_key = key("ca"), signer_key = key("signer"), pck_key = key("pck");
  gen::Key attestation_key = key("attestation");
  gen::CertSpec root_spec, ca_spec, signer_spec, pck_spec;
  bool with_sgx_extension = true;
  gen::Cert root, ca, signer, pck;
  gen::PlatformTcb platform;
  gen::TcbInfoSpec tcb;
  gen::QeIdentitySpec qe_identity;
  gen::CrlSpec pck_crl_spec, root_crl_spec;
  sgx::ReportBody qe{}, enclave{};

  static gen::Key key(std::string_view label) { return gen::derive_key(text_bytes("attestation tests"), label); }

 private:
  static gen::CertSpec with(gen::CertSpec spec, const char* name, std::uint64_t serial, gen::Usage usage) {
    spec.common_name = name;
    spec.serial = serial;
    spec.usage = usage;
    return spec;
  }
};

}  // namespace sealift::attestation::testing

// For tests: an agent enclave on a platform of its own, with an RA-TLS identity.
#pragma once

#include "attestation/ratls.h"
#include "attestation/test_platform.h"

namespace sealift::attestation::testing {

inline Bytes bytes_of(std::string_view text) {
  return {text.begin(), text.end()};
}

// An agent enclave on some platform: its identity, certified by the platform's QE, and what it accepts.
class Party {
 public:
  explicit Party(std::uint8_t mrenclave = 0xee) : identity_(std::move(RatlsIdentity::create()).value()) {
    platform_.enclave.mrenclave.bytes[0] = mrenclave;
    certify(identity_->report_data());
  }

  std::optional<IdentityError> certify(const ReportData& data, bool with_collateral = true) {
    std::memcpy(platform_.enclave.reportdata, data.data(), data.size());
    const Bytes collateral = with_collateral ? serialize_collateral(platform_.collateral()) : Bytes{};
    return identity_->certify(serialize_evidence({platform_.quote(), collateral}));
  }

  std::unique_ptr<Endpoint> endpoint(Role role) {
    verifier_ = std::make_unique<DcapVerifier>(
        platform_.anchors(), policy_, [this] { return now_; }, fallback_);
    return std::move(Endpoint::create(role, *identity_, *verifier_)).value();
  }

  std::unique_ptr<RatlsIdentity> identity_;
  TestPlatform platform_;
  Policy policy_;
  Collateral fallback_;
  UnixTime now_ = kNow;
  std::unique_ptr<DcapVerifier> verifier_;
};

}  // namespace sealift::attestation::testing

#include "trusted/agent/ratls_channel.h"

#include <algorithm>
#include <utility>

namespace sealift::agent {

namespace {

namespace att = sealift::attestation;

// Everything that a policy could accept; DcapVerifier itself never accepts a revoked platform.
att::Policy admit_for_judgement() {
  att::Policy policy;
  policy.accepted_tcb = ~0u;
  policy.allow_debug = true;
  return policy;
}

Errc errc_of(att::RatlsError error) {
  switch (error) {
    case att::RatlsError::kNone:
      return Errc::kOk;
    case att::RatlsError::kNotCertified:
    case att::RatlsError::kNoEvidence:
    case att::RatlsError::kMalformedEvidence:
    case att::RatlsError::kBadPeerCertificate:
    case att::RatlsError::kPeerRefused:
    case att::RatlsError::kKeyNotBound:
      return Errc::kNoQuote;
    case att::RatlsError::kRefusedByPeer:
      return Errc::kPeerRefused;
    case att::RatlsError::kNotOpen:
      return Errc::kNotReady;
    case att::RatlsError::kOpenSsl:
    case att::RatlsError::kProtocol:
      break;
  }
  return Errc::kBadMessage;
}

PeerVerdict verdict_of(const att::Endpoint& endpoint) {
  const att::Verdict& from = *endpoint.peer();
  PeerVerdict verdict;
  verdict.report = from.report;
  if (from.status != att::TcbStatus::kRevoked) verdict.tcb_status = 1u << static_cast<unsigned>(from.status);
  verdict.development_root = from.development_root;
  verdict.expires = static_cast<std::uint64_t>(std::max<att::UnixTime>(from.expiry, 0));
  std::copy(endpoint.peer_instance().begin(), endpoint.peer_instance().end(), verdict.instance.begin());
  return verdict;
}

class RatlsChannel final : public Channel {
 public:
  explicit RatlsChannel(std::unique_ptr<att::Endpoint> endpoint) : endpoint_(std::move(endpoint)) {}

  void feed(ByteView from_network) override {
    endpoint_->feed(from_network);
    if (endpoint_->peer()) peer_ = verdict_of(*endpoint_);
  }
  Bytes take() override { return endpoint_->take(); }
  Errc write(ByteView plain) override { return errc_of(endpoint_->write(plain)); }
  Bytes read() override { return endpoint_->read(); }
  LinkPhase phase() const override {
    switch (endpoint_->phase()) {
      case att::Phase::kHandshaking:
        return LinkPhase::kHandshaking;
      case att::Phase::kOpen:
        return LinkPhase::kReady;
      case att::Phase::kClosed:
      case att::Phase::kFailed:
        break;
    }
    return LinkPhase::kFailed;
  }
  Errc error() const override {
    return endpoint_->phase() == att::Phase::kClosed ? Errc::kNoSession : errc_of(endpoint_->error());
  }
  const PeerVerdict& peer() const override { return peer_; }
  Errc renew(ByteView collateral) override {
    if (phase() != LinkPhase::kReady) return Errc::kNotReady;
    if (endpoint_->reverify(collateral)) return Errc::kNoQuote;
    peer_ = verdict_of(*endpoint_);
    return Errc::kOk;
  }

 private:
  std::unique_ptr<att::Endpoint> endpoint_;
  PeerVerdict peer_;
};

}  // namespace

RatlsChannels::RatlsChannels(Platform& platform, att::TrustAnchors anchors,
                             std::unique_ptr<att::RatlsIdentity> identity)
    : identity_(std::move(identity)), verifier_(std::move(anchors), admit_for_judgement(), [&platform] {
        return static_cast<att::UnixTime>(platform.now());
      }) {}

Result<std::unique_ptr<RatlsChannels>> RatlsChannels::create(Platform& platform, att::TrustAnchors anchors) {
  auto identity = att::RatlsIdentity::create();
  if (!identity) return Errc::kEntropy;
  return std::unique_ptr<RatlsChannels>(new RatlsChannels(platform, std::move(anchors), std::move(identity).value()));
}

ReportData RatlsChannels::report_data() {
  return identity_->report_data();
}

Errc RatlsChannels::install_quote(ByteView evidence) {
  return identity_->certify(evidence) ? Errc::kNoQuote : Errc::kOk;
}

Result<std::unique_ptr<Channel>> RatlsChannels::open(bool is_server) {
  auto endpoint = att::Endpoint::create(is_server ? att::Role::kServer : att::Role::kClient, *identity_, verifier_);
  if (!endpoint) return errc_of(endpoint.error());
  return std::unique_ptr<Channel>(std::make_unique<RatlsChannel>(std::move(endpoint).value()));
}

}  // namespace sealift::agent

// Channels over RA-TLS (attestation/ratls.h), as the agent enclave opens them.
//
// Whom to trust is not decided here. A channel is up as soon as both sides have shown genuine quotes for their TLS keys
// under a compiled-in root, whatever enclave and TCB status; what that is worth is judged for each enclave by its own
// policy (migration/judge.h), before a key leaves and before one is taken.
#pragma once

#include <memory>

#include "attestation/ratls.h"
#include "trusted/agent/platform.h"

namespace sealift::agent {

// `platform` must outlive this and every channel, and this every channel. Not thread-safe; the agent's mutex covers it.
class RatlsChannels final : public ChannelFactory {
 public:
  // Draws the instance's TLS key. kEntropy if OpenSSL refuses.
  [[nodiscard]] static Result<std::unique_ptr<RatlsChannels>> create(Platform& platform,
                                                                     attestation::TrustAnchors anchors);

  ReportData report_data() override;
  Errc install_quote(ByteView evidence) override;
  Result<std::unique_ptr<Channel>> open(bool is_server) override;

 private:
  RatlsChannels(Platform& platform, attestation::TrustAnchors anchors,
                std::unique_ptr<attestation::RatlsIdentity> identity);
  std::unique_ptr<attestation::RatlsIdentity> identity_;
  attestation::DcapVerifier verifier_;
};

}  // namespace sealift::agent

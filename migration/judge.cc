#include "migration/judge.h"

#include <bit>
#include <cstring>
#include <type_traits>

namespace sealift {

namespace {

constexpr std::uint32_t kKnownTcb = tcb::kUpToDate | tcb::kSwHardeningNeeded | tcb::kConfigurationNeeded |
                                    tcb::kConfigurationAndSwHardeningNeeded | tcb::kOutOfDate |
                                    tcb::kOutOfDateConfigurationNeeded;

bool pinned(const MigrationPolicy& policy, const sgx::ReportBody& report) noexcept {
  switch (static_cast<AgentPin>(policy.agent_pin)) {
    case AgentPin::kMrenclave:
      return report.mrenclave == policy.agent;
    case AgentPin::kMrsigner:
      return report.mrsigner == policy.agent && report.isvprodid == policy.agent_isvprodid;
    case AgentPin::kNone:
      break;
  }
  return false;
}

}  // namespace

Errc judge_peer(const MigrationPolicy& policy, const PeerVerdict& peer) noexcept {
  if ((policy.flags & policy::kAllowMigration) == 0 || policy.agent_pin == std::uint32_t(AgentPin::kNone)) {
    return Errc::kPolicy;
  }
  if (!pinned(policy, peer.report) || peer.report.isvsvn < policy.agent_min_isvsvn) return Errc::kBadAgent;
  const bool debug = (peer.report.attributes.flags & sgx::attribute::kDebug) != 0;
  if ((debug || peer.development_root) && (policy.flags & policy::kDevelopment) == 0) return Errc::kDebugAgent;
  // A status that no policy can name (revoked) arrives as no bit, and must not pass for want of one.
  if (!std::has_single_bit(peer.tcb_status) || (peer.tcb_status & policy.tcb_accepted & kKnownTcb) == 0) {
    return Errc::kPeerRefused;
  }
  return Errc::kOk;
}

Errc judge_peer(const MigrationPolicy& policy, const PeerVerdict& peer, std::uint64_t now) noexcept {
  if (const Errc error = judge_peer(policy, peer); error != Errc::kOk) return error;
  return now < peer.expires ? Errc::kOk : Errc::kVerdictExpired;
}

messages::EnclaveIdentity identity_of(const sgx::ReportBody& report) noexcept {
  messages::EnclaveIdentity id{};
  id.mrenclave = report.mrenclave;
  id.mrsigner = report.mrsigner;
  id.attributes = report.attributes;
  std::memcpy(id.configid, report.configid, sizeof(id.configid));
  std::memcpy(id.isvextprodid, report.isvextprodid, sizeof(id.isvextprodid));
  std::memcpy(id.isvfamilyid, report.isvfamilyid, sizeof(id.isvfamilyid));
  id.miscselect = report.miscselect;
  id.isvprodid = report.isvprodid;
  id.isvsvn = report.isvsvn;
  id.configsvn = report.configsvn;
  return id;
}

bool same_policy(const MigrationPolicy& a, const MigrationPolicy& b) noexcept {
  static_assert(std::has_unique_object_representations_v<MigrationPolicy>);
  return std::memcmp(&a, &b, sizeof(a)) == 0;
}

}  // namespace sealift

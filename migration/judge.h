// How an agent judges another agent's verified quote by the policy in an enclave's measured manifest (design §7, S5).
#pragma once

#include <array>
#include <cstdint>

#include "migration/config.h"
#include "migration/errc.h"
#include "migration/messages.h"
#include "sgx/arch.h"

namespace sealift {

// An agent instance: SHA-256 of the TLS key that its quote binds. Another instance of the same enclave has another.
using AgentInstance = std::array<std::uint8_t, 32>;

// What verifying a quote established. Made by the quote verifier alone, never from a message.
struct PeerVerdict {
  sgx::ReportBody report{};       // of the peer agent enclave
  std::uint32_t tcb_status = 0;   // exactly one bit of tcb::
  bool development_root = false;  // the chain ends in the development root, not in the hardware vendor's
  std::uint64_t expires = 0;      // seconds since 1970 UTC; the verdict holds before this time
  AgentInstance instance{};
};

// kOk, or why this peer must not have a migration key (or a say in a grant) under `policy`:
// kPolicy (migration forbidden or no agent pinned), kDebugAgent, kBadAgent, kPeerRefused (TCB status).
[[nodiscard]] Errc judge_peer(const MigrationPolicy& policy, const PeerVerdict& peer) noexcept;

// The same, and kVerdictExpired unless `now` (seconds since 1970 UTC) is before the verdict's end.
[[nodiscard]] Errc judge_peer(const MigrationPolicy& policy, const PeerVerdict& peer, std::uint64_t now) noexcept;

// The part of a REPORT in which source and target must be equal.
[[nodiscard]] messages::EnclaveIdentity identity_of(const sgx::ReportBody& report) noexcept;

// Byte equality of two policies (their layout has no padding).
[[nodiscard]] bool same_policy(const MigrationPolicy& a, const MigrationPolicy& b) noexcept;

}  // namespace sealift

// What the agent's logic needs of the world. In the enclave: EREPORT, EGETKEY, RDRAND and RA-TLS; on the host, in
// tests, the software machine's keys or a stand-in for them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "migration/errc.h"
#include "migration/judge.h"
#include "migration/result.h"
#include "sgx/arch.h"

namespace sealift::agent {

using Bytes = std::vector<std::uint8_t>;
using ByteView = std::span<const std::uint8_t>;
using ReportData = std::array<std::uint8_t, 64>;

// The CPU. All calls are made under the agent's mutex; implementations need no locks of their own.
class Platform {
 public:
  virtual ~Platform() = default;
  // This enclave's own TARGETINFO: what another enclave aims its REPORT for us at.
  [[nodiscard]] virtual sgx::Targetinfo self_target() = 0;
  // EREPORT. Errc::kKeyLeaf if the leaf fails.
  [[nodiscard]] virtual Errc make_report(const sgx::Targetinfo& target, const ReportData& data, sgx::Report* out) = 0;
  // Recomputes the MAC with this enclave's report key. Errc::kBadReport if it does not match, kKeyLeaf if EGETKEY
  // fails.
  [[nodiscard]] virtual Errc verify_report(const sgx::Report& report) = 0;
  // RDRAND. Errc::kEntropy if the hardware gives none.
  [[nodiscard]] virtual Errc random(std::span<std::uint8_t> out) = 0;
  // Seconds since 1970 UTC as the host tells it: SGX has no trusted clock. Where a verdict's expiry counts, the agent
  // does not let it run backwards.
  [[nodiscard]] virtual std::uint64_t now() = 0;
};

enum class LinkPhase : std::uint32_t { kHandshaking = 0, kReady = 1, kFailed = 2 };

// One end of an RA-TLS 1.3 connection: a byte stream to one attested peer, over bytes that the host carries.
class Channel {
 public:
  virtual ~Channel() = default;
  // Bytes that arrived from the other side. A failure or the other side's close is final: phase() and error() tell.
  // What the other side wrote before can still be read.
  virtual void feed(ByteView from_network) = 0;
  // Bytes to carry to the other side; empty if none.
  [[nodiscard]] virtual Bytes take() = 0;
  // Plaintext in and out. write() only in LinkPhase::kReady.
  [[nodiscard]] virtual Errc write(ByteView plain) = 0;
  [[nodiscard]] virtual Bytes read() = 0;
  [[nodiscard]] virtual LinkPhase phase() const = 0;
  [[nodiscard]] virtual Errc error() const = 0;
  // Who the other side is, from its verified quote. Once the phase has been kReady.
  [[nodiscard]] virtual const PeerVerdict& peer() const = 0;
  // Verifies the peer's quote again with fresher collateral. kNoQuote: it did not verify; the old verdict stays.
  [[nodiscard]] virtual Errc renew(ByteView collateral) = 0;
};

// Makes channels that prove this agent instance. One TLS key for the instance's life; its quote may be renewed.
class ChannelFactory {
 public:
  virtual ~ChannelFactory() = default;
  // What the quote must carry as REPORTDATA: binds the instance's TLS key.
  [[nodiscard]] virtual ReportData report_data() = 0;
  // Installs a quote over report_data() and its collateral (attestation/evidence.h's container) for channels opened
  // from now on. Errc::kNoQuote if it is not one, or not over these bytes. The other side verifies it, not we.
  [[nodiscard]] virtual Errc install_quote(ByteView evidence) = 0;
  // Errc::kNoQuote before the first quote is installed.
  [[nodiscard]] virtual Result<std::unique_ptr<Channel>> open(bool is_server) = 0;
};

}  // namespace sealift::agent

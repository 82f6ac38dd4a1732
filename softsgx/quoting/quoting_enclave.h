// What Intel's quoting enclave does, for one machine, in an ordinary process: it turns REPORTs aimed at it into quotes.
//
// It holds no EPC and runs no ENCLU. It reads the machine's fuses and derives what the real QE gets by EREPORT and
// EGETKEY. Immutable after construction; any thread may call.
#pragma once

#include <optional>

#include "softsgx/quoting/development.h"

namespace softsgx::quoting {

class QuotingEnclave {
 public:
  // `machine` must outlive it.
  QuotingEnclave(const Machine& machine, const DevelopmentPki& pki);

  // What an enclave's EREPORT must aim at.
  [[nodiscard]] const sgx::Targetinfo& targetinfo() const noexcept { return targetinfo_; }
  // SHA-256 of the attestation key.
  [[nodiscard]] const Digest& key_id() const noexcept { return key_id_; }
  // Every quote of this machine has this size.
  [[nodiscard]] std::size_t quote_size() const noexcept { return quote_size_; }

  // nullopt if `report` is not from this machine or not for this QE.
  [[nodiscard]] std::optional<Bytes> quote(const sgx::Report& report) const;

  // A REPORT of the QE for `target`, by which the caller sees that `quote` came from it and not from another process.
  [[nodiscard]] sgx::Report qe_report(const sgx::Targetinfo& target, Span nonce, Span quote) const;

 private:
  [[nodiscard]] sgx::ReportBody body() const;

  const Machine& machine_;
  sgx::Targetinfo targetinfo_{};
  Key pck_;
  Key attestation_key_;
  std::string pck_chain_;
  Digest key_id_{};
  std::size_t quote_size_ = 0;
};

}  // namespace softsgx::quoting

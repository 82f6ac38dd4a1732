// Verification of a quote: from the enclave's REPORT to a pinned root key.
//
// Nothing here reads a clock: every date is compared with the `now` that the caller passes. A verdict says until when
// it may be relied on; after that the same quote must be verified again, with fresh collateral.
// No state, any thread. Throws std::bad_alloc only.
#pragma once

#include "attestation/chain.h"
#include "attestation/collateral.h"
#include "attestation/pck.h"

namespace sealift::attestation {

enum class VerifyError {
  // Documents that do not decode; the cause is a QuoteError, CollateralError, ChainError or PckError.
  kMalformedQuote,
  kMalformedCollateral,
  kMalformedTcbInfo,
  kMalformedQeIdentity,
  kBadPckExtension,
  // Certificates; the cause is a ChainError.
  kPckChain,
  kTcbInfoChain,
  kQeIdentityChain,
  kPckCrl,
  kRootCaCrl,
  // Signatures and bindings.
  kUnknownQeVendor,
  kBadQeReportSignature,    // not by the PCK
  kAttestationKeyNotBound,  // the QE report does not name this attestation key and authentication data
  kBadQuoteSignature,       // not by the attestation key
  kBadTcbInfoSignature,
  kBadQeIdentitySignature,
  // Appraisal.
  kTcbInfoNotYetValid,
  kTcbInfoExpired,
  kQeIdentityNotYetValid,
  kQeIdentityExpired,
  kTcbInfoWrongId,        // not of SGX
  kTcbInfoOtherPlatform,  // FMSPC or PCE-ID differ from the PCK certificate's
  kQeIdentityWrongId,     // a signed identity, but not the quoting enclave's
  kQeIdentityMismatch,    // the QE report is not of the enclave that the identity describes; the cause is a QeField
  kTcbNotRecognized,      // the platform is below every published TCB level
  kQeTcbNotRecognized,    // so is the QE
  // Policy (judge).
  kTcbRevoked,
  kTcbRefused,        // a TCB status that the policy does not accept
  kEvaluationTooOld,  // the collateral is from before the policy's minimum
  kDebugEnclave,
  kEnclaveRefused,  // not an enclave that the policy accepts
  kVerdictExpired,
};

enum class QeField { kMiscselect, kAttributes, kMrsigner, kIsvprodid };

// `cause` is the number of the enumerator that the error's comment names, or -1.
struct VerifyFailure {
  VerifyError error;
  int cause = -1;
  friend bool operator==(const VerifyFailure&, const VerifyFailure&) = default;
};

// A fixed name such as "tcb-refused", for logs and `--json`.
[[nodiscard]] const char* verify_error_name(VerifyError error) noexcept;

// A verified quote, before anybody has judged it. Everything in it was signed by a key that chains to an anchor.
struct Verdict {
  sgx::ReportBody report;  // the enclave's
  TcbStatus status;        // of platform and QE together
  TcbStatus platform_status;
  TcbStatus qe_status;
  std::vector<std::string> advisories;  // of both, sorted, each once
  UnixTime tcb_date;                    // of the matching platform level
  bool development_root;                // the anchor under which all of this was signed is a development root
  UnixTime expiry;                      // earliest end of all certificates, lists and documents used
  std::uint32_t tcb_evaluation_number;  // the lower of TCB info's and QE identity's
  PckExtension platform;                // FMSPC, PPID, …
};

// All chains must end in one and the same root: with several anchors, collateral of one vouches for nothing of another.
[[nodiscard]] Result<Verdict, VerifyFailure> appraise(ByteSpan quote, const Collateral& collateral,
                                                      const TrustAnchors& anchors, UnixTime now);

// Which enclave, if the policy wants one. A field without a value is not compared.
struct EnclaveRule {
  std::optional<sgx::Measurement> mrenclave;
  std::optional<sgx::Measurement> mrsigner;
  std::optional<std::uint16_t> isvprodid;
  std::uint16_t min_isvsvn = 0;
};

struct Policy {
  std::uint32_t accepted_tcb = 1u << static_cast<unsigned>(TcbStatus::kUpToDate);  // bit set over TcbStatus
  std::uint32_t min_evaluation_number = 0;
  bool allow_debug = false;
  EnclaveRule enclave;
};

// Applies `policy` to a verdict that must still be valid at `now`; nullopt if it is accepted. kRevoked never is.
[[nodiscard]] std::optional<VerifyFailure> judge(const Verdict& verdict, const Policy& policy, UnixTime now);

// appraise and judge.
[[nodiscard]] Result<Verdict, VerifyFailure> verify(ByteSpan quote, const Collateral& collateral,
                                                    const TrustAnchors& anchors, UnixTime now, const Policy& policy);

}  // namespace sealift::attestation

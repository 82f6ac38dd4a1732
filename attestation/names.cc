// Names of verification errors.
#include "attestation/verify.h"

namespace sealift::attestation {

const char* verify_error_name(VerifyError error) noexcept {
  switch (error) {
    case VerifyError::kMalformedQuote:
      return "malformed-quote";
    case VerifyError::kMalformedCollateral:
      return "malformed-collateral";
    case VerifyError::kMalformedTcbInfo:
      return "malformed-tcb-info";
    case VerifyError::kMalformedQeIdentity:
      return "malformed-qe-identity";
    case VerifyError::kBadPckExtension:
      return "bad-pck-extension";
    case VerifyError::kPckChain:
      return "pck-chain";
    case VerifyError::kTcbInfoChain:
      return "tcb-info-chain";
    case VerifyError::kQeIdentityChain:
      return "qe-identity-chain";
    case VerifyError::kPckCrl:
      return "pck-crl";
    case VerifyError::kRootCaCrl:
      return "root-ca-crl";
    case VerifyError::kUnknownQeVendor:
      return "unknown-qe-vendor";
    case VerifyError::kBadQeReportSignature:
      return "bad-qe-report-signature";
    case VerifyError::kAttestationKeyNotBound:
      return "attestation-key-not-bound";
    case VerifyError::kBadQuoteSignature:
      return "bad-quote-signature";
    case VerifyError::kBadTcbInfoSignature:
      return "bad-tcb-info-signature";
    case VerifyError::kBadQeIdentitySignature:
      return "bad-qe-identity-signature";
    case VerifyError::kTcbInfoNotYetValid:
      return "tcb-info-not-yet-valid";
    case VerifyError::kTcbInfoExpired:
      return "tcb-info-expired";
    case VerifyError::kQeIdentityNotYetValid:
      return "qe-identity-not-yet-valid";
    case VerifyError::kQeIdentityExpired:
      return "qe-identity-expired";
    case VerifyError::kTcbInfoWrongId:
      return "tcb-info-wrong-id";
    case VerifyError::kTcbInfoOtherPlatform:
      return "tcb-info-other-platform";
    case VerifyError::kQeIdentityWrongId:
      return "qe-identity-wrong-id";
    case VerifyError::kQeIdentityMismatch:
      return "qe-identity-mismatch";
    case VerifyError::kTcbNotRecognized:
      return "tcb-not-recognized";
    case VerifyError::kQeTcbNotRecognized:
      return "qe-tcb-not-recognized";
    case VerifyError::kTcbRevoked:
      return "tcb-revoked";
    case VerifyError::kTcbRefused:
      return "tcb-refused";
    case VerifyError::kEvaluationTooOld:
      return "evaluation-too-old";
    case VerifyError::kDebugEnclave:
      return "debug-enclave";
    case VerifyError::kEnclaveRefused:
      return "enclave-refused";
    case VerifyError::kVerdictExpired:
      return "verdict-expired";
  }
  return "unknown";
}

}  // namespace sealift::attestation

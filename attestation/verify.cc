#include "attestation/verify.h"

#include <algorithm>
#include <limits>

namespace sealift::attestation {
namespace {

using Failure = std::optional<VerifyFailure>;

template <class Cause>
VerifyFailure failure(VerifyError error, Cause cause) noexcept {
  return {error, static_cast<int>(cause)};
}

VerifyFailure failure(VerifyError error) noexcept {
  return {error, -1};
}

// Everything decoded, nothing believed yet.
struct Evidence {
  Quote quote;
  Chain pck_chain;
  PckExtension pck;
  CrlPtr pck_crl, root_crl;
  SignedDocument<TcbInfo> tcb_info;
  Chain tcb_info_chain;
  SignedDocument<QeIdentity> qe_identity;
  Chain qe_identity_chain;
};

// Moves a decoder's value to `out`, or turns its error into a failure.
template <class T, class E>
Failure take(Result<T, E> result, VerifyError error, T& out) {
  if (!result) return failure(error, result.error());
  out = std::move(result).value();
  return std::nullopt;
}

Failure decode(ByteSpan quote, const Collateral& collateral, Evidence& out) {
  if (auto f = take(parse_quote(quote), VerifyError::kMalformedQuote, out.quote)) return f;
  if (auto f = take(parse_chain(out.quote.pck_chain()), VerifyError::kPckChain, out.pck_chain)) return f;
  if (auto f = take(parse_crl(collateral.pck_crl), VerifyError::kPckCrl, out.pck_crl)) return f;
  if (auto f = take(parse_crl(collateral.root_ca_crl), VerifyError::kRootCaCrl, out.root_crl)) return f;
  if (auto f = take(parse_chain(collateral.tcb_info_issuer_chain), VerifyError::kTcbInfoChain, out.tcb_info_chain)) {
    return f;
  }
  if (auto f = take(parse_chain(collateral.qe_identity_issuer_chain), VerifyError::kQeIdentityChain,
                    out.qe_identity_chain)) {
    return f;
  }
  if (auto f = take(parse_tcb_info(collateral.tcb_info), VerifyError::kMalformedTcbInfo, out.tcb_info)) return f;
  return take(parse_qe_identity(collateral.qe_identity), VerifyError::kMalformedQeIdentity, out.qe_identity);
}

// Narrows `anchors` to the root of the quote's own chain before it looks at the collateral's.
Failure check_certificates(const Evidence& evidence, TrustAnchors& anchors, UnixTime now, UnixTime& expiry) {
  const std::vector<X509_CRL*> root_only = {evidence.root_crl.get()};
  const std::vector<X509_CRL*> both = {evidence.root_crl.get(), evidence.pck_crl.get()};
  const auto check = [&](const Chain& chain, ChainRole role, const std::vector<X509_CRL*>& crls,
                         VerifyError error) -> Failure {
    const auto checked = check_chain(chain, role, crls, anchors, now);
    if (!checked) return failure(error, checked.error());
    expiry = std::min(expiry, checked.value().expiry);
    anchors.roots = {checked.value().root};
    return std::nullopt;
  };
  if (auto f = check(evidence.pck_chain, ChainRole::kPck, both, VerifyError::kPckChain)) return f;
  if (auto f = check(evidence.tcb_info_chain, ChainRole::kTcbSigner, root_only, VerifyError::kTcbInfoChain)) return f;
  return check(evidence.qe_identity_chain, ChainRole::kTcbSigner, root_only, VerifyError::kQeIdentityChain);
}

EVP_PKEY* leaf_key(const Chain& chain) noexcept {
  return X509_get0_pubkey(chain.front().get());
}

Failure check_quote_signatures(const Evidence& evidence) {
  const Quote& quote = evidence.quote;
  if (std::memcmp(quote.signed_part.header.qe_vendor_id, sgx::quote::kIntelQeVendorId,
                  sizeof sgx::quote::kIntelQeVendorId) != 0) {
    return failure(VerifyError::kUnknownQeVendor);
  }
  if (!p256_verify(leaf_key(evidence.pck_chain), object_bytes(quote.qe_report), quote.qe_report_signature)) {
    return failure(VerifyError::kBadQeReportSignature);
  }
  std::array<std::uint8_t, sizeof quote.qe_report.reportdata> bound{};
  const Digest digest = sha256(quote.attestation_key, quote.qe_auth_data);
  std::ranges::copy(digest, bound.begin());
  if (std::memcmp(quote.qe_report.reportdata, bound.data(), bound.size()) != 0) {
    return failure(VerifyError::kAttestationKeyNotBound);
  }
  const KeyPtr key = p256_key(quote.attestation_key);
  if (!key || !p256_verify(key.get(), object_bytes(quote.signed_part), quote.signature)) {
    return failure(VerifyError::kBadQuoteSignature);
  }
  return std::nullopt;
}

Failure check_documents(const Evidence& evidence, UnixTime now, UnixTime& expiry) {
  if (!p256_verify(leaf_key(evidence.tcb_info_chain), text_bytes(evidence.tcb_info.body),
                   evidence.tcb_info.signature)) {
    return failure(VerifyError::kBadTcbInfoSignature);
  }
  if (!p256_verify(leaf_key(evidence.qe_identity_chain), text_bytes(evidence.qe_identity.body),
                   evidence.qe_identity.signature)) {
    return failure(VerifyError::kBadQeIdentitySignature);
  }
  const TcbInfo& tcb = evidence.tcb_info.value;
  const QeIdentity& qe = evidence.qe_identity.value;
  if (tcb.id != "SGX") return failure(VerifyError::kTcbInfoWrongId);
  if (qe.id != "QE") return failure(VerifyError::kQeIdentityWrongId);
  if (now < tcb.issue_date) return failure(VerifyError::kTcbInfoNotYetValid);
  if (now >= tcb.next_update) return failure(VerifyError::kTcbInfoExpired);
  if (now < qe.issue_date) return failure(VerifyError::kQeIdentityNotYetValid);
  if (now >= qe.next_update) return failure(VerifyError::kQeIdentityExpired);
  expiry = std::min({expiry, tcb.next_update, qe.next_update});
  if (tcb.fmspc != evidence.pck.fmspc || tcb.pceid != evidence.pck.pceid) {
    return failure(VerifyError::kTcbInfoOtherPlatform);
  }
  return std::nullopt;
}

// (value & mask) == expected, over bytes in memory order.
template <std::size_t N>
bool masked_equal(const void* value, const std::array<std::uint8_t, N>& mask,
                  const std::array<std::uint8_t, N>& expected) noexcept {
  const auto* bytes = static_cast<const std::uint8_t*>(value);
  for (std::size_t i = 0; i < N; ++i) {
    if ((bytes[i] & mask[i]) != expected[i]) return false;
  }
  return true;
}

Failure check_qe(const sgx::ReportBody& report, const QeIdentity& identity) noexcept {
  const auto mismatch = [](QeField field) { return failure(VerifyError::kQeIdentityMismatch, field); };
  if (!masked_equal(&report.miscselect, identity.miscselect_mask, identity.miscselect)) {
    return mismatch(QeField::kMiscselect);
  }
  if (!masked_equal(&report.attributes, identity.attributes_mask, identity.attributes)) {
    return mismatch(QeField::kAttributes);
  }
  if (std::memcmp(report.mrsigner.bytes, identity.mrsigner.data(), identity.mrsigner.size()) != 0) {
    return mismatch(QeField::kMrsigner);
  }
  if (report.isvprodid != identity.isvprodid) return mismatch(QeField::kIsvprodid);
  return std::nullopt;
}

// The first, so the best, published level that the platform reaches in every component.
const TcbLevel* platform_level(const TcbInfo& info, const PckExtension& pck) noexcept {
  for (const TcbLevel& level : info.levels) {
    bool reached = pck.pcesvn >= level.pcesvn;
    for (std::size_t i = 0; i < level.components.size(); ++i) {
      reached = reached && pck.components[i] >= level.components[i];
    }
    if (reached) return &level;
  }
  return nullptr;
}

const QeLevel* qe_level(const QeIdentity& identity, std::uint16_t isvsvn) noexcept {
  const auto level = std::ranges::find_if(identity.levels, [&](const QeLevel& l) { return isvsvn >= l.isvsvn; });
  return level == identity.levels.end() ? nullptr : &*level;
}

std::vector<std::string> merge(const std::vector<std::string>& a, const std::vector<std::string>& b) {
  std::vector<std::string> all = a;
  all.insert(all.end(), b.begin(), b.end());
  std::ranges::sort(all);
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

}  // namespace

Result<Verdict, VerifyFailure> appraise(ByteSpan quote, const Collateral& collateral, const TrustAnchors& anchors,
                                        UnixTime now) {
  Evidence evidence;
  UnixTime expiry = std::numeric_limits<UnixTime>::max();
  TrustAnchors root = anchors;
  if (const auto f = decode(quote, collateral, evidence)) return *f;
  if (const auto f = check_certificates(evidence, root, now, expiry)) return *f;
  if (const auto f =
          take(parse_pck_extension(evidence.pck_chain.front().get()), VerifyError::kBadPckExtension, evidence.pck)) {
    return *f;
  }
  if (const auto f = check_quote_signatures(evidence)) return *f;
  if (const auto f = check_documents(evidence, now, expiry)) return *f;

  const TcbInfo& tcb = evidence.tcb_info.value;
  const QeIdentity& qe = evidence.qe_identity.value;
  if (const auto f = check_qe(evidence.quote.qe_report, qe)) return *f;
  const TcbLevel* platform = platform_level(tcb, evidence.pck);
  if (!platform) return failure(VerifyError::kTcbNotRecognized);
  const QeLevel* quoting = qe_level(qe, evidence.quote.qe_report.isvsvn);
  if (!quoting) return failure(VerifyError::kQeTcbNotRecognized);

  Verdict verdict;
  verdict.report = evidence.quote.signed_part.body;
  verdict.status = combine(platform->status, quoting->status);
  verdict.platform_status = platform->status;
  verdict.qe_status = quoting->status;
  verdict.advisories = merge(platform->advisories, quoting->advisories);
  verdict.tcb_date = platform->tcb_date;
  verdict.development_root = root.roots.front().development;
  verdict.expiry = expiry;
  verdict.tcb_evaluation_number = std::min(tcb.evaluation_number, qe.evaluation_number);
  verdict.platform = evidence.pck;
  return verdict;
}

std::optional<VerifyFailure> judge(const Verdict& verdict, const Policy& policy, UnixTime now) {
  const sgx::ReportBody& report = verdict.report;
  if (now >= verdict.expiry) return failure(VerifyError::kVerdictExpired);
  if (verdict.status == TcbStatus::kRevoked) return failure(VerifyError::kTcbRevoked);
  if ((policy.accepted_tcb >> static_cast<unsigned>(verdict.status) & 1) == 0) {
    return failure(VerifyError::kTcbRefused, verdict.status);
  }
  if (verdict.tcb_evaluation_number < policy.min_evaluation_number) return failure(VerifyError::kEvaluationTooOld);
  if ((report.attributes.flags & sgx::attribute::kDebug) != 0 && !policy.allow_debug) {
    return failure(VerifyError::kDebugEnclave);
  }
  const EnclaveRule& rule = policy.enclave;
  const bool accepted = (!rule.mrenclave || *rule.mrenclave == report.mrenclave) &&
                        (!rule.mrsigner || *rule.mrsigner == report.mrsigner) &&
                        (!rule.isvprodid || *rule.isvprodid == report.isvprodid) && report.isvsvn >= rule.min_isvsvn;
  if (!accepted) return failure(VerifyError::kEnclaveRefused);
  return std::nullopt;
}

Result<Verdict, VerifyFailure> verify(ByteSpan quote, const Collateral& collateral, const TrustAnchors& anchors,
                                      UnixTime now, const Policy& policy) {
  Result<Verdict, VerifyFailure> verdict = appraise(quote, collateral, anchors, now);
  if (!verdict) return verdict;
  if (const auto refused = judge(verdict.value(), policy, now)) return *refused;
  return verdict;
}

}  // namespace sealift::attestation

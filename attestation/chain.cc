#include "attestation/chain.h"

#include <openssl/err.h>
#include <openssl/pem.h>

#include <algorithm>
#include <ctime>
#include <limits>

namespace sealift::attestation {
namespace {

constexpr std::size_t kPckChainLength = 3;
constexpr std::size_t kSignerChainLength = 2;

template <class T>
T checked(T pointer) {
  if (!pointer) throw std::bad_alloc();
  return pointer;
}

BioPtr memory_bio(ByteSpan bytes) {
  return BioPtr(checked(BIO_new_mem_buf(bytes.data(), static_cast<int>(bytes.size()))));
}

// Whether the subject's common name ends in `suffix`. The prefix is the maker's ("Intel", "softsgx development").
bool common_name_ends(const X509* certificate, std::string_view suffix) noexcept {
  const X509_NAME* subject = X509_get_subject_name(certificate);
  const int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
  if (at < 0 || X509_NAME_get_index_by_NID(subject, NID_commonName, at) >= 0) return false;
  const ASN1_STRING* name = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at));
  return as_text({ASN1_STRING_get0_data(name), static_cast<std::size_t>(ASN1_STRING_length(name))}).ends_with(suffix);
}

bool self_issued(const X509* certificate) noexcept {
  return X509_NAME_cmp(X509_get_subject_name(certificate), X509_get_issuer_name(certificate)) == 0;
}

// `path` runs from the leaf to the root, as verified.
bool has_role(const STACK_OF(X509) * path, ChainRole role) noexcept {
  X509* leaf = sk_X509_value(path, 0);
  if (X509_check_ca(leaf) != 0) return false;
  if (role == ChainRole::kTcbSigner) return common_name_ends(leaf, "SGX TCB Signing");
  const X509* issuer = sk_X509_value(path, 1);
  return common_name_ends(leaf, "SGX PCK Certificate") &&
         (common_name_ends(issuer, "SGX PCK Platform CA") || common_name_ends(issuer, "SGX PCK Processor CA"));
}

std::optional<UnixTime> asn1_time(const ASN1_TIME* time) noexcept {
  std::tm t{};
  if (!time || ASN1_TIME_to_tm(time, &t) != 1) return std::nullopt;
  return unix_time(t.tm_year + 1900, t.tm_mon + 1, t.tm_mday, t.tm_hour, t.tm_min, t.tm_sec);
}

ChainError classify(int error) noexcept {
  switch (error) {
    case X509_V_ERR_CERT_NOT_YET_VALID:
      return ChainError::kNotYetValid;
    case X509_V_ERR_CERT_HAS_EXPIRED:
      return ChainError::kExpired;
    case X509_V_ERR_CERT_REVOKED:
      return ChainError::kRevoked;
    case X509_V_ERR_UNABLE_TO_GET_CRL:
    case X509_V_ERR_UNABLE_TO_GET_CRL_ISSUER:
    case X509_V_ERR_DIFFERENT_CRL_SCOPE:
      return ChainError::kNoCrl;
    case X509_V_ERR_CRL_SIGNATURE_FAILURE:
    case X509_V_ERR_UNABLE_TO_DECRYPT_CRL_SIGNATURE:
    case X509_V_ERR_KEYUSAGE_NO_CRL_SIGN:
    case X509_V_ERR_UNHANDLED_CRITICAL_CRL_EXTENSION:
    case X509_V_ERR_ERROR_IN_CRL_LAST_UPDATE_FIELD:
    case X509_V_ERR_ERROR_IN_CRL_NEXT_UPDATE_FIELD:
      return ChainError::kBadCrl;
    case X509_V_ERR_CRL_NOT_YET_VALID:
      return ChainError::kCrlNotYetValid;
    case X509_V_ERR_CRL_HAS_EXPIRED:
      return ChainError::kCrlExpired;
    default:
      return ChainError::kBrokenChain;
  }
}

struct PinnedRoot {
  X509* certificate = nullptr;  // owned by the chain
  TrustAnchor anchor;
};

std::optional<PinnedRoot> pinned_root(const Chain& chain, const TrustAnchors& anchors) {
  for (const CertPtr& certificate : chain) {
    if (!self_issued(certificate.get())) continue;
    const auto key = p256_point(X509_get0_pubkey(certificate.get()));
    if (!key) continue;
    const auto anchor = std::ranges::find(anchors.roots, *key, &TrustAnchor::key);
    if (anchor != anchors.roots.end()) return PinnedRoot{certificate.get(), *anchor};
  }
  return std::nullopt;
}

struct FreeShallow {
  void operator()(STACK_OF(X509) * stack) const noexcept { sk_X509_free(stack); }
};

// OpenSSL's verification with `root` as the only anchor and its clock set to `now`.
StoreContextPtr verify_path(const Chain& chain, X509* root, const std::vector<X509_CRL*>& crls, UnixTime now) {
  const StorePtr store(checked(X509_STORE_new()));
  X509_STORE_add_cert(store.get(), root);
  for (X509_CRL* crl : crls) X509_STORE_add_crl(store.get(), crl);
  const std::unique_ptr<STACK_OF(X509), FreeShallow> others(checked(sk_X509_new_null()));
  for (const CertPtr& certificate : chain) {
    if (certificate.get() != root) sk_X509_push(others.get(), certificate.get());
  }
  StoreContextPtr context(checked(X509_STORE_CTX_new()));
  if (X509_STORE_CTX_init(context.get(), store.get(), chain.front().get(), others.get()) != 1) throw std::bad_alloc();
  X509_VERIFY_PARAM* param = X509_STORE_CTX_get0_param(context.get());
  X509_VERIFY_PARAM_set_time(param, static_cast<std::time_t>(now));
  X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_X509_STRICT | X509_V_FLAG_CHECK_SS_SIGNATURE | X509_V_FLAG_CRL_CHECK |
                                         X509_V_FLAG_CRL_CHECK_ALL);
  if (X509_verify_cert(context.get()) != 1 && X509_STORE_CTX_get_error(context.get()) == X509_V_OK) {
    X509_STORE_CTX_set_error(context.get(), X509_V_ERR_UNSPECIFIED);
  }
  ERR_clear_error();
  return context;
}

// The first notAfter or nextUpdate of the path and of the lists that its issuers signed.
std::optional<UnixTime> earliest_expiry(const STACK_OF(X509) * path, const std::vector<X509_CRL*>& crls) noexcept {
  UnixTime earliest = std::numeric_limits<UnixTime>::max();
  for (int i = 0; i < sk_X509_num(path); ++i) {
    const X509* certificate = sk_X509_value(path, i);
    const auto not_after = asn1_time(X509_get0_notAfter(certificate));
    if (!not_after) return std::nullopt;
    earliest = std::min(earliest, *not_after);
    for (const X509_CRL* crl : crls) {
      if (X509_NAME_cmp(X509_CRL_get_issuer(crl), X509_get_subject_name(certificate)) != 0) continue;
      const auto next = asn1_time(X509_CRL_get0_nextUpdate(crl));
      if (!next) return std::nullopt;  // a list without an end would never have to be renewed
      earliest = std::min(earliest, *next);
    }
  }
  return earliest;
}

}  // namespace

Result<Chain, ChainError> parse_chain(std::string_view pem) {
  Chain chain;
  const BioPtr bio = memory_bio(text_bytes(pem));
  while (X509* certificate = PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr)) {
    chain.emplace_back(certificate);
    if (chain.size() > kPckChainLength) return ChainError::kWrongLength;
  }
  const bool ended = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  ERR_clear_error();
  if (chain.empty() || !ended) return ChainError::kMalformedPem;
  return chain;
}

Result<CrlPtr, ChainError> parse_crl(ByteSpan bytes) {
  CrlPtr crl;
  std::string_view text = as_text(bytes);
  while (!text.empty() && (text.back() == '\n' || text.back() == '\0')) text.remove_suffix(1);
  if (text.starts_with("-----BEGIN")) {
    crl.reset(PEM_read_bio_X509_CRL(memory_bio(text_bytes(text)).get(), nullptr, nullptr, nullptr));
  } else {
    const auto digits = decode_hex(text);
    const ByteSpan der = digits ? ByteSpan(*digits) : bytes;
    const std::uint8_t* at = der.data();
    crl.reset(d2i_X509_CRL(nullptr, &at, static_cast<long>(der.size())));
    if (crl && at != der.data() + der.size()) crl.reset();
  }
  ERR_clear_error();
  if (!crl) return ChainError::kMalformedCrl;
  return crl;
}

Result<CheckedChain, ChainError> check_chain(const Chain& chain, ChainRole role, const std::vector<X509_CRL*>& crls,
                                             const TrustAnchors& anchors, UnixTime now) {
  const std::size_t length = role == ChainRole::kPck ? kPckChainLength : kSignerChainLength;
  if (chain.size() != length) return ChainError::kWrongLength;
  const auto root = pinned_root(chain, anchors);
  if (!root) return ChainError::kUntrustedRoot;
  const StoreContextPtr context = verify_path(chain, root->certificate, crls, now);
  const int error = X509_STORE_CTX_get_error(context.get());
  if (error != X509_V_OK) return classify(error);
  const STACK_OF(X509)* path = X509_STORE_CTX_get0_chain(context.get());
  if (static_cast<std::size_t>(sk_X509_num(path)) != length || !has_role(path, role)) return ChainError::kWrongRole;
  const auto expiry = earliest_expiry(path, crls);
  if (!expiry) return ChainError::kBadCrl;
  return CheckedChain{*expiry, root->anchor};
}

}  // namespace sealift::attestation

#include "softsgx/isa/sigstruct.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>
#include <openssl/sha.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "softsgx/isa/secinfo.h"

namespace softsgx {
namespace {

constexpr std::uint32_t kIntelVendor = 0x8086;
constexpr std::uint32_t kExponent = 3;

template <auto Free>
struct Deleter {
  template <typename T>
  void operator()(T* p) const noexcept {
    Free(p);
  }
};
using Bn = std::unique_ptr<BIGNUM, Deleter<BN_free>>;
using BnCtx = std::unique_ptr<BN_CTX, Deleter<BN_CTX_free>>;
using Pkey = std::unique_ptr<EVP_PKEY, Deleter<EVP_PKEY_free>>;
using PkeyCtx = std::unique_ptr<EVP_PKEY_CTX, Deleter<EVP_PKEY_CTX_free>>;
using MdCtx = std::unique_ptr<EVP_MD_CTX, Deleter<EVP_MD_CTX_free>>;
using ParamBld = std::unique_ptr<OSSL_PARAM_BLD, Deleter<OSSL_PARAM_BLD_free>>;
using Params = std::unique_ptr<OSSL_PARAM, Deleter<OSSL_PARAM_free>>;

// The host program may use the same libcrypto; failures here must not show up in its error queue.
class ErrorMark {
 public:
  ErrorMark() noexcept { ERR_set_mark(); }
  ~ErrorMark() { ERR_pop_to_mark(); }
  ErrorMark(const ErrorMark&) = delete;
  ErrorMark& operator=(const ErrorMark&) = delete;
};

Bn number(const std::uint8_t (&little_endian)[sgx::kRsaBytes]) noexcept {
  return Bn(BN_lebin2bn(little_endian, sgx::kRsaBytes, nullptr));
}

// q1 = floor(S^2 / M), q2 = floor((S^3 - q1*S*M) / M) = floor(S * (S^2 mod M) / M).
bool quotients_match(const sgx::Sigstruct& s, const BIGNUM* modulus, const BIGNUM* signature) noexcept {
  const Bn q1 = number(s.q1), q2 = number(s.q2);
  const Bn square(BN_new()), quotient(BN_new()), remainder(BN_new()), product(BN_new());
  const BnCtx ctx(BN_CTX_new());
  if (!q1 || !q2 || !square || !quotient || !remainder || !product || !ctx) return false;
  if (BN_sqr(square.get(), signature, ctx.get()) != 1 ||
      BN_div(quotient.get(), remainder.get(), square.get(), modulus, ctx.get()) != 1 ||
      BN_cmp(quotient.get(), q1.get()) != 0) {
    return false;
  }
  return BN_mul(product.get(), signature, remainder.get(), ctx.get()) == 1 &&
         BN_div(quotient.get(), nullptr, product.get(), modulus, ctx.get()) == 1 &&
         BN_cmp(quotient.get(), q2.get()) == 0;
}

Pkey public_key(const BIGNUM* modulus) noexcept {
  const Bn exponent(BN_new());
  const ParamBld builder(OSSL_PARAM_BLD_new());
  const PkeyCtx ctx(EVP_PKEY_CTX_new_from_name(nullptr, "RSA", nullptr));
  if (!exponent || !builder || !ctx || BN_set_word(exponent.get(), kExponent) != 1 ||
      OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_N, modulus) != 1 ||
      OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_E, exponent.get()) != 1) {
    return nullptr;
  }
  const Params params(OSSL_PARAM_BLD_to_param(builder.get()));
  EVP_PKEY* key = nullptr;
  if (!params || EVP_PKEY_fromdata_init(ctx.get()) != 1 ||
      EVP_PKEY_fromdata(ctx.get(), &key, EVP_PKEY_PUBLIC_KEY, params.get()) != 1) {
    return nullptr;
  }
  return Pkey(key);
}

}  // namespace

bool sigstruct_well_formed(const sgx::Sigstruct& s) noexcept {
  return std::memcmp(s.header, sgx::kSigstructHeader, sizeof(s.header)) == 0 &&
         (s.vendor == 0 || s.vendor == kIntelVendor) &&
         std::memcmp(s.header2, sgx::kSigstructHeader2, sizeof(s.header2)) == 0 && s.exponent == kExponent &&
         all_zero(s.reserved1) && all_zero(s.reserved2) && all_zero(s.reserved3) && all_zero(s.reserved4);
}

bool sigstruct_signature_valid(const sgx::Sigstruct& s) noexcept {
  const ErrorMark mark;
  const Bn modulus = number(s.modulus), signature = number(s.signature);
  if (!modulus || !signature || BN_is_zero(modulus.get()) || !quotients_match(s, modulus.get(), signature.get()))
    return false;
  const Pkey key = public_key(modulus.get());
  const MdCtx ctx(EVP_MD_CTX_new());
  if (!key || !ctx) return false;
  std::uint8_t big_endian[sgx::kRsaBytes];
  std::reverse_copy(std::begin(s.signature), std::end(s.signature), std::begin(big_endian));
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(&s);
  return EVP_DigestVerifyInit(ctx.get(), nullptr, EVP_sha256(), nullptr, key.get()) == 1 &&
         EVP_DigestVerifyUpdate(ctx.get(), bytes, sgx::kSigstructSignedHead) == 1 &&
         EVP_DigestVerifyUpdate(ctx.get(), bytes + sgx::kSigstructBody, sgx::kSigstructBodySize) == 1 &&
         EVP_DigestVerifyFinal(ctx.get(), big_endian, sizeof(big_endian)) == 1;
}

sgx::Measurement sigstruct_mrsigner(const sgx::Sigstruct& s) noexcept {
  sgx::Measurement out;
  SHA256(s.modulus, sizeof(s.modulus), out.bytes);
  return out;
}

}  // namespace softsgx

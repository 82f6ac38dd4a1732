#include "softsgx/tests/abi/signer.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

namespace third_party {
namespace {

void check(bool ok) {
  if (!ok) std::abort();
}

EVP_PKEY* key_in(const char* file) {
  FILE* in = std::fopen(file, "r");
  check(in != nullptr);
  EVP_PKEY* k = PEM_read_PrivateKey(in, nullptr, nullptr, nullptr);
  std::fclose(in);
  check(k != nullptr);
  return k;
}

EVP_PKEY* key() {
  static EVP_PKEY* const made = [] {
    if (const char* file = std::getenv("ABI_KEY")) return key_in(file);
    EVP_PKEY_CTX* c = EVP_PKEY_CTX_new_id(EVP_PKEY_RSA, nullptr);
    BIGNUM* three = BN_new();
    BN_set_word(three, 3);
    EVP_PKEY* k = nullptr;
    check(EVP_PKEY_keygen_init(c) == 1 && EVP_PKEY_CTX_set_rsa_keygen_bits(c, 3072) == 1 &&
          EVP_PKEY_CTX_set1_rsa_keygen_pubexp(c, three) == 1 && EVP_PKEY_keygen(c, &k) == 1);
    BN_free(three);
    EVP_PKEY_CTX_free(c);
    return k;
  }();
  return made;
}

void little_endian(const BIGNUM* v, std::uint8_t (&out)[sgx::kRsaBytes]) {
  check(BN_bn2lebinpad(v, out, sizeof out) == static_cast<int>(sizeof out));
}

// q1 = floor(s^2 / m), q2 = floor((s^3 - q1*s*m) / m) (SDM 3D, EINIT).
void quotients(const BIGNUM* s, const BIGNUM* m, sgx::Sigstruct& out) {
  BN_CTX* c = BN_CTX_new();
  BIGNUM *q1 = BN_new(), *r = BN_new(), *t = BN_new(), *q2 = BN_new();
  check(BN_sqr(t, s, c) && BN_div(q1, r, t, m, c) && BN_mul(t, r, s, c) && BN_div(q2, r, t, m, c));
  little_endian(q1, out.q1);
  little_endian(q2, out.q2);
  for (BIGNUM* b : {q1, r, t, q2}) BN_free(b);
  BN_CTX_free(c);
}

}  // namespace

sgx::Sigstruct sign_sigstruct(const SignRequest& request) {
  sgx::Sigstruct s{};
  std::memcpy(s.header, sgx::kSigstructHeader, sizeof s.header);
  std::memcpy(s.header2, sgx::kSigstructHeader2, sizeof s.header2);
  s.date = 0x20240229;
  s.exponent = 3;
  s.miscselect = request.miscselect;
  s.miscmask = ~0u;
  s.attributes = request.attributes;
  s.attributemask = {~0ull & ~sgx::attribute::kDebug, ~0ull};
  s.enclavehash = request.enclavehash;
  s.isvprodid = request.isvprodid;
  s.isvsvn = request.isvsvn;

  std::vector<std::uint8_t> signed_bytes(sgx::kSigstructSignedHead + sgx::kSigstructBodySize);
  const auto* raw = reinterpret_cast<const std::uint8_t*>(&s);
  std::memcpy(signed_bytes.data(), raw, sgx::kSigstructSignedHead);
  std::memcpy(signed_bytes.data() + sgx::kSigstructSignedHead, raw + sgx::kSigstructBody, sgx::kSigstructBodySize);

  BIGNUM* modulus = nullptr;
  check(EVP_PKEY_get_bn_param(key(), OSSL_PKEY_PARAM_RSA_N, &modulus) == 1);
  little_endian(modulus, s.modulus);
  std::uint8_t signature[sgx::kRsaBytes];
  std::size_t length = sizeof signature;
  EVP_MD_CTX* c = EVP_MD_CTX_new();
  check(EVP_DigestSignInit(c, nullptr, EVP_sha256(), nullptr, key()) == 1 &&
        EVP_DigestSign(c, signature, &length, signed_bytes.data(), signed_bytes.size()) == 1);
  EVP_MD_CTX_free(c);
  BIGNUM* value = BN_bin2bn(signature, static_cast<int>(length), nullptr);
  little_endian(value, s.signature);
  quotients(value, modulus, s);
  BN_free(value);
  BN_free(modulus);
  return s;
}

}  // namespace third_party

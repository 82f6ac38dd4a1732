#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/kdf.h>
#include <openssl/obj_mac.h>
#include <openssl/params.h>

#include <cstring>

#include "softsgx/quoting/check.h"
#include "softsgx/quoting/pki.h"

namespace softsgx::quoting {
namespace {

struct FreeBignum {
  void operator()(BIGNUM* number) const noexcept { BN_clear_free(number); }
};
struct FreeGroup {
  void operator()(EC_GROUP* group) const noexcept { EC_GROUP_free(group); }
};
struct FreePoint {
  void operator()(EC_POINT* point) const noexcept { EC_POINT_free(point); }
};
struct FreeKeyContext {
  void operator()(EVP_PKEY_CTX* context) const noexcept { EVP_PKEY_CTX_free(context); }
};
struct FreeDigestContext {
  void operator()(EVP_MD_CTX* context) const noexcept { EVP_MD_CTX_free(context); }
};
struct FreeSignature {
  void operator()(ECDSA_SIG* signature) const noexcept { ECDSA_SIG_free(signature); }
};
using Bignum = std::unique_ptr<BIGNUM, FreeBignum>;

constexpr std::size_t kScalar = 32;

// Uniform in [1, order): 16 surplus bytes make the reduction's bias negligible (FIPS 186-5, A.2.1).
Bignum scalar_from(Span seed, std::string_view label, const EC_GROUP* group) {
  const Bytes wide = derive_bytes(seed, label, kScalar + 16);
  Bignum value(check(BN_bin2bn(wide.data(), static_cast<int>(wide.size()), nullptr)));
  const Bignum order(check(BN_dup(EC_GROUP_get0_order(group))));
  check(BN_sub_word(order.get(), 1));
  const std::unique_ptr<BN_CTX, decltype(&BN_CTX_free)> context(check(BN_CTX_new()), &BN_CTX_free);
  check(BN_mod(value.get(), value.get(), order.get(), context.get()));
  check(BN_add_word(value.get(), 1));
  return value;
}

}  // namespace

Bytes derive_bytes(Span seed, std::string_view label, std::size_t size) {
  const std::unique_ptr<EVP_PKEY_CTX, FreeKeyContext> context(check(EVP_PKEY_CTX_new_id(EVP_PKEY_HKDF, nullptr)));
  Bytes out(size);
  check(EVP_PKEY_derive_init(context.get()));
  check(EVP_PKEY_CTX_set_hkdf_md(context.get(), EVP_sha256()));
  check(EVP_PKEY_CTX_set1_hkdf_key(context.get(), seed.data(), static_cast<int>(seed.size())));
  check(EVP_PKEY_CTX_add1_hkdf_info(context.get(), reinterpret_cast<const unsigned char*>(label.data()),
                                    static_cast<int>(label.size())));
  check(EVP_PKEY_derive(context.get(), out.data(), &size));
  return out;
}

Key derive_key(Span seed, std::string_view label) {
  const std::unique_ptr<EC_GROUP, FreeGroup> group(check(EC_GROUP_new_by_curve_name(NID_X9_62_prime256v1)));
  const Bignum scalar = scalar_from(seed, label, group.get());
  const std::unique_ptr<EC_POINT, FreePoint> point(check(EC_POINT_new(group.get())));
  check(EC_POINT_mul(group.get(), point.get(), scalar.get(), nullptr, nullptr, nullptr));
  std::array<std::uint8_t, 1 + sgx::quote::kPublicKeySize> encoded;
  check(EC_POINT_point2oct(group.get(), point.get(), POINT_CONVERSION_UNCOMPRESSED, encoded.data(), encoded.size(),
                           nullptr) == encoded.size());
  std::array<std::uint8_t, kScalar> native;  // OSSL_PARAM integers have the machine's byte order
  check(BN_bn2nativepad(scalar.get(), native.data(), kScalar) == static_cast<int>(kScalar));
  char name[] = SN_X9_62_prime256v1;
  OSSL_PARAM params[] = {
      OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, name, 0),
      OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, encoded.data(), encoded.size()),
      OSSL_PARAM_construct_BN(OSSL_PKEY_PARAM_PRIV_KEY, native.data(), native.size()),
      OSSL_PARAM_construct_end(),
  };
  const std::unique_ptr<EVP_PKEY_CTX, FreeKeyContext> context(
      check(EVP_PKEY_CTX_new_from_name(nullptr, "EC", nullptr)));
  EVP_PKEY* key = nullptr;
  check(EVP_PKEY_fromdata_init(context.get()));
  check(EVP_PKEY_fromdata(context.get(), &key, EVP_PKEY_KEYPAIR, params));
  return Key(key);
}

PublicPoint public_point(const EVP_PKEY* key) {
  PublicPoint xy;
  for (const auto& [name, at] : {std::pair{OSSL_PKEY_PARAM_EC_PUB_X, 0}, std::pair{OSSL_PKEY_PARAM_EC_PUB_Y, 32}}) {
    BIGNUM* value = nullptr;
    check(EVP_PKEY_get_bn_param(key, name, &value));
    const Bignum owner(value);
    check(BN_bn2binpad(value, xy.data() + at, kScalar) == static_cast<int>(kScalar));
  }
  return xy;
}

RawSignature sign_raw(EVP_PKEY* key, Span message) {
  const std::unique_ptr<EVP_MD_CTX, FreeDigestContext> context(check(EVP_MD_CTX_new()));
  std::array<std::uint8_t, 80> der;
  std::size_t size = der.size();
  check(EVP_DigestSignInit(context.get(), nullptr, EVP_sha256(), nullptr, key));
  check(EVP_DigestSign(context.get(), der.data(), &size, message.data(), message.size()));
  const std::uint8_t* at = der.data();
  const std::unique_ptr<ECDSA_SIG, FreeSignature> rs(check(d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(size))));
  RawSignature raw;
  check(BN_bn2binpad(ECDSA_SIG_get0_r(rs.get()), raw.data(), kScalar) == static_cast<int>(kScalar));
  check(BN_bn2binpad(ECDSA_SIG_get0_s(rs.get()), raw.data() + kScalar, kScalar) == static_cast<int>(kScalar));
  return raw;
}

Digest sha256(Span first, Span second) {
  const std::unique_ptr<EVP_MD_CTX, FreeDigestContext> context(check(EVP_MD_CTX_new()));
  Digest digest;
  check(EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr));
  check(EVP_DigestUpdate(context.get(), first.data(), first.size()));
  check(EVP_DigestUpdate(context.get(), second.data(), second.size()));
  check(EVP_DigestFinal_ex(context.get(), digest.data(), nullptr));
  return digest;
}

}  // namespace softsgx::quoting

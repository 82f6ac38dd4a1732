#include "attestation/crypto.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/param_build.h>
#include <openssl/sha.h>

#include <new>

namespace sealift::attestation {
namespace {

constexpr std::size_t kCoordinate = sgx::quote::kPublicKeySize / 2;

template <class T>
T checked(T pointer) {
  if (!pointer) throw std::bad_alloc();
  return pointer;
}

bool coordinate(const EVP_PKEY* key, const char* name, std::uint8_t* out) {
  BIGNUM* value = nullptr;
  if (EVP_PKEY_get_bn_param(key, name, &value) != 1) return false;
  const BignumPtr owner(value);
  return BN_bn2binpad(value, out, kCoordinate) == static_cast<int>(kCoordinate);
}

}  // namespace

void isolate_crypto() {
  checked(OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, nullptr));
}

Digest sha256(ByteSpan first, ByteSpan second) {
  const DigestContextPtr context(checked(EVP_MD_CTX_new()));
  Digest digest;
  if (EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) != 1 ||
      EVP_DigestUpdate(context.get(), first.data(), first.size()) != 1 ||
      EVP_DigestUpdate(context.get(), second.data(), second.size()) != 1 ||
      EVP_DigestFinal_ex(context.get(), digest.data(), nullptr) != 1) {
    throw std::bad_alloc();  // SHA-256 itself cannot fail
  }
  return digest;
}

KeyPtr p256_key(const PublicKey& xy) {
  std::array<std::uint8_t, 1 + sgx::quote::kPublicKeySize> point;
  point[0] = POINT_CONVERSION_UNCOMPRESSED;
  std::memcpy(point.data() + 1, xy.data(), xy.size());
  char group[] = SN_X9_62_prime256v1;
  const OSSL_PARAM params[] = {
      OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group, 0),
      OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, point.data(), point.size()),
      OSSL_PARAM_construct_end(),
  };
  const KeyContextPtr context(checked(EVP_PKEY_CTX_new_from_name(nullptr, "EC", nullptr)));
  EVP_PKEY* key = nullptr;
  if (EVP_PKEY_fromdata_init(context.get()) != 1 ||
      EVP_PKEY_fromdata(context.get(), &key, EVP_PKEY_PUBLIC_KEY, const_cast<OSSL_PARAM*>(params)) != 1) {
    ERR_clear_error();
    return nullptr;
  }
  return KeyPtr(key);
}

std::optional<PublicKey> p256_point(const EVP_PKEY* key) {
  char group[32];
  if (!key || EVP_PKEY_get_utf8_string_param(key, OSSL_PKEY_PARAM_GROUP_NAME, group, sizeof group, nullptr) != 1 ||
      std::string_view(group) != SN_X9_62_prime256v1) {
    ERR_clear_error();
    return std::nullopt;
  }
  PublicKey xy;
  if (!coordinate(key, OSSL_PKEY_PARAM_EC_PUB_X, xy.data()) ||
      !coordinate(key, OSSL_PKEY_PARAM_EC_PUB_Y, xy.data() + kCoordinate)) {
    ERR_clear_error();
    return std::nullopt;
  }
  return xy;
}

bool p256_verify(EVP_PKEY* key, ByteSpan message, const Signature& signature) {
  const EcdsaSigPtr rs(checked(ECDSA_SIG_new()));
  BignumPtr r(checked(BN_bin2bn(signature.data(), kCoordinate, nullptr)));
  BignumPtr s(checked(BN_bin2bn(signature.data() + kCoordinate, kCoordinate, nullptr)));
  if (ECDSA_SIG_set0(rs.get(), r.get(), s.get()) != 1) return false;
  static_cast<void>(r.release());  // owned by `rs` now
  static_cast<void>(s.release());
  std::array<std::uint8_t, 80> der;  // two 33-byte integers and three headers
  std::uint8_t* end = der.data();
  const int size = i2d_ECDSA_SIG(rs.get(), &end);
  const DigestContextPtr context(checked(EVP_MD_CTX_new()));
  const bool valid =
      size > 0 && EVP_DigestVerifyInit(context.get(), nullptr, EVP_sha256(), nullptr, key) == 1 &&
      EVP_DigestVerify(context.get(), der.data(), static_cast<std::size_t>(size), message.data(), message.size()) == 1;
  if (!valid) ERR_clear_error();
  return valid;
}

}  // namespace sealift::attestation

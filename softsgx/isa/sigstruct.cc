#include "softsgx/isa/sigstruct.h"

#include <gmp.h>
#include <nettle/rsa.h>
#include <nettle/sha2.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <iterator>

#include "softsgx/isa/digest.h"
#include "softsgx/isa/secinfo.h"

namespace softsgx {
namespace {

constexpr std::uint32_t kIntelVendor = 0x8086;
constexpr std::uint32_t kExponent = 3;

class Number {
 public:
  Number() noexcept { mpz_init(value_); }
  explicit Number(const std::uint8_t (&little_endian)[sgx::kRsaBytes]) noexcept : Number() {
    mpz_import(value_, sgx::kRsaBytes, -1, 1, 0, 0, little_endian);
  }
  ~Number() { mpz_clear(value_); }
  Number(const Number&) = delete;
  Number& operator=(const Number&) = delete;

  [[nodiscard]] mpz_ptr get() noexcept { return value_; }
  [[nodiscard]] mpz_srcptr get() const noexcept { return value_; }

 private:
  mpz_t value_;
};

// q1 = floor(S^2 / M), q2 = floor((S^3 - q1*S*M) / M) = floor(S * (S^2 mod M) / M).
bool quotients_match(const sgx::Sigstruct& s, const Number& modulus, const Number& signature) noexcept {
  const Number q1(s.q1), q2(s.q2);
  Number product, quotient, remainder;
  mpz_mul(product.get(), signature.get(), signature.get());
  mpz_fdiv_qr(quotient.get(), remainder.get(), product.get(), modulus.get());
  if (mpz_cmp(quotient.get(), q1.get()) != 0) return false;
  mpz_mul(product.get(), signature.get(), remainder.get());
  mpz_fdiv_q(quotient.get(), product.get(), modulus.get());
  return mpz_cmp(quotient.get(), q2.get()) == 0;
}

class PublicKey {
 public:
  explicit PublicKey(const Number& modulus) noexcept {
    rsa_public_key_init(&key_);
    mpz_set(key_.n, modulus.get());
    mpz_set_ui(key_.e, kExponent);
  }
  ~PublicKey() { rsa_public_key_clear(&key_); }
  PublicKey(const PublicKey&) = delete;
  PublicKey& operator=(const PublicKey&) = delete;

  // PKCS#1 v1.5. `hash` is used up. False, too, if the modulus is not one of 384 bytes or makes no sense.
  [[nodiscard]] bool verifies(sha256_ctx& hash, const Number& signature) noexcept {
    return rsa_public_key_prepare(&key_) == 1 && key_.size == sgx::kRsaBytes &&
           rsa_sha256_verify(&key_, &hash, signature.get()) == 1;
  }

 private:
  rsa_public_key key_;
};

}  // namespace

bool sigstruct_well_formed(const sgx::Sigstruct& s) noexcept {
  return std::memcmp(s.header, sgx::kSigstructHeader, sizeof(s.header)) == 0 &&
         (s.vendor == 0 || s.vendor == kIntelVendor) &&
         std::memcmp(s.header2, sgx::kSigstructHeader2, sizeof(s.header2)) == 0 && s.exponent == kExponent &&
         all_zero(s.reserved1) && all_zero(s.reserved2) && all_zero(s.reserved3) && all_zero(s.reserved4);
}

bool sigstruct_signature_valid(const sgx::Sigstruct& s) noexcept {
  const Number modulus(s.modulus), signature(s.signature);
  if (mpz_sgn(modulus.get()) == 0 || !quotients_match(s, modulus, signature)) return false;
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(&s);
  sha256_ctx hash;
  sha256_init(&hash);
  sha256_update(&hash, sgx::kSigstructSignedHead, bytes);
  sha256_update(&hash, sgx::kSigstructBodySize, bytes + sgx::kSigstructBody);
  return PublicKey(modulus).verifies(hash, signature);
}

sgx::Measurement sigstruct_mrsigner(const sgx::Sigstruct& s) noexcept {
  const Digest digest = sha256(s.modulus, sizeof(s.modulus));
  sgx::Measurement out;
  std::copy(digest.begin(), digest.end(), std::begin(out.bytes));
  return out;
}

}  // namespace softsgx

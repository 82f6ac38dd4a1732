#include "trusted/agent/crypto.h"

#include <openssl/evp.h>
#include <sodium.h>

#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>

namespace sealift::agent {

namespace {

struct FreeCipher {
  void operator()(EVP_CIPHER_CTX* context) const { EVP_CIPHER_CTX_free(context); }
};
using Cipher = std::unique_ptr<EVP_CIPHER_CTX, FreeCipher>;

void need(bool done) {
  if (!done) std::abort();
}

int length(ByteView bytes) {
  need(bytes.size() <= static_cast<std::size_t>(std::numeric_limits<int>::max()));
  return static_cast<int>(bytes.size());
}

std::array<std::uint8_t, record::kNonceBytes> nonce_of(std::uint64_t sequence) {
  std::array<std::uint8_t, record::kNonceBytes> nonce{};
  for (std::size_t i = 0; i < 8; ++i) nonce[4 + i] = static_cast<std::uint8_t>(sequence >> (8 * i));
  return nonce;
}

}  // namespace

Digest sha256(std::initializer_list<ByteView> pieces) {
  crypto_hash_sha256_state state;
  crypto_hash_sha256_init(&state);
  for (const ByteView piece : pieces) crypto_hash_sha256_update(&state, piece.data(), piece.size());
  Digest digest;
  crypto_hash_sha256_final(&state, digest.data());
  wipe(&state, sizeof(state));
  return digest;
}

Digest hmac_sha256(const Key& key, ByteView data) {
  crypto_auth_hmacsha256_state state;
  crypto_auth_hmacsha256_init(&state, key.data(), key.size());
  crypto_auth_hmacsha256_update(&state, data.data(), data.size());
  Digest mac;
  crypto_auth_hmacsha256_final(&state, mac.data());
  wipe(&state, sizeof(state));
  return mac;
}

bool equal(ByteView a, ByteView b) noexcept {
  return a.size() == b.size() && (a.empty() || sodium_memcmp(a.data(), b.data(), a.size()) == 0);
}

Key hkdf_extract(const Digest& salt, const Key& ikm) {
  Digest prk = hmac_sha256(Key(salt), ikm.view());
  Key key{prk};
  wipe(prk.data(), prk.size());
  return key;
}

Key hkdf_expand(const Key& prk, std::string_view label) {
  std::vector<std::uint8_t> info(label.begin(), label.end());
  info.push_back(1);  // the counter of the first and only block
  Digest okm = hmac_sha256(prk, info);
  Key key{okm};
  wipe(okm.data(), okm.size());
  return key;
}

std::array<std::uint8_t, 32> x25519_public(const Key& secret) {
  std::array<std::uint8_t, 32> key;
  need(crypto_scalarmult_base(key.data(), secret.data()) == 0);
  return key;
}

bool x25519(const Key& secret, const std::uint8_t (&peer)[32], Key& shared) {
  return crypto_scalarmult(shared.data(), secret.data(), peer) == 0;
}

void gcm_seal(const Key& key, std::uint64_t sequence, ByteView aad, ByteView in, std::uint8_t* out, std::uint8_t* tag) {
  const Cipher cipher(EVP_CIPHER_CTX_new());
  need(cipher != nullptr);
  const auto nonce = nonce_of(sequence);
  int done = 0;
  need(EVP_EncryptInit_ex(cipher.get(), EVP_aes_256_gcm(), nullptr, key.data(), nonce.data()) == 1);
  need(EVP_EncryptUpdate(cipher.get(), nullptr, &done, aad.data(), length(aad)) == 1);
  need(EVP_EncryptUpdate(cipher.get(), out, &done, in.data(), length(in)) == 1);
  need(EVP_EncryptFinal_ex(cipher.get(), out + done, &done) == 1);
  need(EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_GCM_GET_TAG, record::kTagBytes, tag) == 1);
}

bool gcm_open(const Key& key, std::uint64_t sequence, ByteView aad, ByteView in, std::uint8_t* out,
              const std::uint8_t* tag) {
  const Cipher cipher(EVP_CIPHER_CTX_new());
  need(cipher != nullptr);
  const auto nonce = nonce_of(sequence);
  std::array<std::uint8_t, record::kTagBytes> expected;
  std::memcpy(expected.data(), tag, expected.size());
  int done = 0;
  need(EVP_DecryptInit_ex(cipher.get(), EVP_aes_256_gcm(), nullptr, key.data(), nonce.data()) == 1);
  need(EVP_DecryptUpdate(cipher.get(), nullptr, &done, aad.data(), length(aad)) == 1);
  need(EVP_DecryptUpdate(cipher.get(), out, &done, in.data(), length(in)) == 1);
  need(EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_GCM_SET_TAG, record::kTagBytes, expected.data()) == 1);
  if (EVP_DecryptFinal_ex(cipher.get(), out + done, &done) == 1) return true;
  wipe(out, in.size());
  return false;
}

}  // namespace sealift::agent

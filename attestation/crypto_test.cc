// The primitives, and their isolation from the host's configuration.
#include "attestation/crypto.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <new>

namespace sealift::attestation {
namespace {

// A configuration in which no algorithm exists: the null provider takes the default provider's place.
std::string hostile_configuration() {
  const std::string path = ::testing::TempDir() + "sealift-openssl-" + std::to_string(::getpid()) + ".cnf";
  std::ofstream(path) << "openssl_conf = init\n[init]\nproviders = p\n[p]\nnull = n\n[n]\nactivate = 1\n";
  return path;
}

// Runs in a process of its own: OpenSSL reads its configuration once.
[[noreturn]] void hash_under_hostile_configuration(bool isolated) {
  const std::string path = hostile_configuration();
  ::setenv("OPENSSL_CONF", path.c_str(), 1);
  if (isolated) isolate_crypto();
  int result = 0;
  try {
    static_cast<void>(OPENSSL_init_crypto(OPENSSL_INIT_LOAD_CONFIG, nullptr));  // as libssl does
    static_cast<void>(sha256(text_bytes("abc")));
  } catch (const std::bad_alloc&) {
    result = 3;
  }
  std::remove(path.c_str());
  ::_exit(result);
}

TEST(CryptoDeathTest, HostsConfigurationIsNotRead) {
  ::testing::GTEST_FLAG(death_test_style) = "threadsafe";
  EXPECT_EXIT(hash_under_hostile_configuration(/*isolated=*/true), ::testing::ExitedWithCode(0), "");
  // What the isolation is for.
  EXPECT_EXIT(hash_under_hostile_configuration(/*isolated=*/false), ::testing::ExitedWithCode(3), "");
}

TEST(Crypto, Sha256) {
  const auto expected = decode_hex("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  const Digest whole = sha256(text_bytes("abc")), parts = sha256(text_bytes("a"), text_bytes("bc"));
  EXPECT_EQ(Bytes(whole.begin(), whole.end()), expected);
  EXPECT_EQ(whole, parts);
}

// RFC 6979, A.2.5: P-256, SHA-256, message "sample".
TEST(Crypto, KnownSignature) {
  PublicKey xy;
  Signature signature;
  ASSERT_TRUE(
      decode_hex("60FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB6"
                 "7903FE1008B8BC99A41AE9E95628BC64F2F1B20C2D7E9F5177A3C294D4462299",
                 xy));
  ASSERT_TRUE(
      decode_hex("EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716"
                 "F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8",
                 signature));
  const KeyPtr key = p256_key(xy);
  ASSERT_TRUE(key);
  EXPECT_EQ(p256_point(key.get()), xy);
  EXPECT_TRUE(p256_verify(key.get(), text_bytes("sample"), signature));
  EXPECT_FALSE(p256_verify(key.get(), text_bytes("simple"), signature));
  signature[0] ^= 1;
  EXPECT_FALSE(p256_verify(key.get(), text_bytes("sample"), signature));
  signature.fill(0);
  EXPECT_FALSE(p256_verify(key.get(), text_bytes("sample"), signature));
}

TEST(Crypto, PointsOffTheCurveAreNoKeys) {
  PublicKey xy{};
  EXPECT_FALSE(p256_key(xy));
  xy.fill(0xff);
  EXPECT_FALSE(p256_key(xy));
}

TEST(Crypto, OnlyP256HasAPoint) {
  EXPECT_FALSE(p256_point(nullptr));
  EXPECT_FALSE(p256_point(KeyPtr(EVP_EC_gen("P-384")).get()));
  EXPECT_FALSE(p256_point(KeyPtr(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519")).get()));
}

}  // namespace
}  // namespace sealift::attestation

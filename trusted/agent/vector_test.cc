// The vector of docs/protocol.md: key agreement and binding with given keys, computed outside of this project's code.
#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <string>
#include <string_view>

#include "migration/messages.h"
#include "trusted/agent/crypto.h"

namespace sealift::agent {
namespace {

std::string hex(ByteView bytes) {
  std::string text;
  for (const std::uint8_t byte : bytes) {
    char digits[3];
    std::snprintf(digits, sizeof(digits), "%02x", byte);
    text += digits;
  }
  return text;
}

ByteView view(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

Key filled(std::uint8_t value) {
  std::array<std::uint8_t, 32> bytes;
  bytes.fill(value);
  return Key(bytes);
}

TEST(ProtocolVector, KeysAndBinding) {
  const Key agent = filled(0x41), enclave = filled(0x42);
  const auto agent_key = x25519_public(agent), enclave_key = x25519_public(enclave);
  EXPECT_EQ(hex(agent_key), "7a1a4e709bf085ac494aba0469b9b1eda0ab1f78b16aabb79ffeda90623e8522");
  EXPECT_EQ(hex(enclave_key), "132c442be010fbd57e72603328aa76e71fccc1503aae219327d14d9c9993f472");

  std::array<std::uint8_t, 16> attempt;
  attempt.fill(0xa5);
  const std::uint32_t source = 1;
  const Digest binding = sha256(
      {view(messages::kBindingLabel), bytes_of(messages::kVersion), bytes_of(source), enclave_key, agent_key, attempt});
  EXPECT_EQ(hex(binding), "cc5e7b4e1d265da5389a806c0f7bf71c10459c38f7e24ae4f7ebb8f34e573d1c");

  std::uint8_t peer[32];
  std::copy(enclave_key.begin(), enclave_key.end(), peer);
  Key shared;
  ASSERT_TRUE(x25519(agent, peer, shared));
  EXPECT_EQ(hex(shared.view()), "ce22dd271d55b5ae6c91b2a901b0148821a3e9fefc3aabb8e6d725428f91027b");
  const Key prk = hkdf_extract(sha256({view("hellos")}), shared);
  EXPECT_EQ(hex(hkdf_expand(prk, messages::kEnclaveToAgentLabel).view()),
            "c78c521476511efb2363310e8f2956507bbd57faf87d119ecf5a86284fb51dab");
  EXPECT_EQ(hex(hkdf_expand(prk, messages::kAgentToEnclaveLabel).view()),
            "a7278b384fed5b75019ec8ddda94b6843518ff993c9f071df6eea378cf01b739");
  EXPECT_EQ(hex(hkdf_expand(prk, messages::kConfirmLabel).view()),
            "52ebfb0e3056f3ada12d4b154baee58c764efa8e0bcda58a0b72016cf25d90e4");
}

}  // namespace
}  // namespace sealift::agent

// The enclave's end of a local session, for tests: written from the comment block in migration/messages.h with OpenSSL
// alone, so that it shares no code with the agent's end. Plays a source or a target, and remembers what it was given.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "migration/messages.h"
#include "trusted/agent/agent.h"
#include "trusted/agent/testing/cpu.h"

namespace sealift::agent::testing {

[[nodiscard]] MigrationPolicy test_policy();

// Opened by an enclave: a body, or nothing if the tag, the sequence or the form is wrong.
struct Received {
  messages::SealedKind kind{};
  Bytes body;
};

class TestEnclave {
 public:
  using Role = messages::LocalRole;
  TestEnclave(const TestCpu& cpu, Role role, const Attempt& attempt, std::uint8_t seed, std::uint8_t program = 0x11);

  // EnclaveHello for this agent's hello. Calling it again starts a new session with the same instance key.
  [[nodiscard]] Bytes hello(const Bytes& agent_hello);
  // True if REPORT, binding, role and MAC of the agent's confirmation are right.
  [[nodiscard]] bool confirm(const Bytes& agent_confirm);

  template <typename T>
  [[nodiscard]] Bytes seal(messages::SealedKind kind, const T& body) {
    return seal_bytes(kind, {reinterpret_cast<const std::uint8_t*>(&body), sizeof(T)});
  }
  [[nodiscard]] std::optional<Received> open(const Bytes& sealed);
  // Opens a message that must be a T.
  template <typename T>
  [[nodiscard]] std::optional<T> expect(messages::SealedKind kind, const Bytes& sealed) {
    const auto message = open(sealed);
    T body;
    if (!message || message->kind != kind || message->body.size() != sizeof(body)) return std::nullopt;
    std::memcpy(&body, message->body.data(), sizeof(body));
    return body;
  }

  [[nodiscard]] Bytes prepare(std::uint8_t lineage = 1, std::uint64_t epoch = 5);
  [[nodiscard]] Bytes key_request();
  [[nodiscard]] Bytes ready_notice(std::uint8_t digest = 0xd1);
  [[nodiscard]] Bytes ticket(std::uint8_t lineage = 1, std::uint64_t epoch = 5, std::uint8_t digest = 0xd1);

  [[nodiscard]] const std::array<std::uint8_t, 32>& public_key() const { return public_; }

  MigrationPolicy policy = test_policy();
  sgx::ReportBody body;

 private:
  [[nodiscard]] Bytes seal_bytes(messages::SealedKind kind, ByteView body);

  const TestCpu& cpu_;
  Role role_;
  Attempt attempt_;
  std::array<std::uint8_t, 32> secret_{}, public_{};
  messages::AgentHello agent_{};
  std::array<std::uint8_t, 32> transcript_{}, to_agent_{}, from_agent_{}, confirm_{};
  std::uint64_t sent_ = 0, received_ = 0;
};

}  // namespace sealift::agent::testing

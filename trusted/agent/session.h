// The agent's end of a local session with one enclave instance of its machine (migration/messages.h).
//
// Invariants:
//  1. A session exists only with an enclave whose REPORT verified here and binds its key, its role and its attempt to
//     this agent instance's key.
//  2. Each sequence number of a direction is sealed once. A repeat is a repeat of bytes, and answers with bytes.
//  3. A message counts only once it was acted upon: accept() after success. What failed may be presented again.
// Threads: none; the agent's mutex covers it. Keys are wiped with the session.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <optional>
#include <vector>

#include "migration/messages.h"
#include "migration/result.h"
#include "trusted/agent/crypto.h"
#include "trusted/agent/platform.h"

namespace sealift::agent {

// An agent instance as local sessions see it.
struct Instance {
  Key secret;
  messages::AgentHello hello{};
};

// The largest body that an enclave sends.
inline constexpr std::size_t kMaxSealedBody = sizeof(messages::Prepare);

struct OpenedMessage {
  messages::SealedKind kind{};
  std::size_t size = 0;
  Secret<kMaxSealedBody> body;
  // Empty unless this is a repeat of a message that was acted upon: then the answer of that time.
  std::optional<Bytes> repeated;

  // kBadMessage if the body is not exactly a T. The caller wipes what it keeps.
  template <typename T>
  [[nodiscard]] Errc read(T& to) const noexcept {
    static_assert(sizeof(T) <= kMaxSealedBody);
    if (size != sizeof(T)) return Errc::kBadMessage;
    std::memcpy(&to, body.data(), sizeof(T));
    return Errc::kOk;
  }
};

class LocalSession {
 public:
  // Verifies the hello and derives the keys. kBadMessage (size, version), kWrongRole, kWrongAttempt (zero),
  // kBadReport, kBadBinding, kKeyLeaf.
  [[nodiscard]] static Result<LocalSession> accept(Platform& platform, const Instance& self, ByteView enclave_hello);

  LocalSession() = default;  // for Result; not a session

  [[nodiscard]] const messages::AgentConfirm& confirm() const noexcept { return confirm_; }
  [[nodiscard]] messages::LocalRole role() const noexcept { return role_; }
  [[nodiscard]] const std::array<std::uint8_t, 16>& attempt() const noexcept { return attempt_; }
  [[nodiscard]] const std::array<std::uint8_t, 32>& enclave_key() const noexcept { return enclave_key_; }
  [[nodiscard]] const messages::EnclaveIdentity& identity() const noexcept { return identity_; }

  // kBadMessage (form), kBadSequence, kBadTag.
  [[nodiscard]] Result<OpenedMessage> open(ByteView sealed) const;
  // The message `sealed`, just opened, was acted upon and answered with `reply`.
  void accept(ByteView sealed, const Bytes& reply);

  // Takes the next sequence number. The caller keeps the bytes for repeats.
  template <typename T>
  [[nodiscard]] Bytes seal(messages::SealedKind kind, const T& body) {
    return seal_bytes(kind, bytes_of(body));
  }

 private:
  [[nodiscard]] Bytes seal_bytes(messages::SealedKind kind, ByteView body);

  struct Exchange {
    Bytes message;
    Bytes reply;
  };

  messages::LocalRole role_{};
  std::array<std::uint8_t, 16> attempt_{};
  std::array<std::uint8_t, 32> enclave_key_{};
  messages::EnclaveIdentity identity_{};
  messages::AgentConfirm confirm_{};
  Key from_enclave_, to_enclave_;
  std::vector<Exchange> received_;  // index: sequence
  std::uint64_t sent_ = 0;
};

}  // namespace sealift::agent

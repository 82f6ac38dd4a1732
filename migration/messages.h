// The protocol's messages (design §7), version 1, as fixed little-endian structures. docs/protocol.md explains the
// steps.
//
// Three channels carry them:
//  - *local*: an enclave instance and the agent enclave of its machine. Two hellos with REPORTs, then sealed messages.
//  - *link*: two agent enclaves, inside one RA-TLS 1.3 connection.
//  - the untrusted daemons see only bytes and route them by what they were asked to do.
#pragma once

#include <cstddef>
#include <cstdint>

#include "migration/config.h"
#include "migration/record.h"
#include "sgx/arch.h"

namespace sealift::messages {

inline constexpr std::uint32_t kVersion = 1;
inline constexpr std::size_t kPublicKeyBytes = 32;  // X25519
inline constexpr std::size_t kMacBytes = 32;        // HMAC-SHA-256

enum class LocalRole : std::uint32_t { kSource = 1, kTarget = 2, kAgentForSource = 3, kAgentForTarget = 4 };

// --- Local session ------------------------------------------------------------------------------------------------
//
// REPORTDATA[0, 32) = SHA-256(kBindingLabel ‖ version u32 ‖ role u32 ‖ sender's key ‖ receiver's key ‖ attempt), rest
// 0. Session keys: prk = HKDF-Extract(salt = SHA-256(AgentHello ‖ EnclaveHello), X25519(…));
//   HKDF-Expand(prk, "sealift enclave->agent v1"), (… "sealift agent->enclave v1"), (… "sealift confirm v1"), 32 bytes
//   each.
inline constexpr char kBindingLabel[] = "sealift local session v1";
inline constexpr char kEnclaveToAgentLabel[] = "sealift enclave->agent v1";
inline constexpr char kAgentToEnclaveLabel[] = "sealift agent->enclave v1";
inline constexpr char kConfirmLabel[] = "sealift confirm v1";

struct AgentHello {
  std::uint32_t version;
  std::uint32_t reserved;
  std::uint8_t instance_key[kPublicKeyBytes];  // generated at the agent's start, never sealed or exported
  std::uint8_t reserved2[472];
  sgx::Targetinfo target;  // to aim the enclave's REPORT at
};
static_assert(sizeof(AgentHello) == 1024);

struct EnclaveHello {
  std::uint32_t version;
  std::uint32_t role;  // LocalRole::kSource or kTarget
  std::uint8_t attempt[16];
  std::uint8_t enclave_key[kPublicKeyBytes];  // fresh for every attempt; of a target: its *instance key*
  sgx::Report report;                         // aimed at the agent
};
static_assert(sizeof(EnclaveHello) == 56 + 432);

struct AgentConfirm {
  sgx::Report report;           // aimed at the enclave; role kAgentForSource or kAgentForTarget
  std::uint8_t mac[kMacBytes];  // HMAC(confirm key, SHA-256(AgentHello ‖ EnclaveHello))
};
static_assert(sizeof(AgentConfirm) == 464);

// Sealed := SealedHeader ‖ AES-256-GCM(body) ‖ tag. Nonce = 4 zero bytes ‖ sequence; AAD = SealedHeader.
// Each direction counts its own sequence from 0; a repeat of a message is a repeat of its bytes.
enum class SealedKind : std::uint32_t {
  kPrepare = 1,      // source -> agent
  kReady = 2,        // agent -> source
  kTicket = 3,       // source -> agent
  kKeyRequest = 4,   // target -> agent
  kKeyDelivery = 5,  // agent -> target
  kReadyNotice = 6,  // target -> agent
  kGrant = 7,        // agent -> target
};

struct SealedHeader {
  std::uint32_t version;
  std::uint32_t kind;  // SealedKind
  std::uint64_t sequence;
  std::uint32_t body_len;
  std::uint32_t reserved;
};
static_assert(sizeof(SealedHeader) == 24);

struct Prepare {
  std::uint8_t lineage[16];
  std::uint64_t epoch;
  std::uint8_t attempt[16];
  std::uint8_t key[record::kKeyBytes];  // K
  MigrationPolicy policy;
};
static_assert(sizeof(Prepare) == 120);

// The target brings its own measured policy: A_t judges A_s by it before it hands over a key. Otherwise an attacker's
// enclave in A_s's place could offer a state of its own making, and a genuine target would run it.
struct KeyRequest {
  std::uint8_t attempt[16];
  MigrationPolicy policy;
};
static_assert(sizeof(KeyRequest) == 64);

struct KeyDelivery {
  std::uint8_t lineage[16];
  std::uint64_t epoch;  // of the source
  std::uint8_t attempt[16];
  std::uint8_t key[record::kKeyBytes];
};
static_assert(sizeof(KeyDelivery) == 72);

// Ready (agent -> source) and ReadyNotice (target -> agent).
struct Ready {
  std::uint8_t attempt[16];
  std::uint8_t digest[32];
  std::uint8_t instance_key[kPublicKeyBytes];
};
static_assert(sizeof(Ready) == 80);

struct Ticket {
  std::uint8_t lineage[16];
  std::uint64_t next_epoch;
  std::uint8_t attempt[16];
  std::uint8_t digest[32];
};
static_assert(sizeof(Ticket) == 72);

struct Grant {
  std::uint8_t lineage[16];
  std::uint64_t next_epoch;
  std::uint8_t attempt[16];
  std::uint8_t digest[32];
  std::uint8_t instance_key[kPublicKeyBytes];  // the one instance that may run
};
static_assert(sizeof(Grant) == 104);

template <typename Body>
inline constexpr std::size_t kSealedSize = sizeof(SealedHeader) + sizeof(Body) + record::kTagBytes;

// --- Link: agent to agent, inside RA-TLS ---------------------------------------------------------------------------

enum class LinkKind : std::uint32_t {
  kOffer = 1,         // A_s -> A_t
  kOfferAck = 2,      // A_t -> A_s: LinkResult
  kReady = 3,         // A_t -> A_s: LinkReady
  kReadyAck = 4,      // A_s -> A_t: LinkResult
  kGrantRequest = 5,  // A_t -> A_s: LinkReady
  kGrant = 6,         // A_s -> A_t: Grant
  kGrantRefused = 7,  // A_s -> A_t: LinkResult
  kForget = 8,        // A_s -> A_t: LinkResult; the attempt was cancelled
};

struct LinkHeader {
  std::uint32_t version;
  std::uint32_t kind;  // LinkKind
  std::uint32_t body_len;
  std::uint32_t reserved;
};
static_assert(sizeof(LinkHeader) == 16);

// Everything in which S and T must be equal (design §7), taken from REPORTs only.
struct EnclaveIdentity {
  sgx::Measurement mrenclave;
  sgx::Measurement mrsigner;
  sgx::Attributes attributes;
  std::uint64_t configid[8];
  std::uint8_t isvextprodid[16];
  std::uint8_t isvfamilyid[16];
  std::uint32_t miscselect;
  std::uint16_t isvprodid;
  std::uint16_t isvsvn;
  std::uint16_t configsvn;
  std::uint8_t reserved[6];
  friend bool operator==(const EnclaveIdentity&, const EnclaveIdentity&) = default;
};
static_assert(sizeof(EnclaveIdentity) == 32 + 32 + 16 + 64 + 32 + 4 + 6 + 6);

struct LinkOffer {
  Prepare prepare;
  EnclaveIdentity source;
};
static_assert(sizeof(LinkOffer) == sizeof(Prepare) + sizeof(EnclaveIdentity));

struct LinkReady {
  Ready ready;
  EnclaveIdentity target;
};
static_assert(sizeof(LinkReady) == sizeof(Ready) + sizeof(EnclaveIdentity));

struct LinkResult {
  std::uint8_t attempt[16];
  std::uint32_t errc;
  std::uint32_t reserved;
};
static_assert(sizeof(LinkResult) == 24);

}  // namespace sealift::messages

#include "trusted/agent/testing/enclave.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/sha.h>

#include <cstring>
#include <stdexcept>
#include <string>

namespace sealift::agent::testing {

namespace {

using Block = std::array<std::uint8_t, 32>;

void need(bool done) {
  if (!done) throw std::runtime_error("OpenSSL failed");
}

void append(Bytes& to, const void* from, std::size_t size) {
  const auto* bytes = static_cast<const std::uint8_t*>(from);
  to.insert(to.end(), bytes, bytes + size);
}

Block hash(const Bytes& bytes) {
  Block digest;
  SHA256(bytes.data(), bytes.size(), digest.data());
  return digest;
}

ReportData report_data(messages::LocalRole role, const void* sender, const void* receiver, const Attempt& attempt) {
  Bytes all;
  append(all, messages::kBindingLabel, std::strlen(messages::kBindingLabel));
  append(all, &messages::kVersion, 4);
  append(all, &role, 4);
  append(all, sender, 32);
  append(all, receiver, 32);
  append(all, attempt.data(), attempt.size());
  const Block digest = hash(all);
  ReportData data{};
  std::memcpy(data.data(), digest.data(), digest.size());
  return data;
}

Block hkdf(Block salt, Block secret, const char* label) {
  EVP_KDF* kdf = EVP_KDF_fetch(nullptr, "HKDF", nullptr);
  EVP_KDF_CTX* context = EVP_KDF_CTX_new(kdf);
  std::string info = label;
  std::string digest = "SHA256";
  OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest.data(), 0),
                         OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, salt.data(), salt.size()),
                         OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, secret.data(), secret.size()),
                         OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info.data(), info.size()),
                         OSSL_PARAM_construct_end()};
  Block key;
  need(EVP_KDF_derive(context, key.data(), key.size(), params) == 1);
  EVP_KDF_CTX_free(context);
  EVP_KDF_free(kdf);
  return key;
}

EVP_PKEY* secret_key(const Block& secret) {
  return EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, nullptr, secret.data(), secret.size());
}

Block agree(const Block& secret, const std::uint8_t (&peer)[32]) {
  EVP_PKEY* own = secret_key(secret);
  EVP_PKEY* other = EVP_PKEY_new_raw_public_key(EVP_PKEY_X25519, nullptr, peer, 32);
  EVP_PKEY_CTX* context = EVP_PKEY_CTX_new(own, nullptr);
  Block shared;
  std::size_t size = shared.size();
  need(EVP_PKEY_derive_init(context) == 1 && EVP_PKEY_derive_set_peer(context, other) == 1);
  need(EVP_PKEY_derive(context, shared.data(), &size) == 1);
  EVP_PKEY_CTX_free(context);
  EVP_PKEY_free(other);
  EVP_PKEY_free(own);
  return shared;
}

Bytes nonce(std::uint64_t sequence) {
  Bytes bytes(4, 0);
  append(bytes, &sequence, 8);
  return bytes;
}

}  // namespace

MigrationPolicy test_policy() {
  MigrationPolicy policy{};
  policy.flags = policy::kAllowMigration;
  policy.tcb_accepted = tcb::kUpToDate;
  policy.agent_pin = std::uint32_t(AgentPin::kMrenclave);
  policy.agent = agent_body().mrenclave;
  return policy;
}

TestEnclave::TestEnclave(const TestCpu& cpu, Role role, const Attempt& attempt, std::uint8_t seed, std::uint8_t program)
    : body(app_body(program)), cpu_(cpu), role_(role), attempt_(attempt) {
  secret_.fill(seed);
  EVP_PKEY* key = secret_key(secret_);
  std::size_t size = public_.size();
  need(EVP_PKEY_get_raw_public_key(key, public_.data(), &size) == 1);
  EVP_PKEY_free(key);
}

Bytes TestEnclave::hello(const Bytes& agent_hello) {
  std::memcpy(&agent_, agent_hello.data(), sizeof(agent_));
  messages::EnclaveHello hello{};
  hello.version = messages::kVersion;
  hello.role = static_cast<std::uint32_t>(role_);
  std::memcpy(hello.attempt, attempt_.data(), attempt_.size());
  std::memcpy(hello.enclave_key, public_.data(), public_.size());
  hello.report = cpu_.ereport(body, agent_.target, report_data(role_, public_.data(), agent_.instance_key, attempt_));
  Bytes both = agent_hello;
  append(both, &hello, sizeof(hello));
  transcript_ = hash(both);
  const Block shared = agree(secret_, agent_.instance_key);
  to_agent_ = hkdf(transcript_, shared, messages::kEnclaveToAgentLabel);
  from_agent_ = hkdf(transcript_, shared, messages::kAgentToEnclaveLabel);
  confirm_ = hkdf(transcript_, shared, messages::kConfirmLabel);
  sent_ = received_ = 0;
  return {both.begin() + static_cast<std::ptrdiff_t>(agent_hello.size()), both.end()};
}

bool TestEnclave::confirm(const Bytes& agent_confirm) {
  messages::AgentConfirm confirm;
  if (agent_confirm.size() != sizeof(confirm)) return false;
  std::memcpy(&confirm, agent_confirm.data(), sizeof(confirm));
  if (!cpu_.verify(body, confirm.report)) return false;
  if (!(confirm.report.body.mrenclave == policy.agent)) return false;
  const Role expected = role_ == Role::kSource ? Role::kAgentForSource : Role::kAgentForTarget;
  const ReportData data = report_data(expected, agent_.instance_key, public_.data(), attempt_);
  if (std::memcmp(data.data(), confirm.report.body.reportdata, data.size()) != 0) return false;
  Block mac;
  HMAC(EVP_sha256(), confirm_.data(), 32, transcript_.data(), transcript_.size(), mac.data(), nullptr);
  return std::memcmp(mac.data(), confirm.mac, mac.size()) == 0;
}

Bytes TestEnclave::seal_bytes(messages::SealedKind kind, ByteView plain) {
  messages::SealedHeader header{};
  header.version = messages::kVersion;
  header.kind = static_cast<std::uint32_t>(kind);
  header.sequence = sent_++;
  header.body_len = static_cast<std::uint32_t>(plain.size());
  Bytes sealed(sizeof(header) + plain.size() + 16);
  std::memcpy(sealed.data(), &header, sizeof(header));
  EVP_CIPHER_CTX* context = EVP_CIPHER_CTX_new();
  int done = 0;
  need(EVP_EncryptInit_ex(context, EVP_aes_256_gcm(), nullptr, to_agent_.data(), nonce(header.sequence).data()) == 1);
  need(EVP_EncryptUpdate(context, nullptr, &done, sealed.data(), sizeof(header)) == 1);
  need(EVP_EncryptUpdate(context, sealed.data() + sizeof(header), &done, plain.data(), int(plain.size())) == 1);
  need(EVP_EncryptFinal_ex(context, sealed.data() + sizeof(header) + plain.size(), &done) == 1);
  need(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_GET_TAG, 16, sealed.data() + sizeof(header) + plain.size()) == 1);
  EVP_CIPHER_CTX_free(context);
  return sealed;
}

std::optional<Received> TestEnclave::open(const Bytes& sealed) {
  messages::SealedHeader header;
  if (sealed.size() < sizeof(header) + 16) return std::nullopt;
  std::memcpy(&header, sealed.data(), sizeof(header));
  const std::size_t size = sealed.size() - sizeof(header) - 16;
  if (header.version != 1 || header.reserved != 0 || header.body_len != size || header.sequence != received_) {
    return std::nullopt;
  }
  Received message{static_cast<messages::SealedKind>(header.kind), Bytes(size)};
  Bytes tag(sealed.end() - 16, sealed.end());
  EVP_CIPHER_CTX* context = EVP_CIPHER_CTX_new();
  int done = 0;
  need(EVP_DecryptInit_ex(context, EVP_aes_256_gcm(), nullptr, from_agent_.data(), nonce(header.sequence).data()) == 1);
  need(EVP_DecryptUpdate(context, nullptr, &done, sealed.data(), sizeof(header)) == 1);
  need(EVP_DecryptUpdate(context, message.body.data(), &done, sealed.data() + sizeof(header), int(size)) == 1);
  need(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_SET_TAG, 16, tag.data()) == 1);
  const bool genuine = EVP_DecryptFinal_ex(context, message.body.data() + size, &done) == 1;
  EVP_CIPHER_CTX_free(context);
  if (!genuine) return std::nullopt;
  ++received_;
  return message;
}

Bytes TestEnclave::prepare(std::uint8_t lineage, std::uint64_t epoch) {
  messages::Prepare prepare{};
  prepare.lineage[0] = lineage;
  prepare.epoch = epoch;
  std::memcpy(prepare.attempt, attempt_.data(), attempt_.size());
  std::memset(prepare.key, 0x4b, sizeof(prepare.key));
  prepare.policy = policy;
  return seal(messages::SealedKind::kPrepare, prepare);
}

Bytes TestEnclave::key_request() {
  messages::KeyRequest request{};
  std::memcpy(request.attempt, attempt_.data(), attempt_.size());
  request.policy = policy;
  return seal(messages::SealedKind::kKeyRequest, request);
}

Bytes TestEnclave::ready_notice(std::uint8_t digest) {
  messages::Ready ready{};
  std::memcpy(ready.attempt, attempt_.data(), attempt_.size());
  ready.digest[0] = digest;
  std::memcpy(ready.instance_key, public_.data(), public_.size());
  return seal(messages::SealedKind::kReadyNotice, ready);
}

Bytes TestEnclave::ticket(std::uint8_t lineage, std::uint64_t epoch, std::uint8_t digest) {
  messages::Ticket ticket{};
  ticket.lineage[0] = lineage;
  ticket.next_epoch = epoch + 1;
  std::memcpy(ticket.attempt, attempt_.data(), attempt_.size());
  ticket.digest[0] = digest;
  return seal(messages::SealedKind::kTicket, ticket);
}

}  // namespace sealift::agent::testing

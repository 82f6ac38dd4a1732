#include "trusted/agent/session.h"

#include <algorithm>
#include <bit>

namespace sealift::agent {

namespace {

static_assert(std::endian::native == std::endian::little, "messages are little-endian structures");

// REPORTDATA of either side; `sender` is the side that makes the REPORT.
ReportData binding(messages::LocalRole role, ByteView sender, ByteView receiver, ByteView attempt) {
  const std::string_view label = messages::kBindingLabel;
  const std::uint32_t version = messages::kVersion;
  const auto number = static_cast<std::uint32_t>(role);
  const ByteView label_bytes(reinterpret_cast<const std::uint8_t*>(label.data()), label.size());
  const Digest digest = sha256({label_bytes, bytes_of(version), bytes_of(number), sender, receiver, attempt});
  ReportData data{};
  std::copy(digest.begin(), digest.end(), data.begin());
  return data;
}

sgx::Targetinfo target_of(const sgx::ReportBody& body) {
  sgx::Targetinfo target{};
  target.measurement = body.mrenclave;
  target.attributes = body.attributes;
  target.configsvn = body.configsvn;
  target.miscselect = body.miscselect;
  std::memcpy(target.configid, body.configid, sizeof(target.configid));
  return target;
}

Errc decode(ByteView bytes, messages::EnclaveHello& hello) {
  if (bytes.size() != sizeof(hello)) return Errc::kBadMessage;
  std::memcpy(&hello, bytes.data(), sizeof(hello));
  if (hello.version != messages::kVersion) return Errc::kBadMessage;
  const auto role = static_cast<messages::LocalRole>(hello.role);
  if (role != messages::LocalRole::kSource && role != messages::LocalRole::kTarget) return Errc::kWrongRole;
  if (std::all_of(std::begin(hello.attempt), std::end(hello.attempt), [](std::uint8_t b) { return b == 0; })) {
    return Errc::kWrongAttempt;
  }
  return Errc::kOk;
}

}  // namespace

Result<LocalSession> LocalSession::accept(Platform& platform, const Instance& self, ByteView enclave_hello) {
  messages::EnclaveHello hello;
  if (const Errc error = decode(enclave_hello, hello); error != Errc::kOk) return error;
  if (const Errc error = platform.verify_report(hello.report); error != Errc::kOk) return error;

  LocalSession session;
  session.role_ = static_cast<messages::LocalRole>(hello.role);
  std::copy(std::begin(hello.attempt), std::end(hello.attempt), session.attempt_.begin());
  std::copy(std::begin(hello.enclave_key), std::end(hello.enclave_key), session.enclave_key_.begin());
  session.identity_ = identity_of(hello.report.body);
  const ByteView own_key(self.hello.instance_key);
  const ReportData expected = binding(session.role_, session.enclave_key_, own_key, session.attempt_);
  if (!equal(expected, hello.report.body.reportdata)) return Errc::kBadBinding;

  Key shared;
  if (!x25519(self.secret, hello.enclave_key, shared)) return Errc::kBadBinding;
  const Digest transcript = sha256({bytes_of(self.hello), enclave_hello});
  const Key prk = hkdf_extract(transcript, shared);
  session.from_enclave_ = hkdf_expand(prk, messages::kEnclaveToAgentLabel);
  session.to_enclave_ = hkdf_expand(prk, messages::kAgentToEnclaveLabel);

  const bool for_source = session.role_ == messages::LocalRole::kSource;
  const auto own_role = for_source ? messages::LocalRole::kAgentForSource : messages::LocalRole::kAgentForTarget;
  const ReportData own = binding(own_role, own_key, session.enclave_key_, session.attempt_);
  const Errc error = platform.make_report(target_of(hello.report.body), own, &session.confirm_.report);
  if (error != Errc::kOk) return error;
  const Digest mac = hmac_sha256(hkdf_expand(prk, messages::kConfirmLabel), transcript);
  std::copy(mac.begin(), mac.end(), session.confirm_.mac);
  return session;
}

Result<OpenedMessage> LocalSession::open(ByteView sealed) const {
  messages::SealedHeader header;
  if (sealed.size() < sizeof(header) + record::kTagBytes) return Errc::kBadMessage;
  std::memcpy(&header, sealed.data(), sizeof(header));
  if (header.version != messages::kVersion || header.reserved != 0) return Errc::kBadMessage;
  if (header.body_len > kMaxSealedBody) return Errc::kBadMessage;
  if (sealed.size() != sizeof(header) + header.body_len + record::kTagBytes) return Errc::kBadMessage;
  if (header.sequence > received_.size()) return Errc::kBadSequence;

  OpenedMessage message;
  message.kind = static_cast<messages::SealedKind>(header.kind);
  message.size = header.body_len;
  if (header.sequence < received_.size()) {
    const Exchange& before = received_[header.sequence];
    if (!equal(before.message, sealed)) return Errc::kBadSequence;
    message.repeated = before.reply;
    return message;
  }
  const ByteView body = sealed.subspan(sizeof(header), header.body_len);
  const std::uint8_t* tag = sealed.data() + sizeof(header) + header.body_len;
  if (!gcm_open(from_enclave_, header.sequence, bytes_of(header), body, message.body.data(), tag)) {
    return Errc::kBadTag;
  }
  return message;
}

void LocalSession::accept(ByteView sealed, const Bytes& reply) {
  received_.push_back({Bytes(sealed.begin(), sealed.end()), reply});
}

Bytes LocalSession::seal_bytes(messages::SealedKind kind, ByteView body) {
  messages::SealedHeader header{};
  header.version = messages::kVersion;
  header.kind = static_cast<std::uint32_t>(kind);
  header.sequence = sent_++;
  header.body_len = static_cast<std::uint32_t>(body.size());
  Bytes sealed(sizeof(header) + body.size() + record::kTagBytes);
  std::memcpy(sealed.data(), &header, sizeof(header));
  std::uint8_t* out = sealed.data() + sizeof(header);
  gcm_seal(to_enclave_, header.sequence, bytes_of(header), body, out, out + body.size());
  return sealed;
}

}  // namespace sealift::agent

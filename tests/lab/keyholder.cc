#include "tests/lab/keyholder.h"

#include "trusted/agent/crypto.h"

namespace sealift::lab {
namespace {

struct [[gnu::packed]] Aad {
  record::RecordHeader header;
  std::uint8_t attempt[16];
};

Aad aad_of(const record::RecordHeader& header, const messages::Prepare& prepare) {
  Aad aad{header, {}};
  std::memcpy(aad.attempt, prepare.attempt, sizeof aad.attempt);
  return aad;
}

agent::Key key_of(const messages::Prepare& prepare) {
  return agent::Key(std::span<const std::uint8_t, 32>(prepare.key));
}

bool is_final(const record::RecordHeader& h) {
  return h.kind == static_cast<std::uint16_t>(record::Kind::kFinal);
}

}  // namespace

KeyHolder::KeyHolder(const LabMachine& machine, std::uint8_t identity, std::uint64_t flags)
    : cpu(machine.path, identity, flags) {
  EXPECT_EQ(cpu.random({self.secret.data(), self.secret.size()}), Errc::kOk);
  const auto key = agent::x25519_public(self.secret);
  self.hello.version = messages::kVersion;
  std::copy(key.begin(), key.end(), self.hello.instance_key);
  self.hello.target = cpu.self_target();
}

Bytes KeyHolder::hello() const {
  const auto view = agent::bytes_of(self.hello);
  return {view.begin(), view.end()};
}

Errc KeyHolder::meet(Peer& enclave) {
  Bytes answer;
  if (const Errc e = enclave.control(abi::ControlOp::kAgentHello, hello(), answer); e != Errc::kOk) return e;
  if (answer.size() != sizeof enclave_hello) return Errc::kBadMessage;
  std::memcpy(&enclave_hello, answer.data(), sizeof enclave_hello);
  auto accepted = agent::LocalSession::accept(cpu, self, answer);
  if (!accepted.ok()) return accepted.error();
  session = std::move(*accepted);
  const auto view = agent::bytes_of(session.confirm());
  confirm.assign(view.begin(), view.end());
  return enclave.control(abi::ControlOp::kAgentConfirm, confirm, first);
}

messages::Prepare KeyHolder::prepare() const {
  messages::Prepare out{};
  const auto opened = session.open(first);
  EXPECT_TRUE(opened.ok() && opened->kind == messages::SealedKind::kPrepare && opened->read(out) == Errc::kOk);
  return out;
}

Errc KeyHolder::deliver(Peer& target, const messages::KeyDelivery& delivery) {
  return target.control(abi::ControlOp::kInstallKey, session.seal(messages::SealedKind::kKeyDelivery, delivery));
}

OpenStream OpenStream::of(const messages::Prepare& prepare, const std::vector<Bytes>& sealed) {
  OpenStream out;
  out.prepare = prepare;
  const agent::Key key = key_of(prepare);
  for (const Bytes& r : sealed) {
    PlainRecord plain;
    std::memcpy(&plain.header, r.data(), sizeof plain.header);
    plain.body.resize(plain.header.body_len);
    const Aad aad = aad_of(plain.header, prepare);
    const auto body = std::span(r).subspan(sizeof plain.header, plain.header.body_len);
    EXPECT_TRUE(agent::gcm_open(key, plain.header.sequence, agent::bytes_of(aad), body, plain.body.data(),
                                r.data() + sizeof plain.header + body.size()));
    out.records.push_back(std::move(plain));
  }
  return out;
}

std::vector<Bytes> OpenStream::seal(bool mend_final) const {
  const agent::Key key = key_of(prepare);
  std::vector<Bytes> out;
  Bytes hashed;
  record::Final counts{};
  for (const PlainRecord& plain : records) {
    record::RecordHeader h = plain.header;
    h.sequence = out.size();
    Bytes body = plain.body;
    switch (static_cast<record::Kind>(h.kind)) {
      case record::Kind::kPages:
        counts.pages += h.page_count;
        break;
      case record::Kind::kZeroes:
        counts.zero_pages += h.page_count;
        break;
      case record::Kind::kArena:
        counts.arena_bytes += h.body_len;
        break;
      case record::Kind::kThreads:
      case record::Kind::kFinal:
        break;
    }
    if (is_final(h) && mend_final && body.size() == sizeof(record::Final)) {
      record::Final f{};
      std::memcpy(&f, body.data(), sizeof f);
      const auto digest = agent::sha256({hashed});
      std::copy(digest.begin(), digest.end(), f.digest);
      f.records = h.sequence;
      f.pages = counts.pages;
      f.zero_pages = counts.zero_pages;
      f.arena_bytes = counts.arena_bytes;
      std::memcpy(body.data(), &f, sizeof f);
    }
    const Aad aad = aad_of(h, prepare);
    Bytes sealed(sizeof h + body.size() + record::kTagBytes);
    std::memcpy(sealed.data(), &h, sizeof h);
    std::uint8_t* tag = sealed.data() + sizeof h + body.size();
    agent::gcm_seal(key, h.sequence, agent::bytes_of(aad), body, sealed.data() + sizeof h, tag);
    if (!is_final(h)) {
      hashed.insert(hashed.end(), sealed.begin(), sealed.begin() + sizeof h);
      hashed.insert(hashed.end(), tag, tag + record::kTagBytes);
    }
    out.push_back(std::move(sealed));
  }
  return out;
}

messages::KeyDelivery OpenStream::delivery() const {
  messages::KeyDelivery d{};
  std::memcpy(d.lineage, prepare.lineage, sizeof d.lineage);
  d.epoch = prepare.epoch;
  std::memcpy(d.attempt, prepare.attempt, sizeof d.attempt);
  std::memcpy(d.key, prepare.key, sizeof d.key);
  return d;
}

record::Final OpenStream::final_record() const {
  record::Final f{};
  std::memcpy(&f, records.back().body.data(), sizeof f);
  return f;
}

void OpenStream::set_final(const record::Final& f) {
  std::memcpy(records.back().body.data(), &f, sizeof f);
}

std::vector<Bytes> split(const Bytes& batch) {
  std::vector<Bytes> records;
  for (std::size_t at = 0; at + sizeof(record::RecordHeader) <= batch.size();) {
    record::RecordHeader h{};
    std::memcpy(&h, batch.data() + at, sizeof h);
    const std::size_t size = std::min(sizeof h + h.body_len + record::kTagBytes, batch.size() - at);
    records.emplace_back(batch.begin() + static_cast<std::ptrdiff_t>(at),
                         batch.begin() + static_cast<std::ptrdiff_t>(at + size));
    at += size;
  }
  return records;
}

bool is_final(const Bytes& record) {
  record::RecordHeader h{};
  std::memcpy(&h, record.data(), std::min(sizeof h, record.size()));
  return is_final(h);
}

std::vector<Bytes> dump_rest(Peer& source) {
  std::vector<Bytes> records;
  while (records.empty() || !is_final(records.back())) {
    Bytes batch;
    const Errc e = source.control(abi::ControlOp::kDump, {}, batch);
    EXPECT_EQ(e, Errc::kOk) << errc_name(e);
    if (e != Errc::kOk || batch.empty()) return records;
    for (Bytes& r : split(batch)) records.push_back(std::move(r));
  }
  return records;
}

std::vector<Bytes> dump_all(Peer& source) {
  EXPECT_EQ(source.quiesce(), Errc::kOk);
  return dump_rest(source);
}

Errc feed(Peer& target, const std::vector<Bytes>& records) {
  for (const Bytes& r : records) {
    if (const Errc e = target.control(abi::ControlOp::kRecord, r); e != Errc::kOk) return e;
  }
  return Errc::kOk;
}

Errc KeyHolder::grant(Peer& target, const OpenStream& stream) {
  Bytes notice;
  if (const Errc e = target.control(abi::ControlOp::kReady, {}, notice); e != Errc::kOk) return e;
  const messages::KeyDelivery d = stream.delivery();
  messages::Grant g{};
  std::memcpy(g.lineage, d.lineage, sizeof g.lineage);
  g.next_epoch = d.epoch + 1;
  std::memcpy(g.attempt, d.attempt, sizeof g.attempt);
  std::memcpy(g.digest, stream.final_record().digest, sizeof g.digest);
  std::copy(session.enclave_key().begin(), session.enclave_key().end(), g.instance_key);
  return target.control(abi::ControlOp::kGrant, session.seal(messages::SealedKind::kGrant, g));
}

Errc KeyHolder::restore(Peer& target, const OpenStream& stream, const std::vector<Bytes>& sealed) {
  const messages::KeyDelivery d = stream.delivery();
  const Bytes attempt(std::begin(d.attempt), std::end(d.attempt));
  if (const Errc e = target.control(abi::ControlOp::kRestore, attempt); e != Errc::kOk) return e;
  if (const Errc e = meet(target); e != Errc::kOk) return e;
  if (const Errc e = deliver(target, d); e != Errc::kOk) return e;
  return feed(target, sealed);
}

}  // namespace sealift::lab

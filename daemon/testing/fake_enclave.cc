#include "daemon/testing/fake_enclave.h"

#include <cstdlib>
#include <cstring>
#include <random>
#include <string>

#include "migration/record.h"

namespace sealift::daemon::testing {

namespace {

using agent::Bytes;
using messages::SealedKind;

constexpr std::uint32_t kBody = 64 * 1024;

const char* name_of(abi::ControlOp op) {
  switch (op) {
    case abi::ControlOp::kAgentHello:
      return "hello";
    case abi::ControlOp::kAgentConfirm:
      return "confirm";
    case abi::ControlOp::kDump:
      return "dump";
    case abi::ControlOp::kCommit:
      return "commit";
    case abi::ControlOp::kInstallKey:
      return "install";
    case abi::ControlOp::kRecord:
      return "record";
    case abi::ControlOp::kReady:
      return "ready";
    case abi::ControlOp::kGrant:
      return "grant";
    case abi::ControlOp::kTicketAgain:
      return "ticket-again";
    case abi::ControlOp::kCancel:
      return "cancel";
    default:
      return "other";
  }
}

std::uint8_t sum(const Bytes& record, std::size_t from) {
  std::uint8_t total = 0;
  for (std::size_t i = from; i < record.size(); ++i) total = static_cast<std::uint8_t>(total * 31 + record[i]);
  return total;
}

}  // namespace

FakeEnclave::FakeEnclave(const FakeOptions& options, const Stage& stage)
    : options_(options), stage_(stage), cpu_(options.machine) {}

FakeEnclave::~FakeEnclave() {
  close_gate();
}

void FakeEnclave::start() {
  role_ = abi::Role::kStart;
  open_gate();
}

void FakeEnclave::restore(const agent::Attempt& attempt) {
  role_ = abi::Role::kRestore;
  attempt_ = attempt;
  gate_ = Gate::kRestoring;
}

void FakeEnclave::wait_until_over() {
  over_.wait(false);
}

// "opened" is told before it is true and "closed" after: two instances that are open at once show in the witness.
void FakeEnclave::open_gate() {
  stage_.tell("opened", std::to_string(epoch_) + " " + std::to_string(counter_.load()));
  gate_ = Gate::kOpen;
  running_ = true;
  runner_ = std::thread([this] { run(); });
}

void FakeEnclave::close_gate() {
  if (!running_.exchange(false)) return;
  runner_.join();
  stage_.tell("closed", std::to_string(epoch_) + " " + std::to_string(counter_.load()));
}

void FakeEnclave::run() {
  while (running_) {
    if (++counter_ % 1000 == 0 && stage_.is_over()) std::_Exit(0);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));  // not to be the load of every test
  }
}

Errc FakeEnclave::control(abi::ControlOp op, std::span<const std::byte> in, std::vector<std::byte>& out) {
  const std::string step = name_of(op);
  stage_.reach(op == abi::ControlOp::kDump || op == abi::ControlOp::kRecord ? step + std::to_string(sequence_) : step);
  const auto* data = reinterpret_cast<const std::uint8_t*>(in.data());
  const Bytes input(data, data + in.size());
  Bytes output;
  Errc error = Errc::kBadRequest;
  switch (op) {
    case abi::ControlOp::kAgentHello:
      error = agent_hello(input, output);
      break;
    case abi::ControlOp::kAgentConfirm:
      error = agent_confirm(input, output);
      break;
    case abi::ControlOp::kInstallKey:
      error = install_key(input);
      break;
    case abi::ControlOp::kDump:
      error = dump(output);
      break;
    case abi::ControlOp::kCancel:
      error = cancel();
      break;
    case abi::ControlOp::kCommit:
      error = commit(input, output);
      break;
    case abi::ControlOp::kTicketAgain:
      error = ticket_.empty() ? Errc::kNoTicket : Errc::kOk;
      output = ticket_;
      break;
    case abi::ControlOp::kRecord:
      error = record(input);
      break;
    case abi::ControlOp::kReady:
      error = restored_ ? Errc::kOk : Errc::kNotReady;
      if (restored_ && notice_.empty()) notice_ = session_->ready_notice(digest_);
      output = notice_;
      break;
    case abi::ControlOp::kGrant:
      error = grant(input);
      break;
    default:
      break;
  }
  const auto* bytes = reinterpret_cast<const std::byte*>(output.data());
  out.assign(bytes, bytes + output.size());
  stage_.reach(step + "-done");
  return error;
}

Errc FakeEnclave::agent_hello(const Bytes& in, Bytes& out) {
  if (gate_ == Gate::kOpen) {
    std::random_device device;
    for (auto& byte : attempt_) byte = static_cast<std::uint8_t>(device());
  } else if (gate_ != Gate::kRestoring) {
    return Errc::kWrongState;
  }
  using Role = messages::LocalRole;
  if (!session_ || role_ == abi::Role::kStart) {
    const auto seed = static_cast<std::uint8_t>(std::random_device()());
    session_ = std::make_unique<agent::testing::TestEnclave>(
        cpu_, role_ == abi::Role::kRestore && gate_ == Gate::kRestoring ? Role::kTarget : Role::kSource, attempt_,
        seed);
  }
  notice_.clear();
  out = session_->hello(in);
  return Errc::kOk;
}

Errc FakeEnclave::agent_confirm(const Bytes& in, Bytes& out) {
  if (!session_ || !session_->confirm(in)) return Errc::kBadConfirmation;
  out = gate_ == Gate::kRestoring ? session_->key_request() : session_->prepare(options_.lineage, epoch_);
  return Errc::kOk;
}

Errc FakeEnclave::install_key(const Bytes& in) {
  const auto key = session_->expect<messages::KeyDelivery>(SealedKind::kKeyDelivery, in);
  if (!key) return Errc::kBadMessage;
  epoch_ = key->epoch;
  return Errc::kOk;
}

Errc FakeEnclave::quiesce(std::chrono::milliseconds) {
  stage_.reach("quiesce");
  close_gate();
  gate_ = Gate::kQuiescing;
  sequence_ = 0;
  digest_ = 0;
  return Errc::kOk;
}

Errc FakeEnclave::dump(Bytes& out) {
  if (gate_ != Gate::kQuiescing) return Errc::kNotQuiescent;
  const bool last = sequence_ == options_.records;
  record::RecordHeader header{record::kMagic,
                              record::kVersion,
                              static_cast<std::uint16_t>(last ? record::Kind::kFinal : record::Kind::kPages),
                              sequence_,
                              last ? 16u : kBody,
                              1,
                              sequence_};
  out.resize(sizeof(header) + header.body_len + record::kTagBytes);
  std::memcpy(out.data(), &header, sizeof(header));
  std::uint8_t* body = out.data() + sizeof(header);
  const std::uint64_t counter = counter_;
  if (last) {
    std::memcpy(body, &counter, sizeof(counter));
    body[8] = digest_;
  } else {
    std::memset(body, static_cast<int>(sequence_ & 0xff), kBody);
  }
  ++sequence_;
  digest_ = static_cast<std::uint8_t>(digest_ + sum(out, sizeof(header)));
  return Errc::kOk;
}

Errc FakeEnclave::cancel() {
  if (gate_ == Gate::kDestroyed) return Errc::kDestroyed;
  const bool closed = gate_ == Gate::kQuiescing;
  session_.reset();
  attempt_ = {};
  if (closed) open_gate();
  return closed ? Errc::kOk : Errc::kNotReady;
}

Errc FakeEnclave::commit(const Bytes& in, Bytes& out) {
  if (!ticket_.empty()) {
    out = ticket_;
    return Errc::kOk;
  }
  const auto ready = session_ ? session_->expect<messages::Ready>(SealedKind::kReady, in) : std::nullopt;
  if (!ready || ready->digest[0] != digest_) return Errc::kBadDigest;
  gate_ = Gate::kDestroyed;
  out = ticket_ = session_->ticket(options_.lineage, epoch_, digest_);
  return Errc::kOk;
}

Errc FakeEnclave::record(const Bytes& in) {
  record::RecordHeader header{};
  if (gate_ != Gate::kRestoring || restored_ || in.size() < sizeof(header)) return Errc::kWrongState;
  std::memcpy(&header, in.data(), sizeof(header));
  if (header.magic != record::kMagic) return Errc::kBadMagic;
  if (header.sequence != sequence_) return Errc::kBadSequence;
  if (in.size() != sizeof(header) + header.body_len + record::kTagBytes) return Errc::kBadLength;
  if (header.kind == static_cast<std::uint16_t>(record::Kind::kFinal)) {
    if (in[sizeof(header) + 8] != digest_) return Errc::kBadDigest;
    std::uint64_t counter = 0;
    std::memcpy(&counter, in.data() + sizeof(header), sizeof(counter));
    counter_ = counter;
    restored_ = true;
  }
  ++sequence_;
  digest_ = static_cast<std::uint8_t>(digest_ + sum(in, sizeof(header)));
  return Errc::kOk;
}

Errc FakeEnclave::grant(const Bytes& in) {
  const auto grant = session_ ? session_->expect<messages::Grant>(SealedKind::kGrant, in) : std::nullopt;
  if (!grant || !restored_ || grant->digest[0] != digest_) return Errc::kBadMessage;
  if (std::memcmp(grant->instance_key, session_->public_key().data(), 32) != 0) return Errc::kAlreadyGranted;
  epoch_ = grant->next_epoch;
  session_.reset();
  attempt_ = {};
  restored_ = false;
  open_gate();
  return Errc::kOk;
}

void FakeEnclave::resumed() {
  stage_.tell("resumed");
}

void FakeEnclave::destroyed() {
  stage_.tell("destroyed");
  over_ = true;
  over_.notify_all();
}

void FakeEnclave::abandoned(Errc why) {
  stage_.tell("abandoned", errc_name(why));
  over_ = true;
  over_.notify_all();
}

Errc FakeEnclave::status(abi::Status& out) {
  out = abi::Status{};
  out.gate = static_cast<std::uint32_t>(gate_.load());
  out.role = static_cast<std::uint32_t>(role_);
  out.lineage[0] = options_.lineage;
  out.epoch = epoch_;
  std::memcpy(out.attempt, attempt_.data(), attempt_.size());
  out.tcs_count = 4;
  out.pages_in_use = std::uint64_t{options_.records} * kBody / 4096;
  out.restored = restored_ ? 1 : 0;
  out.states[1] = static_cast<std::uint8_t>(abi::ThreadState::kRunning);
  return Errc::kOk;
}

}  // namespace sealift::daemon::testing

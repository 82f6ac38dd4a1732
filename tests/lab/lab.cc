#include "tests/lab/lab.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>

#include "softsgx/isa/keys.h"

namespace sealift::lab {
namespace {

std::uint64_t bytes_of(const std::string& size) {
  return std::stoull(size) << 20;
}

template <typename T>
T from_bytes(const Bytes& b) {
  T out{};
  if (b.size() == sizeof out) std::memcpy(&out, b.data(), sizeof out);
  return out;
}

}  // namespace

// --- LabCpu

LabCpu::LabCpu(const std::string& machine_path, std::uint8_t identity, std::uint64_t flags) {
  std::string why;
  machine_ = softsgx::Machine::open(machine_path, {}, why);
  if (!machine_) throw std::runtime_error(why);
  std::memset(self_.mrenclave.bytes, identity, sizeof self_.mrenclave.bytes);
  std::memset(self_.mrsigner.bytes, identity, sizeof self_.mrsigner.bytes);
  self_.attributes = {sgx::attribute::kInit | sgx::attribute::kMode64Bit | flags, sgx::xfrm::kLegacy};
}

sgx::Targetinfo LabCpu::self_target() {
  return agent::testing::targetinfo_of(self_);
}

Errc LabCpu::make_report(const sgx::Targetinfo& target, const agent::ReportData& data, sgx::Report* out) {
  *out = {};
  out->body = self_;
  std::memcpy(out->body.cpusvn, machine_->cpusvn().data(), sizeof out->body.cpusvn);
  std::memcpy(out->body.reportdata, data.data(), data.size());
  std::memcpy(out->keyid, machine_->report_keyid().data(), sizeof out->keyid);
  const auto key = softsgx::keys::report_key(*machine_, target);
  const auto mac = softsgx::keys::cmac(key, std::as_bytes(std::span(&out->body, 1)));
  std::memcpy(out->mac, mac.data(), mac.size());
  return Errc::kOk;
}

Errc LabCpu::verify_report(const sgx::Report& report) {
  const auto key = softsgx::keys::report_key(*machine_, self_target());
  const auto mac = softsgx::keys::cmac(key, std::as_bytes(std::span(&report.body, 1)));
  return std::memcmp(mac.data(), report.mac, mac.size()) == 0 ? Errc::kOk : Errc::kBadReport;
}

Errc LabCpu::random(std::span<std::uint8_t> out) {
  return getrandom(out.data(), out.size(), 0) == static_cast<ssize_t>(out.size()) ? Errc::kOk : Errc::kEntropy;
}

// --- LabMachine

LabMachine::LabMachine(const std::string& epc, std::uint8_t agent_identity, std::uint64_t agent_flags)
    : identity(agent_identity), flags(agent_flags) {
  std::string name = "/dev/shm/sealift-lab.XXXXXX";
  if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary directory");
  directory = name;
  path = directory + "/machine";
  std::string why;
  if (!softsgx::Machine::create(path, {bytes_of(epc), {}, {}, {}}, why)) throw std::runtime_error(why);
  new_agent();
}

LabMachine::~LabMachine() {
  agent.reset();
  cpu.reset();
  std::filesystem::remove_all(directory);
}

void LabMachine::new_agent() {
  static std::uint8_t instance = 0;
  agent.reset();
  cpu = std::make_unique<LabCpu>(path, identity, flags);
  channels = std::make_unique<agent::testing::TestChannels>(++instance);
  channels->declared.report = cpu->body();
  channels->quoted = true;
  auto made = agent::Agent::create(*cpu, *channels);
  if (!made.ok()) throw std::runtime_error(errc_name(made.error()));
  agent = std::move(*made);
}

// --- Peer

Peer::Peer(const LabMachine& machine, const std::vector<std::string>& options) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) throw std::runtime_error("socketpair");
  pid_ = fork();
  if (pid_ == 0) {
    dup2(pair[1], 3);
    if (pair[1] == 3) fcntl(3, F_SETFD, 0);
    std::vector<std::string> words = {SEALIFT_BIN_DIR "/softsgx", "run"};
    words.insert(words.end(), options.begin(), options.end());
    words.insert(words.end(), {machine.path, "--", SEALIFT_BIN_DIR "/lab_peer"});
    std::vector<char*> argv;
    for (std::string& w : words) argv.push_back(w.data());
    argv.push_back(nullptr);
    setenv("SEALIFT_SOCKET", (machine.directory + "/no-daemon.sock").c_str(), 1);
    execv(argv[0], argv.data());
    _exit(127);
  }
  ::close(pair[1]);
  fd_ = pair[0];
}

Peer::~Peer() {
  ::close(fd_);
  int status = 0;
  waitpid(pid_, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "a host process of the laboratory died: " << status;
}

Errc Peer::request(Op op, const Bytes& arguments, Bytes& out) {
  Bytes message{static_cast<std::uint8_t>(op)};
  message.insert(message.end(), arguments.begin(), arguments.end());
  error.clear();
  if (!send_message(fd_, message)) return Errc::kCrashed;
  const auto reply = receive_message(fd_);
  if (!reply || reply->size() < 4) return Errc::kCrashed;
  std::uint32_t errc = 0;
  std::memcpy(&errc, reply->data(), sizeof errc);
  out.assign(reply->begin() + 4, reply->end());
  if (errc != 0) error.assign(out.begin(), out.end());
  return static_cast<Errc>(errc);
}

Errc Peer::build(const std::string& enclave, std::uint64_t wanted) {
  Bytes out;
  const std::string path = std::string(SEALIFT_BIN_DIR) + "/" + enclave + ".enclave";
  const Errc e = request(Op::kBuild, wire::encode(std::tuple(path, wanted)), out);
  if (e == Errc::kOk) base = from_bytes<std::uint64_t>(out);
  return e;
}

Errc Peer::start() {
  Bytes out;
  return request(Op::kStart, {}, out);
}

Errc Peer::restore(const agent::Attempt& attempt) {
  Bytes out;
  return request(Op::kRestore, wire::encode(attempt), out);
}

Errc Peer::control(abi::ControlOp op, const Bytes& in, Bytes& out) {
  return request(Op::kControl, wire::encode(std::tuple(static_cast<std::uint64_t>(op), in)), out);
}

Errc Peer::control(abi::ControlOp op, const Bytes& in) {
  Bytes out;
  return control(op, in, out);
}

Errc Peer::quiesce(std::uint32_t milliseconds) {
  Bytes out;
  return request(Op::kQuiesce, wire::encode(milliseconds), out);
}

Errc Peer::settle(std::uint32_t milliseconds) {
  Bytes out;
  return request(Op::kSettle, wire::encode(milliseconds), out);
}

Errc Peer::rebuild(const agent::Attempt& attempt) {
  Bytes out;
  return request(Op::kRebuild, wire::encode(attempt), out);
}

std::string Peer::report() {
  Bytes out;
  EXPECT_EQ(request(Op::kReport, {}, out), Errc::kOk);
  return {out.begin(), out.end()};
}

abi::Status Peer::status() {
  Bytes out;
  EXPECT_EQ(control(abi::ControlOp::kStatus, {}, out), Errc::kOk);
  return from_bytes<abi::Status>(out);
}

// --- Migration

Migration::Migration(LabMachine& source_machine, Peer& source_peer, LabMachine& target_machine)
    : from(source_machine), source(source_peer), to(target_machine) {
  at_source = *from.agent->link_open(false);
  at_target = *to.agent->link_open(true);
  carry();
}

void Migration::carry() {
  for (bool moved = true; moved;) {
    const Bytes out = *from.agent->link_take(at_source);
    if (!out.empty()) {
      EXPECT_EQ(to.agent->link_feed(at_target, out), Errc::kOk);
    }
    const Bytes back = *to.agent->link_take(at_target);
    if (!back.empty()) {
      EXPECT_EQ(from.agent->link_feed(at_source, back), Errc::kOk);
    }
    moved = !out.empty() || !back.empty();
  }
}

Errc Migration::prepare() {
  Bytes hello, prepared;
  if (Errc e = source.control(abi::ControlOp::kAgentHello, from.agent->hello(), hello); e != Errc::kOk) return e;
  const auto h = from_bytes<messages::EnclaveHello>(hello);
  std::copy(std::begin(h.attempt), std::end(h.attempt), attempt.begin());
  const auto reply = from.agent->local_hello(hello);
  if (!reply.ok()) return reply.error();
  source_session = reply->session;
  if (Errc e = source.control(abi::ControlOp::kAgentConfirm, reply->confirm, prepared); e != Errc::kOk) return e;
  return from.agent->local_message(source_session, prepared).error();
}

Errc Migration::offer() {
  if (Errc e = from.agent->offer(attempt, at_source); e != Errc::kOk) return e;
  carry();
  return Errc::kOk;
}

Errc Migration::dump() {
  if (Errc e = source.quiesce(); e != Errc::kOk) return e;
  for (bool final = false; !final;) {
    Bytes batch;
    if (Errc e = source.control(abi::ControlOp::kDump, {}, batch); e != Errc::kOk) return e;
    // Record by record, so that a test can leave out, repeat or change any of them.
    for (std::size_t at = 0; at < batch.size();) {
      record::RecordHeader h{};
      std::memcpy(&h, batch.data() + at, sizeof h);
      const std::size_t size = sizeof h + h.body_len + record::kTagBytes;
      records.emplace_back(batch.begin() + static_cast<std::ptrdiff_t>(at),
                           batch.begin() + static_cast<std::ptrdiff_t>(at + size));
      final = h.kind == static_cast<std::uint16_t>(record::Kind::kFinal);
      at += size;
    }
  }
  return Errc::kOk;
}

Errc Migration::meet(Peer& target) {
  Bytes hello, request;
  if (Errc e = target.restore(attempt); e != Errc::kOk) return e;
  if (Errc e = target.control(abi::ControlOp::kAgentHello, to.agent->hello(), hello); e != Errc::kOk) return e;
  const auto reply = to.agent->local_hello(hello);
  if (!reply.ok()) return reply.error();
  target_session = reply->session;
  if (Errc e = target.control(abi::ControlOp::kAgentConfirm, reply->confirm, request); e != Errc::kOk) return e;
  const auto key = to.agent->local_message(target_session, request);
  if (!key.ok()) return key.error();
  key_message = *key;
  return target.control(abi::ControlOp::kInstallKey, *key);
}

Errc Migration::feed(Peer& target) {
  for (const Bytes& r : records) {
    if (Errc e = target.control(abi::ControlOp::kRecord, r); e != Errc::kOk) return e;
  }
  return Errc::kOk;
}

Errc Migration::ready(Peer& target) {
  Bytes notice;
  if (Errc e = target.control(abi::ControlOp::kReady, {}, notice); e != Errc::kOk) return e;
  const auto taken = to.agent->local_message(target_session, notice);
  carry();
  return taken.error();
}

Errc Migration::commit() {
  const auto ready = from.agent->local_poll(source_session);
  if (!ready.ok()) return ready.error();
  ready_message = *ready;
  if (Errc e = source.control(abi::ControlOp::kCommit, *ready, ticket_message); e != Errc::kOk) return e;
  Bytes none;
  if (Errc e = source.request(Op::kDestroyed, {}, none); e != Errc::kOk) return e;
  return from.agent->local_message(source_session, ticket_message).error();
}

Errc Migration::fetch_grant() {
  if (Errc e = to.agent->request_grant(target_session, at_target); e != Errc::kOk) return e;
  carry();
  const auto sealed = to.agent->local_poll(target_session);
  if (!sealed.ok()) return sealed.error();
  sealed_grant = *sealed;
  return sealed_grant.empty() ? Errc::kNoTicket : Errc::kOk;
}

Errc Migration::grant(Peer& target) {
  if (Errc e = fetch_grant(); e != Errc::kOk) return e;
  if (Errc e = target.control(abi::ControlOp::kGrant, sealed_grant); e != Errc::kOk) return e;
  Bytes none;
  return target.request(Op::kResumed, {}, none);
}

Errc Migration::run(Peer& target, const std::string& enclave) {
  if (Errc e = prepare(); e != Errc::kOk) return e;
  if (Errc e = offer(); e != Errc::kOk) return e;
  if (Errc e = dump(); e != Errc::kOk) return e;
  if (Errc e = target.build(enclave, source.base); e != Errc::kOk) return e;
  if (Errc e = meet(target); e != Errc::kOk) return e;
  if (Errc e = feed(target); e != Errc::kOk) return e;
  if (Errc e = ready(target); e != Errc::kOk) return e;
  if (Errc e = commit(); e != Errc::kOk) return e;
  return grant(target);
}

}  // namespace sealift::lab

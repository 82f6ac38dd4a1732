#include "bench/session.h"

#include <array>
#include <stdexcept>
#include <tuple>

namespace sealift::bench {
namespace {

constexpr std::uint64_t kSlack = 64u << 20;  // image, stacks and headers beside the ballast

CallTimes measure_call(lab::Peer& peer, std::uint32_t ecall, const Bytes& arguments, const char* what) {
  Bytes out;
  must(peer.request(lab::Op::kMeasureCall, wire::encode(std::tuple(ecall, arguments)), out), what, peer);
  std::tuple<std::uint64_t, std::uint64_t, Bytes> t{};
  if (!wire::decode(out, t)) throw std::runtime_error(std::string(what) + ": malformed times");
  return {std::get<0>(t), std::get<1>(t)};
}

}  // namespace

OnOneCpu::OnOneCpu() {
  const int cpu = sched_getcpu();
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(static_cast<unsigned>(cpu), &one);
  if (cpu < 0 || sched_getaffinity(0, sizeof before_, &before_) != 0 || sched_setaffinity(0, sizeof one, &one) != 0) {
    throw std::runtime_error("cannot stay on one CPU");
  }
}

OnOneCpu::~OnOneCpu() {
  sched_setaffinity(0, sizeof before_, &before_);
}

void must(Errc e, const std::string& what, const lab::Peer& peer) {
  if (e != Errc::kOk) throw std::runtime_error(what + ": " + errc_name(e) + " " + peer.error);
}

Source::Source(lab::LabMachine& at, const std::string& name)
    : machine(at), peer(at), enclave(name), stream_(at.directory + "/stream"), capacity_(kSlack) {
  must(peer.build(enclave), "building " + enclave, peer);
  must(peer.start(), "starting " + enclave, peer);
}

void Source::fill(std::uint64_t bytes) {
  must(peer.call(workload::kFill, bytes).error(), "filling " + enclave, peer);
  capacity_ = bytes + kSlack;
}

std::unique_ptr<lab::Migration> Source::prepare(lab::LabMachine& to, lab::Peer* target) {
  auto migration = std::make_unique<lab::Migration>(machine, peer, to);
  must(migration->prepare(), "prepare", peer);
  must(migration->offer(), "offer", peer);
  if (target != nullptr) {
    must(target->build(enclave, peer.base), "building the target", *target);
    must(migration->meet(*target), "the target's session", *target);
  }
  return migration;
}

DumpTimes Source::dump() {
  Bytes out;
  must(peer.request(lab::Op::kMeasureDump, wire::encode(std::tuple(stream_, capacity_)), out), "dump", peer);
  std::array<std::uint64_t, 6> t{};
  if (!wire::decode(out, t)) throw std::runtime_error("dump: malformed times");
  return {t[0], t[1], t[2], t[3], t[4], t[5]};
}

FeedTimes Source::feed(lab::Peer& target, std::uint64_t bytes) {
  Bytes out;
  must(target.request(lab::Op::kMeasureFeed, wire::encode(std::tuple(stream_, bytes)), out), "restore", target);
  std::array<std::uint64_t, 4> t{};
  if (!wire::decode(out, t)) throw std::runtime_error("restore: malformed times");
  return {t[0], t[1], t[2], t[3]};
}

void Source::cancel() {
  must(peer.control(abi::ControlOp::kCancel), "cancel", peer);
  Bytes none;
  must(peer.request(lab::Op::kResumed, {}, none), "resume", peer);
}

CallTimes run_nothing(lab::Peer& peer) {
  return measure_call(peer, workload::kStopBusy.kId, {}, "ecall");
}

CallTimes run_kernel(lab::Peer& peer, workload::Kernel which, std::uint32_t size) {
  return measure_call(peer, workload::kRun.kId, wire::encode(std::tuple(static_cast<std::uint32_t>(which), size)),
                      "kernel");
}

}  // namespace sealift::bench

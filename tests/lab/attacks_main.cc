// What `make demo` shows of a hostile host: after a migration the destroyed source is entered again, a second copy is
// made from the same stream, and one bit of a stream is flipped. The full suite is in tests/hostile_*_test.cc.
#include <cstdio>

#include "tests/enclaves/counter_calls.h"
#include "tests/lab/lab.h"

namespace sealift::lab {
namespace {

int failures = 0;

void expect(bool refused, const char* what, const char* answer) {
  std::printf("  %-52s %s (%s)\n", what, refused ? "refused" : "NOT REFUSED", answer);
  if (!refused) ++failures;
}

// Every request on every TCS of an instance that should be dead.
bool enters(Peer& peer) {
  const abi::Status status = peer.status();
  for (std::uint32_t tcs = 1; tcs < status.tcs_count; ++tcs) {
    for (const auto request : {abi::Request::kCall, abi::Request::kOcallReturn, abi::Request::kThreadStart}) {
      if (peer.enter(tcs, request).reason != static_cast<std::uint64_t>(abi::Exit::kRefused)) return true;
    }
  }
  return false;
}

void attack() {
  LabMachine a, b;
  Peer source(a), target(b), copy(b), victim(b);
  if (source.build("counter") != Errc::kOk || source.start() != Errc::kOk) throw std::runtime_error(source.error);

  // One flipped bit: refused, and the source goes on.
  Migration first(a, source, b);
  if (first.prepare() != Errc::kOk || first.offer() != Errc::kOk || first.dump() != Errc::kOk) {
    throw std::runtime_error("the first attempt could not be prepared");
  }
  first.records[first.records.size() / 2][sizeof(record::RecordHeader)] ^= 1;
  if (victim.build("counter", source.base) != Errc::kOk || first.meet(victim) != Errc::kOk) {
    throw std::runtime_error("no target to send the tampered stream to");
  }
  const Errc flipped = first.feed(victim);
  expect(flipped == Errc::kBadTag, "one flipped bit in the stream:", errc_name(flipped));
  if (source.control(abi::ControlOp::kCancel) != Errc::kOk) throw std::runtime_error("the source did not go on");
  Bytes none;
  if (source.request(Op::kResumed, {}, none) != Errc::kOk || !source.call(counter::kStep).ok()) {
    throw std::runtime_error("the source did not go on");
  }

  // Two instances restore the same stream, and both are ready before either is granted.
  Migration second(a, source, b);
  const auto must = [](Errc e) {
    if (e != Errc::kOk) throw std::runtime_error(errc_name(e));
  };
  must(second.prepare());
  must(second.offer());
  must(second.dump());
  const auto restore = [&](Peer& peer) {
    must(peer.build("counter", source.base));
    must(second.meet(peer));
    must(second.feed(peer));
    must(second.ready(peer));
    return second.target_session;
  };
  const agent::SessionId first_session = restore(target), copy_session = restore(copy);
  must(second.commit());
  second.target_session = first_session;
  must(second.grant(target));
  expect(!enters(source), "entering the source that has migrated away:", errc_name(Errc::kGateClosed));
  second.target_session = copy_session;
  const Errc again = second.grant(copy);
  expect(again != Errc::kOk && !enters(copy), "a second copy of the same stream:", errc_name(again));
}

int run() {
  try {
    attack();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "attacks: %s\n", e.what());
    return 1;
  }
  return failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace sealift::lab

int main() {
  return sealift::lab::run();
}

// Every TCS, in every state, entered with every request, at both levels and under every gate: core defines the answer
// to each, and runs nothing that it should not (S3; design, section 6.3).
#include <gtest/gtest.h>

#include "tests/lab/one_enclave.h"

namespace sealift::lab {
namespace {

using abi::ControlOp;
using abi::Exit;
using abi::GateState;
using abi::Request;
using abi::ThreadState;

// --- The table: every TCS, every state, every request
// ------------------------------------------------------------------

const std::uint64_t kRequests[] = {0, 1, 2, 3, 4, 5, 6, 7, 0xff, 0x1'0000'0002, ~std::uint64_t{0}};

// RAX = 0: what core answers to (state, request) when it may not run anything.
Errc refusal(ThreadState state, std::uint64_t request, GateState gate) {
  ThreadState needed{};
  switch (request) {
    case static_cast<std::uint64_t>(Request::kCall):
      needed = ThreadState::kFree;
      break;
    case static_cast<std::uint64_t>(Request::kOcallReturn):
    case static_cast<std::uint64_t>(Request::kOcallAnswered):
      needed = ThreadState::kInOcall;
      break;
    case static_cast<std::uint64_t>(Request::kThreadStart):
      needed = ThreadState::kStarting;
      break;
    default:
      return Errc::kBadRequest;
  }
  if (state != needed) return Errc::kWrongState;
  return gate == GateState::kOpen ? Errc::kOk : Errc::kGateClosed;  // kOk: it would run
}

class HostileTable : public OneEnclave {
 protected:
  // All states there are, but for Running: main InOcall, 2 InOcall, 3 Parked (or what `peer` made of it), 4 Free, 5
  // Starting, the rest Unbound.
  void make_states() {
    const std::uint64_t bytes = peer_.put_call(kTcs, 3, wire::encode(std::tuple(1u)));  // kStartWorkers
    EncluResult r = peer_.finish(kTcs, peer_.enter(kTcs, Request::kCall, bytes));
    ASSERT_TRUE(left_with(r, Exit::kOcall));
    ASSERT_EQ(r.a, static_cast<std::uint64_t>(abi::OcallOp::kSpawn));
    interrupt_watching(kOtherTcs, 3);
    ASSERT_EQ(agent_.meet(peer_), Errc::kOk);
    ASSERT_EQ(close_gate(peer_), 1u);
    ASSERT_TRUE(left_with(peer_.handle(kOtherTcs), Exit::kParked));
    const abi::Status s = peer_.status();
    ASSERT_EQ(static_cast<ThreadState>(s.states[abi::kMainTcs]), ThreadState::kInOcall);
    ASSERT_EQ(static_cast<ThreadState>(s.states[kTcs]), ThreadState::kInOcall);
    ASSERT_EQ(static_cast<ThreadState>(s.states[kOtherTcs]), ThreadState::kParked);
    ASSERT_EQ(static_cast<ThreadState>(s.states[kThirdTcs]), ThreadState::kFree);
    ASSERT_EQ(static_cast<ThreadState>(s.states[kPoolTcs]), ThreadState::kStarting);
    ASSERT_EQ(static_cast<ThreadState>(s.states[kPoolTcs + 1]), ThreadState::kUnbound);
  }
  // Enters everything at CSSA = 0 (but TCS `busy`, whose CSSA is 1). Nothing may run and nothing may change.
  void expect_table(Peer& peer, GateState gate, std::uint32_t busy) {
    const abi::Status before = peer.status();
    ASSERT_EQ(static_cast<GateState>(before.gate), gate);
    for (std::uint32_t tcs = 0; tcs < before.tcs_count; ++tcs) {
      const auto state = static_cast<ThreadState>(before.states[tcs]);
      for (const std::uint64_t request : kRequests) {
        if (tcs == abi::kControlTcs && request == static_cast<std::uint64_t>(Request::kControl)) continue;
        SCOPED_TRACE("TCS " + std::to_string(tcs) + " request " + std::to_string(request));
        if (tcs == busy) {
          EXPECT_TRUE(undefined(peer.resume(tcs)));
          const bool handle = request == static_cast<std::uint64_t>(Request::kHandle);
          if (gate == GateState::kOpen && handle) continue;  // it would be un-parked
          EXPECT_TRUE(refused_with(peer.enter(tcs, request, 8, 8), handle ? Errc::kGateClosed : Errc::kBadRequest));
          continue;
        }
        const Errc expected = refusal(state, request, gate);
        if (expected == Errc::kOk) continue;
        EXPECT_TRUE(refused_with(peer.enter(tcs, request, 8, 8), expected));
      }
    }
    const abi::Status after = peer.status();
    EXPECT_EQ(std::memcmp(before.states, after.states, sizeof before.states), 0);
    EXPECT_EQ(after.running, 0u);
  }
  // RAX = 1 on threads that are not Parked: interrupted in the entry code, before they could be refused.
  void expect_nested_table(Peer& peer) {
    const std::uint64_t entry = peer.symbol("sealift_entry");
    const std::uint64_t second = peer.instructions(entry, entry + 64)[1];
    for (const std::uint32_t tcs : {kTcs, kThirdTcs, kPoolTcs, kPoolTcs + 1, abi::kControlTcs}) {
      SCOPED_TRACE("TCS " + std::to_string(tcs));
      const ThreadState state = state_of(peer, tcs);
      ASSERT_TRUE(interrupted(peer.enclu({kEenterLeaf, tcs, 99, 0, 0, {second}, {}, 0})));
      for (const std::uint64_t request : kRequests) {
        const EncluResult r = peer.enter(tcs, request, 8, 8);
        if (request == static_cast<std::uint64_t>(Request::kHandle)) {
          EXPECT_TRUE(left_with(r, Exit::kResume));
        } else {
          EXPECT_TRUE(refused_with(r, Errc::kBadRequest)) << request;
        }
      }
      EXPECT_TRUE(refused_with(peer.finish(tcs, peer.resume(tcs)), Errc::kBadRequest));
      EXPECT_EQ(state_of(peer, tcs), state);
    }
  }
};

TEST_F(HostileTable, UnbornEntersNothing) {
  Peer unborn(machine_);
  ASSERT_EQ(unborn.build("tiny"), Errc::kOk) << unborn.error;
  expect_table(unborn, GateState::kUnborn, ~0u);
  if (const std::string why = no_breakpoints(peer_); !why.empty()) GTEST_SKIP() << why;
  // Interrupted in the entry code, and entered once more: stage 1 has no thread blocks to work with yet.
  const std::uint64_t entry = unborn.symbol("sealift_entry");
  const std::uint64_t second = unborn.instructions(entry, entry + 64)[1];
  ASSERT_TRUE(interrupted(unborn.enclu({kEenterLeaf, kTcs, 99, 0, 0, {second}, {}, 0})));
  EXPECT_TRUE(refused_with(unborn.handle(kTcs), Errc::kGateClosed));
  EXPECT_TRUE(refused_with(unborn.finish(kTcs, unborn.resume(kTcs)), Errc::kBadRequest));
}

TEST_F(HostileTable, QuiescingEntersNothing) {
  make_states();
  expect_table(peer_, GateState::kQuiescing, kOtherTcs);
  if (const std::string why = no_breakpoints(peer_); !why.empty()) GTEST_SKIP() << why;
  expect_nested_table(peer_);
  EXPECT_FALSE(dump_rest(peer_).empty());
}

TEST_F(HostileTable, OpenEntersNothingOutOfPlace) {
  make_states();
  ASSERT_EQ(peer_.control(ControlOp::kCancel), Errc::kOk);
  expect_table(peer_, GateState::kOpen, kOtherTcs);
  if (const std::string why = no_breakpoints(peer_); !why.empty()) GTEST_SKIP() << why;
  expect_nested_table(peer_);
}

TEST_F(HostileTable, DestroyedEntersNothing) {
  make_states();
  const std::vector<Bytes> sealed = dump_rest(peer_);
  const messages::Prepare prepare = agent_.prepare();
  messages::Ready ready{};
  std::memcpy(ready.attempt, prepare.attempt, sizeof ready.attempt);
  const record::Final final = OpenStream::of(prepare, sealed).final_record();
  std::memcpy(ready.digest, final.digest, sizeof ready.digest);
  ASSERT_EQ(peer_.control(ControlOp::kCommit, agent_.session.seal(messages::SealedKind::kReady, ready)), Errc::kOk);
  expect_table(peer_, GateState::kDestroyed, kOtherTcs);
  if (const std::string why = no_breakpoints(peer_); !why.empty()) GTEST_SKIP() << why;
  expect_nested_table(peer_);
}

// At every step of a restore, and with the thread states of another machine in place, nothing can be entered. A Parked
// TCS is fresh here (CSSA = 0): whatever the host says of it, entering it is #UD and no more.
TEST_F(HostileTable, RestoringEntersNothing) {
  make_states();
  const std::vector<Bytes> sealed = dump_rest(peer_);
  const OpenStream stream = OpenStream::of(agent_.prepare(), sealed);
  LabMachine elsewhere;
  Peer target(elsewhere);
  KeyHolder agent(elsewhere);
  ASSERT_EQ(target.build("tiny", peer_.base), Errc::kOk) << target.error;
  const messages::KeyDelivery d = stream.delivery();
  ASSERT_EQ(target.control(ControlOp::kRestore, Bytes(std::begin(d.attempt), std::end(d.attempt))), Errc::kOk);
  expect_table(target, GateState::kRestoring, ~0u);
  ASSERT_EQ(agent.meet(target), Errc::kOk);
  ASSERT_EQ(agent.deliver(target, d), Errc::kOk);
  expect_table(target, GateState::kRestoring, ~0u);
  for (const Bytes& r : sealed) {
    ASSERT_EQ(target.control(ControlOp::kRecord, r), Errc::kOk);
    EXPECT_TRUE(
        refused_with(target.enter(kThirdTcs, Request::kCall, 8),
                     state_of(target, kThirdTcs) == ThreadState::kFree ? Errc::kGateClosed : Errc::kWrongState));
  }
  ASSERT_EQ(state_of(target, kOtherTcs), ThreadState::kParked);
  EXPECT_TRUE(undefined(target.enter(kOtherTcs, Request::kCall, 8)));  // the CPU itself makes CSSA 1
  expect_table(target, GateState::kRestoring, kOtherTcs);
  Bytes notice;
  ASSERT_EQ(target.control(ControlOp::kReady, {}, notice), Errc::kOk);
  expect_table(target, GateState::kRestoring, kOtherTcs);
  ASSERT_EQ(target.status().epoch, 1u);
}

}  // namespace
}  // namespace sealift::lab

// A host that does not play its part of quiescence: it never kicks, resumes what is parked, enters what it should not,
// and lies about where a thread is (S2, S3; design, section 6.3).
#include <gtest/gtest.h>

#include "tests/enclaves/counter_calls.h"
#include "tests/lab/expect.h"
#include "tests/lab/keyholder.h"
#include "tests/lab/lab.h"

namespace sealift::lab {
namespace {

using abi::ControlOp;
using abi::Exit;
using abi::GateState;
using abi::Request;
using abi::ThreadState;

constexpr std::uint32_t kTcs = 2, kOtherTcs = 3, kThirdTcs = 4,
                        kPoolTcs = 5;  // tiny: three ecall threads, then the pool

class HostileParking : public ::testing::Test {
 protected:
  HostileParking() : agent_(machine_), peer_(machine_) {}
  void SetUp() override {
    ASSERT_EQ(peer_.build("tiny"), Errc::kOk) << peer_.error;
    ASSERT_EQ(peer_.start(), Errc::kOk) << peer_.error;
  }
  // A thread in the middle of application code, interrupted: kWatch(until).
  void interrupt_spinning(std::uint32_t tcs, std::uint64_t until) {
    const std::uint64_t bytes = peer_.put_call(tcs, 13, wire::encode(std::tuple(until)));
    EncluArgs args{kEenterLeaf, tcs, static_cast<std::uint64_t>(Request::kCall), bytes, 0, {}, {}, 500};
    EncluResult r = peer_.enclu(args);
    // Until it is in the middle of nothing special: not in core, whose windows have tests of their own.
    const auto core = std::pair(peer_.symbol("sealift_entry"), peer_.symbol("sealift_park"));
    for (args.leaf = kEresumeLeaf; interrupted(r); r = peer_.enclu(args)) {
      const std::uint64_t rip = frame(tcs).rip - peer_.base;
      if (rip < core.first || rip > core.second) return;
    }
    FAIL() << "the thread left the enclave";
  }
  sgx::GprSgx frame(std::uint32_t tcs) {
    const std::uint64_t at = ssa_offset(peer_.config(), tcs) + sgx::kPageSize - sizeof(sgx::GprSgx);
    const Bytes bytes = peer_.peek(at, sizeof(sgx::GprSgx));
    sgx::GprSgx gpr{};
    std::memcpy(&gpr, bytes.data(), sizeof gpr);
    return gpr;
  }
  void step_until(std::uint32_t tcs, std::uint64_t value) {
    for (std::uint64_t i = 0; i < value; ++i) ASSERT_TRUE(peer_.raw_call(tcs, counter::kStep).ok());
  }
  void revive(Peer& copy, KeyHolder& agent, const OpenStream& stream, const std::vector<Bytes>& sealed) {
    ASSERT_EQ(copy.build("tiny", peer_.base), Errc::kOk) << copy.error;
    ASSERT_EQ(agent.restore(copy, stream, sealed), Errc::kOk);
    ASSERT_EQ(agent.grant(copy, stream), Errc::kOk);
  }

  LabMachine machine_;
  KeyHolder agent_;
  Peer peer_;
};

// The host closes the gate and then does nothing: no signal, no nested entry. The thread runs on, and there is no
// record.
TEST_F(HostileParking, WithoutAKickThereIsNoQuiescenceAndNoRecord) {
  ASSERT_TRUE(peer_.call(counter::kStartWorkers, 1u).ok());
  ASSERT_EQ(agent_.meet(peer_), Errc::kOk);
  for (int i = 0; i < 200; ++i) {
    ASSERT_EQ(close_gate(peer_), 1u);
    Bytes out;
    ASSERT_EQ(peer_.control(ControlOp::kDump, {}, out), Errc::kNotQuiescent);
    ASSERT_TRUE(out.empty());
  }
  ASSERT_EQ(peer_.status().records, 0u);
  reopen(peer_);
  EXPECT_TRUE(peer_.call(counter::kSpin, std::uint64_t{1}).ok());
  EXPECT_TRUE(peer_.call(counter::kStopWorkers).ok());
}

// A thread that is interrupted and never resumed is Running all the same: what it was about to do is not done.
TEST_F(HostileParking, AThreadHeldOutsideIsStillRunning) {
  interrupt_spinning(kTcs, 3);
  ASSERT_EQ(agent_.meet(peer_), Errc::kOk);
  EXPECT_EQ(close_gate(peer_), 1u);
  EXPECT_EQ(peer_.control(ControlOp::kDump), Errc::kNotQuiescent);
  EXPECT_TRUE(left_with(peer_.handle(kTcs), Exit::kParked));
  EXPECT_EQ(close_gate(peer_), 0u);
  EXPECT_EQ(peer_.control(ControlOp::kDump), Errc::kOk);
}

// ERESUME of parked threads, again and again: while the enclave is dumped, after a cancel, in a second attempt.
TEST_F(HostileParking, ResumingAParkedThreadRunsNothing) {
  interrupt_spinning(kTcs, 3);
  for (int attempt = 0; attempt < 3; ++attempt) {
    ASSERT_EQ(agent_.meet(peer_), Errc::kOk);
    ASSERT_EQ(close_gate(peer_), 1u);
    ASSERT_TRUE(left_with(peer_.handle(kTcs), Exit::kParked));
    ASSERT_EQ(close_gate(peer_), 0u);
    std::vector<Bytes> sealed;
    while (sealed.empty() || !is_final(sealed.back())) {
      for (int i = 0; i < 20; ++i) ASSERT_TRUE(undefined(peer_.resume(kTcs)));
      EXPECT_TRUE(refused_with(peer_.handle(kTcs), Errc::kGateClosed));
      ASSERT_EQ(state_of(peer_, kTcs), ThreadState::kParked);
      Bytes batch;
      ASSERT_EQ(peer_.control(ControlOp::kDump, {}, batch), Errc::kOk);
      for (Bytes& r : split(batch)) sealed.push_back(std::move(r));
    }
    EXPECT_EQ(OpenStream::of(agent_.prepare(), sealed).records.size(), sealed.size());
    ASSERT_EQ(peer_.control(ControlOp::kCancel), Errc::kOk);
    // The gate is open, and the thread is still parked until stage 1 lets it go.
    for (int i = 0; i < 20; ++i) ASSERT_TRUE(undefined(peer_.resume(kTcs)));
    ASSERT_EQ(state_of(peer_, kTcs), ThreadState::kParked);
    ASSERT_TRUE(left_with(peer_.handle(kTcs), Exit::kResume));
    ASSERT_EQ(state_of(peer_, kTcs), ThreadState::kRunning);
  }
  step_until(kOtherTcs, 3);
  std::uint64_t reached = 0;
  EXPECT_EQ(peer_.take_call(kTcs, peer_.finish(kTcs, peer_.resume(kTcs)), reached), Errc::kOk);
  EXPECT_EQ(reached, 3u);
}

// The #UD of a resumed parked thread is the host's doing. It must never be dispatched as if application code had raised
// it.
TEST_F(HostileParking, TheUndefinedInstructionOfAParkedThreadIsNoEvidence) {
  interrupt_spinning(kTcs, 3);
  const sgx::GprSgx before = frame(kTcs);
  ASSERT_EQ(agent_.meet(peer_), Errc::kOk);
  ASSERT_EQ(close_gate(peer_), 1u);
  ASSERT_TRUE(left_with(peer_.handle(kTcs), Exit::kParked));
  ASSERT_TRUE(undefined(peer_.resume(kTcs)));
  ASSERT_NE(frame(kTcs).exitinfo & sgx::exitinfo::kValid, 0u);
  ASSERT_EQ(peer_.control(ControlOp::kCancel), Errc::kOk);
  ASSERT_TRUE(left_with(peer_.handle(kTcs), Exit::kResume));
  EXPECT_EQ(frame(kTcs).exitinfo, 0u);
  // Handled once more in place of resumed: there is nothing to handle.
  ASSERT_TRUE(left_with(peer_.handle(kTcs), Exit::kResume));
  const sgx::GprSgx after = frame(kTcs);
  EXPECT_EQ(after.rip, before.rip);
  EXPECT_EQ(after.rsp, before.rsp);
  EXPECT_EQ(after.rax, before.rax);
  EXPECT_EQ(after.rdi, before.rdi);
}

// An exception that was pending when its thread was parked is gone with the parking: the instruction raises it anew.
TEST_F(HostileParking, AnExceptionIsHandledOnceAndNeverFromAnOldFrame) {
  const std::uint64_t bytes = peer_.put_call(kTcs, 11, wire::encode(std::tuple(std::uint64_t{65536})));
  ASSERT_TRUE(undefined(peer_.enter(kTcs, Request::kCall, bytes)));  // mmap
  const std::uint64_t at = frame(kTcs).rip;
  ASSERT_EQ(agent_.meet(peer_), Errc::kOk);
  ASSERT_EQ(close_gate(peer_), 1u);
  ASSERT_TRUE(left_with(peer_.handle(kTcs), Exit::kParked));
  ASSERT_EQ(peer_.control(ControlOp::kCancel), Errc::kOk);
  ASSERT_TRUE(left_with(peer_.handle(kTcs), Exit::kResume));
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(left_with(peer_.handle(kTcs), Exit::kResume));
    EXPECT_EQ(frame(kTcs).rip, at) << "stage 1 took a syscall from a frame without evidence";
  }
  ASSERT_TRUE(undefined(peer_.resume(kTcs)));
  ASSERT_TRUE(left_with(peer_.handle(kTcs), Exit::kResume));
  EXPECT_NE(frame(kTcs).rip, at);
  EXPECT_TRUE(left_with(peer_.finish(kTcs, peer_.resume(kTcs)), Exit::kDone));
}

// Stage 1 itself, interrupted at each of its instructions while it parks and un-parks: CSSA is 2, so the host can only
// resume it, and a thread counts as parked from the moment that it says so.
TEST_F(HostileParking, EveryInstructionOfParkingCanBeInterrupted) {
  if (const std::string why = no_breakpoints(peer_); !why.empty()) GTEST_SKIP() << why;
  const auto [begin, end] = peer_.function("sealift_stage1");
  ASSERT_LT(begin, end);
  LabMachine elsewhere;
  Peer copy(elsewhere);
  interrupt_spinning(kTcs, 3);
  int parking = 0, parked = 0, unparking = 0;
  const std::vector<std::uint64_t> all = peer_.instructions(begin, end);
  for (const std::uint64_t at : all) {
    const EncluArgs nested{kEenterLeaf, kTcs, static_cast<std::uint64_t>(Request::kHandle), 0, 0, {at}, {}, 0};
    ASSERT_EQ(agent_.meet(peer_), Errc::kOk);
    ASSERT_EQ(close_gate(peer_), 1u);
    EncluResult r = peer_.enclu(nested);
    if (r.hit) {
      ++parking;
      EXPECT_TRUE(faulted(peer_.handle(kTcs))) << at;  // CSSA = NSSA
      Bytes batch;
      if (state_of(peer_, kTcs) == ThreadState::kRunning) {
        EXPECT_EQ(peer_.control(ControlOp::kDump, {}, batch), Errc::kNotQuiescent) << at;
      } else {
        const std::vector<Bytes> sealed = dump_rest(peer_);
        if (++parked == 1) {  // the first moment at which this can be
          KeyHolder agent(elsewhere);
          revive(copy, agent, OpenStream::of(agent_.prepare(), sealed), sealed);
          ASSERT_TRUE(undefined(copy.enter(kTcs, Request::kCall)));
          ASSERT_TRUE(left_with(copy.handle(kTcs), Exit::kResume));
          for (int i = 0; i < 3; ++i) ASSERT_TRUE(copy.raw_call(kOtherTcs, counter::kStep).ok());
          std::uint64_t reached = 0;
          ASSERT_EQ(copy.take_call(kTcs, copy.finish(kTcs, copy.resume(kTcs)), reached), Errc::kOk);
          ASSERT_EQ(reached, 3u);
        }
      }
      r = peer_.finish(kTcs, peer_.resume(kTcs));
    }
    ASSERT_TRUE(left_with(r, Exit::kParked)) << at;
    ASSERT_EQ(peer_.control(ControlOp::kCancel), Errc::kOk);
    r = peer_.enclu(nested);
    if (r.hit) {
      ++unparking;
      EXPECT_TRUE(faulted(peer_.handle(kTcs))) << at;
      r = peer_.finish(kTcs, peer_.resume(kTcs));
    }
    ASSERT_TRUE(left_with(r, Exit::kResume)) << at;
  }
  EXPECT_GT(parking, 20);
  EXPECT_GT(parked, 0);
  EXPECT_GT(unparking, 20);
  step_until(kOtherTcs, 3);
  std::uint64_t reached = 0;
  EXPECT_EQ(peer_.take_call(kTcs, peer_.finish(kTcs, peer_.resume(kTcs)), reached), Errc::kOk);
}

// A thread that stage 1 was about to un-park when the gate closed again: it reads the gate after it says Running.
TEST_F(HostileParking, AnUnparkingThatIsOvertakenByTheNextAttemptParksAgain) {
  if (const std::string why = no_breakpoints(peer_); !why.empty()) GTEST_SKIP() << why;
  interrupt_spinning(kTcs, 3);
  ASSERT_EQ(agent_.meet(peer_), Errc::kOk);
  ASSERT_EQ(close_gate(peer_), 1u);
  ASSERT_TRUE(left_with(peer_.handle(kTcs), Exit::kParked));
  const auto [begin, end] = peer_.function("sealift_stage1");
  int overtaken = 0;
  for (const std::uint64_t at : peer_.instructions(begin, end, "xchg")) {  // publishes a state
    ASSERT_EQ(peer_.control(ControlOp::kCancel), Errc::kOk);
    EncluResult r = peer_.enclu({kEenterLeaf, kTcs, static_cast<std::uint64_t>(Request::kHandle), 0, 0, {at}, {}, 0});
    if (!r.hit) {  // another publication than un-parking's
      ASSERT_TRUE(left_with(r, Exit::kResume));
      ASSERT_EQ(agent_.meet(peer_), Errc::kOk);
      ASSERT_EQ(close_gate(peer_), 1u);
      ASSERT_TRUE(left_with(peer_.handle(kTcs), Exit::kParked));
      continue;
    }
    ++overtaken;
    ASSERT_EQ(agent_.meet(peer_), Errc::kOk);
    ASSERT_EQ(close_gate(peer_), 0u);  // it has not said Running yet
    r = peer_.finish(kTcs, peer_.resume(kTcs));
    EXPECT_TRUE(refused_with(r, Errc::kGateClosed));
    EXPECT_EQ(state_of(peer_, kTcs), ThreadState::kParked);
    EXPECT_TRUE(undefined(peer_.resume(kTcs)));
    EXPECT_FALSE(dump_rest(peer_).empty());
  }
  EXPECT_EQ(overtaken, 1);
}

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

class HostileTable : public HostileParking {
 protected:
  // All states there are, but for Running: main InOcall, 2 InOcall, 3 Parked (or what `peer` made of it), 4 Free, 5
  // Starting, the rest Unbound.
  void make_states() {
    const std::uint64_t bytes = peer_.put_call(kTcs, 3, wire::encode(std::tuple(1u)));  // kStartWorkers
    EncluResult r = peer_.finish(kTcs, peer_.enter(kTcs, Request::kCall, bytes));
    ASSERT_TRUE(left_with(r, Exit::kOcall));
    ASSERT_EQ(r.a, static_cast<std::uint64_t>(abi::OcallOp::kSpawn));
    interrupt_spinning(kOtherTcs, 3);
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

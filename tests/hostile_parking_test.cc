// A host that does not play its part of quiescence: it never kicks, resumes what is parked, enters what it should not,
// and lies about where a thread is (S2, S3; design, section 6.3).
#include <gtest/gtest.h>

#include "tests/lab/one_enclave.h"

namespace sealift::lab {
namespace {

using abi::ControlOp;
using abi::Exit;
using abi::GateState;
using abi::Request;
using abi::ThreadState;

constexpr std::uint32_t kTcs = 2, kOtherTcs = 3, kThirdTcs = 4,
                        kPoolTcs = 5;  // tiny: three ecall threads, then the pool

class HostileParking : public OneEnclave {
 protected:
  void step_until(std::uint32_t tcs, std::uint64_t value) {
    for (std::uint64_t i = 0; i < value; ++i) ASSERT_TRUE(peer_.raw_call(tcs, counter::kStep).ok());
  }
};

// The host closes the gate and then does nothing: no signal, no nested entry. The thread runs on, and there is no
// record.
TEST_F(HostileParking, WithoutAKickThereIsNoQuiescenceAndNoRecord) {
  ASSERT_TRUE(peer_.call(counter::kStartWorkers, 1u).ok());
  // Until the worker is inside: a gate that closes before it entered leaves it outside, where it counts as stopped.
  ASSERT_TRUE(peer_.call(counter::kWatch, std::uint64_t{100}).ok());
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
  interrupt_watching(kTcs, 3);
  ASSERT_EQ(agent_.meet(peer_), Errc::kOk);
  EXPECT_EQ(close_gate(peer_), 1u);
  EXPECT_EQ(peer_.control(ControlOp::kDump), Errc::kNotQuiescent);
  EXPECT_TRUE(left_with(peer_.handle(kTcs), Exit::kParked));
  EXPECT_EQ(close_gate(peer_), 0u);
  EXPECT_EQ(peer_.control(ControlOp::kDump), Errc::kOk);
}

// ERESUME of parked threads, again and again: while the enclave is dumped, after a cancel, in a second attempt.
TEST_F(HostileParking, ResumingAParkedThreadRunsNothing) {
  interrupt_watching(kTcs, 3);
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
  interrupt_watching(kTcs, 3);
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
  const std::uint64_t redirected = frame(kTcs).rip;
  EXPECT_NE(redirected, at);
  // And once more, before the thread has gone on: what was handled is no evidence any more.
  EXPECT_TRUE(left_with(peer_.handle(kTcs), Exit::kResume));
  EXPECT_EQ(frame(kTcs).rip, redirected);
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
  interrupt_watching(kTcs, 3);
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
  interrupt_watching(kTcs, 3);
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

}  // namespace
}  // namespace sealift::lab

// Entry, exit and parking under `softsgx run --single-step`: the enclave is interrupted after every instruction there,
// and at each of those points it is checkpointed. Every checkpoint restores on another machine, and the original goes
// on (S2; design, section 6.3).
//
// Without SEALIFT_EXHAUSTIVE=1 only some points of an ocall and of stage 1 are taken, so that this ends within a
// minute.
#include <gtest/gtest.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <set>

#include "tests/lab/one_enclave.h"

namespace sealift::lab {
namespace {

using abi::ControlOp;
using abi::Exit;
using abi::Request;
using abi::ThreadState;

// What `--single-step=` says: core's entry and exit code; stage 1.
constexpr const char* kCrossing = "sealift_entry-sealift_thread_exit";
constexpr const char* kStage1 = "sealift_stage1";

// One thread is stepped: the others, the control thread among them, run as they are.
std::vector<std::string> stepping(const std::string& window, std::uint32_t tcs) {
  static const EnclaveConfig config = [] {
    const LabMachine machine;
    Peer probe(machine);
    EXPECT_EQ(probe.build("tiny"), Errc::kOk) << probe.error;
    return probe.config();
  }();
  char offset[32];
  std::snprintf(offset, sizeof offset, "@+0x%llx", static_cast<unsigned long long>(tcs_offset(config, tcs)));
  return {std::string("--single-step=") + SEALIFT_BIN_DIR "/tiny.enclave:" + window + offset};
}

class SingleStep : public OneEnclave {
 protected:
  explicit SingleStep(const std::string& window) : OneEnclave(stepping(window, kTcs)) {}

  static std::uint64_t stride(std::uint64_t otherwise) {
    return std::getenv("SEALIFT_EXHAUSTIVE") != nullptr ? 1 : otherwise;  // NOLINT(concurrency-mt-unsafe)
  }
  EncluResult next(std::uint32_t tcs, const EncluResult& r) {
    if (r.exception != 0) {
      EXPECT_TRUE(left_with(peer_.finish(tcs, peer_.handle(tcs)), Exit::kResume));
    }
    return peer_.resume(tcs);
  }
  // `r` and `n` more interruptions, or the end if that comes before.
  EncluResult skip(std::uint32_t tcs, EncluResult r, std::uint64_t n) {
    while (n > 0 && r.outcome == static_cast<std::uint64_t>(RawOutcome::kAex)) {
      if (interrupted(r)) --n;
      r = next(tcs, r);
    }
    while (r.outcome == static_cast<std::uint64_t>(RawOutcome::kAex) && !interrupted(r)) r = next(tcs, r);
    return r;
  }
  EncluResult handle_to_the_end(std::uint32_t tcs) { return peer_.finish(tcs, peer_.handle(tcs)); }

  // A copy of the quiescent enclave on another machine, which runs; `check` is asked what it finds there.
  template <typename Check>
  void expect_restores(Check check) {
    const std::vector<Bytes> sealed = dump_rest(peer_);
    ASSERT_TRUE(!sealed.empty() && is_final(sealed.back()));
    KeyHolder agent(elsewhere_);
    Peer copy(elsewhere_);
    revive(copy, agent, OpenStream::of(agent_.prepare(), sealed), sealed);
    if (HasFatalFailure()) return;
    check(copy);
    const auto state = copy.raw_call(kThirdTcs, counter::kState);
    ASSERT_TRUE(state.ok());
    EXPECT_TRUE(state->consistent);
    ++checkpoints_;
  }

  LabMachine elsewhere_;
  int checkpoints_ = 0;
};

// --- A call, from EENTER to EEXIT

class SingleStepCall : public SingleStep {
 protected:
  SingleStepCall() : SingleStep(kCrossing) {}

  EncluResult put(const std::string& value) {
    return peer_.enter(kTcs, Request::kCall,
                       peer_.put_call(kTcs, 5, wire::encode(std::tuple(std::string("k"), value))));
  }
  // What an honest host does with a thread that is interrupted while the gate is closed. What the thread came to.
  EncluResult settle(EncluResult r) {
    while (close_gate(peer_) != 0) {
      const EncluResult answer = handle_to_the_end(kTcs);
      if (left_with(answer, Exit::kParked)) return answer;
      EXPECT_TRUE(left_with(answer, Exit::kResume));
      r = peer_.finish(kTcs, peer_.resume(kTcs));
      if (::testing::Test::HasFailure()) break;
    }
    return r;
  }
};

TEST_F(SingleStepCall, EveryPointOfACallYieldsACheckpointThatRestores) {
  std::set<std::uint64_t> points;
  std::string before;
  ASSERT_TRUE(left_with(peer_.finish(kTcs, put(before)), Exit::kDone));
  for (std::uint64_t n = 0;; n += stride(2)) {
    SCOPED_TRACE("point " + std::to_string(n));
    const std::string value = "value " + std::to_string(n);
    EncluResult r = skip(kTcs, put(value), n);
    if (!interrupted(r)) {
      ASSERT_TRUE(left_with(r, Exit::kDone));
      break;
    }
    points.insert(frame(kTcs).rip - peer_.base);
    ASSERT_EQ(agent_.meet(peer_), Errc::kOk);
    r = settle(r);
    const ThreadState frozen = state_of(peer_, kTcs);
    ASSERT_TRUE(frozen == ThreadState::kParked || frozen == ThreadState::kFree);
    expect_restores([&](Peer& copy) {
      ASSERT_EQ(state_of(copy, kTcs), frozen);
      const bool in_flight = frozen == ThreadState::kParked;
      if (in_flight) {
        ASSERT_TRUE(left_with(copy.finish(kTcs, copy.enter(kTcs, Request::kCall)), Exit::kDone));
      }
      const auto got = copy.raw_call(kOtherTcs, counter::kGet, "k");
      ASSERT_TRUE(got.ok());
      EXPECT_TRUE(*got == value || (!in_flight && *got == before)) << *got;
    });
    ASSERT_FALSE(HasFailure());

    ASSERT_EQ(peer_.control(ControlOp::kCancel), Errc::kOk);
    if (frozen == ThreadState::kParked) {
      ASSERT_TRUE(left_with(handle_to_the_end(kTcs), Exit::kResume));
      r = peer_.finish(kTcs, peer_.resume(kTcs));
    } else if (r.outcome == static_cast<std::uint64_t>(RawOutcome::kAex)) {
      r = peer_.finish(kTcs, peer_.resume(kTcs));  // outside in truth: it was on its way in or out
    }
    ASSERT_TRUE(left_with(r, Exit::kDone) || refused_with(r, Errc::kGateClosed));
    const auto now = peer_.raw_call(kOtherTcs, counter::kGet, "k");
    ASSERT_TRUE(now.ok());
    ASSERT_EQ(*now, left_with(r, Exit::kDone) ? value : before);
    before = *now;
  }
  std::cout << "single-step: " << points.size() << " instructions of a call, " << checkpoints_
            << " checkpoints restored\n";
  EXPECT_GE(static_cast<std::uint64_t>(checkpoints_), points.size());
  EXPECT_GT(points.size(), 30u);
}

// --- An ocall: out with a question, in with the answer

class SingleStepOcall : public SingleStepCall {
 protected:
  // kRead; interrupted at its n-th point, or at its end.
  EncluResult read_until(std::uint64_t n) {
    EncluResult r = peer_.enter(kTcs, Request::kCall, peer_.put_call(kTcs, 12, wire::encode(std::tuple(kBytes))));
    for (;;) {
      if (left_with(r, Exit::kOcall)) {
        r = peer_.enter(kTcs, Request::kOcallReturn);
        continue;
      }
      if (r.outcome != static_cast<std::uint64_t>(RawOutcome::kAex) || (interrupted(r) && n-- == 0)) return r;
      r = next(kTcs, r);
    }
  }
  // To the end, whatever the thread waits for. Every answer is: nothing was read.
  static EncluResult complete(Peer& peer, EncluResult r) {
    while (left_with(r, Exit::kOcall) ||
           (refused_with(r, Errc::kGateClosed) && state_of(peer, kTcs) == ThreadState::kInOcall)) {
      r = peer.finish(kTcs, peer.enter(kTcs, Request::kOcallReturn));
    }
    return r;
  }
  // `migrated`: EINTR will do, which is what a read gets whose host side was left behind.
  static void expect_nothing_read(Peer& peer, const EncluResult& r, bool migrated) {
    std::tuple<std::int64_t, bool> read{-1, false};
    ASSERT_EQ(peer.take_call(kTcs, r, read), Errc::kOk);
    EXPECT_TRUE(std::get<0>(read) == 0 || (migrated && std::get<0>(read) == -EINTR)) << std::get<0>(read);
    EXPECT_TRUE(std::get<1>(read));
  }

  static constexpr std::uint64_t kBytes = 100;
};

TEST_F(SingleStepOcall, EveryPointOfAnOcallYieldsACheckpointThatRestores) {
  std::set<std::uint64_t> points;
  for (std::uint64_t n = 0;; n += stride(16)) {
    SCOPED_TRACE("point " + std::to_string(n));
    EncluResult r = read_until(n);
    if (!interrupted(r)) {
      ASSERT_TRUE(left_with(r, Exit::kDone));
      break;
    }
    points.insert(frame(kTcs).rip - peer_.base);
    ASSERT_EQ(agent_.meet(peer_), Errc::kOk);
    r = settle(r);
    const ThreadState frozen = state_of(peer_, kTcs);
    expect_restores([&](Peer& copy) {
      ASSERT_EQ(state_of(copy, kTcs), frozen);
      if (frozen == ThreadState::kFree) return;  // not begun, or over
      ASSERT_TRUE(frozen == ThreadState::kParked || frozen == ThreadState::kInOcall);
      const EncluResult there = copy.finish(kTcs, copy.enter(kTcs, Request::kOcallReturn));
      expect_nothing_read(copy, complete(copy, there), true);
    });
    ASSERT_FALSE(HasFailure());

    ASSERT_EQ(peer_.control(ControlOp::kCancel), Errc::kOk);
    if (frozen == ThreadState::kParked) {
      ASSERT_TRUE(left_with(handle_to_the_end(kTcs), Exit::kResume));
    }
    if (frozen == ThreadState::kParked || r.outcome == static_cast<std::uint64_t>(RawOutcome::kAex)) {
      r = peer_.finish(kTcs, peer_.resume(kTcs));
    }
    r = complete(peer_, r);
    if (!refused_with(r, Errc::kGateClosed)) expect_nothing_read(peer_, r, false);
    ASSERT_EQ(state_of(peer_, kTcs), ThreadState::kFree);
  }
  std::cout << "single-step: " << points.size() << " instructions of an ocall, " << checkpoints_
            << " checkpoints restored\n";
  EXPECT_GT(points.size(), 5u);
}

// --- Parking and un-parking

class SingleStepParking : public SingleStep, public ::testing::WithParamInterface<const char*> {
 protected:
  SingleStepParking() : SingleStep(GetParam()) {}

  // SSA[1]: where stage 1 is.
  std::uint64_t nested_rip() {
    const EnclaveConfig c = peer_.config();
    const std::uint64_t frame_bytes = std::uint64_t{c.ssa_frame_pages} * sgx::kPageSize;
    const std::uint64_t at = ssa_offset(c, kTcs) + 2 * frame_bytes - sizeof(sgx::GprSgx);
    sgx::GprSgx gpr{};
    const Bytes bytes = peer_.peek(at, sizeof gpr);
    std::memcpy(&gpr, bytes.data(), sizeof gpr);
    return gpr.rip - peer_.base;
  }
  void close_with_session() {
    ASSERT_EQ(agent_.meet(peer_), Errc::kOk);
    (void)close_gate(peer_);
  }
  // The parked thread is at the same place of its work over there, and comes to its end.
  void expect_parked_thread_restores() {
    ASSERT_EQ(state_of(peer_, kTcs), ThreadState::kParked);
    expect_restores([](Peer& copy) {
      ASSERT_TRUE(undefined(copy.enter(kTcs, Request::kCall)));
      ASSERT_TRUE(left_with(copy.handle(kTcs), Exit::kResume));
      for (int i = 0; i < 3; ++i) ASSERT_TRUE(copy.raw_call(kOtherTcs, counter::kStep).ok());
      std::uint64_t reached = 0;
      ASSERT_EQ(copy.take_call(kTcs, copy.finish(kTcs, copy.resume(kTcs)), reached), Errc::kOk);
      EXPECT_EQ(reached, 3u);
    });
  }
  // Interrupted at its n-th point, stage 1 can only be resumed; nothing is recorded until it has said Parked.
  bool park_at(std::uint64_t n) {
    EncluResult r = skip(kTcs, peer_.handle(kTcs), n);
    const bool reached = interrupted(r);
    if (reached) {
      points_.insert(nested_rip());
      EXPECT_TRUE(faulted(peer_.handle(kTcs)));  // CSSA = NSSA
      if (state_of(peer_, kTcs) == ThreadState::kRunning) {
        EXPECT_EQ(peer_.control(ControlOp::kDump), Errc::kNotQuiescent);
        r = peer_.finish(kTcs, peer_.resume(kTcs));
      }
    }
    expect_parked_thread_restores();
    if (interrupted(r)) r = peer_.finish(kTcs, peer_.resume(kTcs));
    EXPECT_TRUE(left_with(r, Exit::kParked));
    return reached;
  }
  // The same on the way back, overtaken there by the next attempt.
  bool unpark_at(std::uint64_t n) {
    EncluResult r = skip(kTcs, peer_.handle(kTcs), n);
    if (!interrupted(r)) {
      EXPECT_TRUE(left_with(r, Exit::kResume));
      return false;
    }
    points_.insert(nested_rip());
    close_with_session();
    r = peer_.finish(kTcs, peer_.resume(kTcs));
    EXPECT_TRUE(left_with(r, Exit::kResume) || refused_with(r, Errc::kGateClosed));
    if (state_of(peer_, kTcs) == ThreadState::kRunning) {
      EXPECT_TRUE(left_with(handle_to_the_end(kTcs), Exit::kParked));
    }
    expect_parked_thread_restores();
    EXPECT_EQ(peer_.control(ControlOp::kCancel), Errc::kOk);
    EXPECT_TRUE(left_with(handle_to_the_end(kTcs), Exit::kResume));
    return true;
  }

  std::set<std::uint64_t> points_;
};

TEST_P(SingleStepParking, EveryPointOfParkingAndUnparkingYieldsACheckpointThatRestores) {
  const std::uint64_t step = GetParam() == kStage1 ? stride(6) : stride(2);
  interrupt_watching(kTcs, 3);
  for (std::uint64_t n = 0;; n += step) {
    SCOPED_TRACE("point " + std::to_string(n));
    close_with_session();
    const bool parking = park_at(n);
    ASSERT_EQ(peer_.control(ControlOp::kCancel), Errc::kOk);
    const bool unparking = unpark_at(n);
    ASSERT_FALSE(HasFailure());
    if (!parking && !unparking) break;
  }
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(peer_.raw_call(kOtherTcs, counter::kStep).ok());
  std::uint64_t reached = 0;
  EXPECT_EQ(peer_.take_call(kTcs, peer_.finish(kTcs, peer_.resume(kTcs)), reached), Errc::kOk);
  EXPECT_EQ(reached, 3u);
  std::cout << "single-step: " << points_.size() << " instructions of parking, " << checkpoints_
            << " checkpoints restored\n";
  EXPECT_GT(points_.size(), 15u);
}

INSTANTIATE_TEST_SUITE_P(Windows, SingleStepParking, ::testing::Values(kCrossing, kStage1),
                         [](const auto& info) { return std::string(info.index == 0 ? "EntryAndExit" : "Stage1"); });

}  // namespace
}  // namespace sealift::lab

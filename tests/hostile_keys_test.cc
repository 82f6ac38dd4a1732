// What the host has no way to choose, and what an enclave must forget: the state that it enters with, and the attempt's
// key once it has served (S1; design, sections 6.3 and 7).
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/lab/one_enclave.h"

namespace sealift::lab {
namespace {

using abi::ControlOp;
using abi::Exit;
using abi::GateState;
using abi::Request;
using abi::ThreadState;

class HostileEntry : public OneEnclave {
 protected:
  static EncluArgs dirty(std::uint32_t tcs, Request request, std::uint64_t a) {
    return {kEenterLeaf, tcs, static_cast<std::uint64_t>(request), a, 0, {}, {}, 0, true};
  }
  Errc call_dirty(std::uint32_t tcs, std::uint32_t id, const Bytes& arguments, EncluResult& end) {
    const std::uint64_t bytes = peer_.put_call(tcs, id, arguments);
    end = peer_.finish(tcs, peer_.enclu(dirty(tcs, Request::kCall, bytes)));
    return left_with(end, Exit::kDone) ? Errc::kOk : Errc::kCrashed;
  }
};

// DF, AC, and control words of x87 and SSE, as a host may leave them at EENTER: copies that ran backwards, or faults
// where there must be none, in a call, in the control thread, and in stage 1 (CVE-2019-14565 was the first of the
// kind).
TEST_F(HostileEntry, TheHostsFlagsAndControlWordsAreNotTheEnclaves) {
  const std::string value(1000, 'x');
  EncluResult end;
  ASSERT_EQ(call_dirty(kTcs, 5, wire::encode(std::tuple(std::string("k"), value)), end), Errc::kOk);  // kPut
  ASSERT_EQ(call_dirty(kTcs, 6, wire::encode(std::string("k")), end), Errc::kOk);                     // kGet
  std::string got;
  ASSERT_EQ(peer_.take_call(kTcs, end, got), Errc::kOk);
  EXPECT_EQ(got, value);
  end = peer_.finish(0, peer_.enclu(dirty(0, Request::kControl, static_cast<std::uint64_t>(ControlOp::kStatus))));
  ASSERT_TRUE(left_with(end, Exit::kDone));
  EXPECT_EQ(end.a, 0u);
  EXPECT_EQ(end.b, sizeof(abi::Status));

  interrupt_watching(kTcs, 3);
  ASSERT_EQ(agent_.meet(peer_), Errc::kOk);
  ASSERT_EQ(close_gate(peer_), 1u);
  ASSERT_TRUE(left_with(peer_.finish(kTcs, peer_.enclu(dirty(kTcs, Request::kHandle, 0))), Exit::kParked));
  ASSERT_EQ(state_of(peer_, kTcs), ThreadState::kParked);
  ASSERT_EQ(peer_.control(ControlOp::kCancel), Errc::kOk);
  ASSERT_TRUE(left_with(peer_.finish(kTcs, peer_.enclu(dirty(kTcs, Request::kHandle, 0))), Exit::kResume));
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(peer_.raw_call(kOtherTcs, counter::kStep).ok());
  std::uint64_t reached = 0;
  EXPECT_EQ(peer_.take_call(kTcs, peer_.finish(kTcs, peer_.resume(kTcs)), reached), Errc::kOk);
  EXPECT_EQ(reached, 3u);
}

// Only the laboratory can look into EPC; what it looks for is what the design says is erased.
class HostileKeys : public OneEnclave {
 protected:
  HostileKeys() : target_agent_(elsewhere_), target_(elsewhere_) {}

  // Copies of K in everything that core may write: key schedules, scratch, stacks. (An AES-256 schedule begins with
  // the key.)
  static std::size_t copies_of(Peer& peer, const messages::Prepare& prepare) {
    // All of it that there is: blocks of threads which the enclave cannot have are not.
    const EnclaveConfig c = peer.config();
    const std::uint64_t begin = peer.symbol("sealift_core_begin");
    const std::uint64_t absent = c.thread_block_offset + c.tcs_count * c.thread_block_stride;
    const std::uint64_t behind = c.thread_block_offset + abi::kMaxTcs * c.thread_block_stride;
    Bytes core = peer.peek(begin, absent - begin);
    const Bytes rest = peer.peek(behind, peer.symbol("sealift_core_end") - behind);
    core.insert(core.end(), rest.begin(), rest.end());
    std::size_t n = 0;
    for (auto at = core.begin();
         (at = std::search(at, core.end(), std::begin(prepare.key), std::end(prepare.key))) != core.end(); ++at) {
      ++n;
    }
    return n;
  }
  messages::Ready ready_of(const OpenStream& stream) {
    messages::Ready ready{};
    std::memcpy(ready.attempt, stream.prepare.attempt, sizeof ready.attempt);
    std::memcpy(ready.digest, stream.final_record().digest, sizeof ready.digest);
    return ready;
  }
  OpenStream stream() {
    EXPECT_EQ(agent_.meet(peer_), Errc::kOk);
    sealed_ = dump_all(peer_);
    OpenStream s = OpenStream::of(agent_.prepare(), sealed_);
    EXPECT_EQ(copies_of(peer_, s.prepare), 1u) << "the schedule alone; or the test looks in the wrong place";
    return s;
  }

  LabMachine elsewhere_;
  KeyHolder target_agent_;
  Peer target_;
  std::vector<Bytes> sealed_;
};

TEST_F(HostileKeys, ACancelledAttemptHasNoKeyAnyMore) {
  const OpenStream s = stream();
  reopen(peer_);
  EXPECT_EQ(copies_of(peer_, s.prepare), 0u);
  EXPECT_TRUE(peer_.call(counter::kPut, "k", "v").ok());
}

TEST_F(HostileKeys, ACommittedSourceHasNoKeyAnyMore) {
  const OpenStream s = stream();
  ASSERT_EQ(peer_.control(ControlOp::kCommit, agent_.session.seal(messages::SealedKind::kReady, ready_of(s))),
            Errc::kOk);
  ASSERT_EQ(gate_of(peer_), GateState::kDestroyed);
  EXPECT_EQ(copies_of(peer_, s.prepare), 0u);
}

TEST_F(HostileKeys, AGrantedTargetHasNoKeyAnyMore) {
  const OpenStream s = stream();
  ASSERT_EQ(target_.build("tiny", peer_.base), Errc::kOk) << target_.error;
  ASSERT_EQ(target_agent_.restore(target_, s, sealed_), Errc::kOk);
  EXPECT_EQ(copies_of(target_, s.prepare), 1u);
  ASSERT_EQ(target_agent_.grant(target_, s), Errc::kOk);
  EXPECT_EQ(copies_of(target_, s.prepare), 0u);
  reopen(peer_);
}

TEST_F(HostileKeys, ATargetThatRefusedHasNoKeyAnyMore) {
  const OpenStream s = stream();
  ASSERT_EQ(target_.build("tiny", peer_.base), Errc::kOk) << target_.error;
  std::vector<Bytes> flipped = sealed_;
  flipped.back().back() ^= 1;
  EXPECT_EQ(target_agent_.restore(target_, s, flipped), Errc::kBadTag);
  EXPECT_EQ(gate_of(target_), GateState::kDestroyed);
  EXPECT_EQ(copies_of(target_, s.prepare), 0u);
  reopen(peer_);
}

}  // namespace
}  // namespace sealift::lab

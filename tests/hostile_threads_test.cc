// The host against threads: interrupts at exact instructions, frames that are resumed when they should not be, TCSs
// that are entered out of order (S2, S3; design, section 6.3).
#include <gtest/gtest.h>

#include "migration/ocalls.h"
#include "tests/lab/one_enclave.h"

namespace sealift::lab {
namespace {

using abi::ControlOp;
using abi::Exit;
using abi::GateState;
using abi::Request;
using abi::ThreadState;

class HostileThreads : public OneEnclave {
 protected:
  void SetUp() override {
    OneEnclave::SetUp();
    if (const std::string why = no_breakpoints(peer_); !why.empty()) GTEST_SKIP() << why;
    entry_ = peer_.symbol("sealift_entry");
    window_end_ = peer_.symbol("sealift_entry_window_end");
    bail_ = peer_.symbol("sealift_entry_bail");
  }

  // kCall of kPut(key, value), interrupted before the instruction at `offset` (or over, if it never got there).
  EncluResult put_until(std::uint32_t tcs, const std::string& key, const std::string& value, std::uint64_t offset) {
    const std::uint64_t bytes = peer_.put_call(tcs, 5, wire::encode(std::tuple(std::string(key), std::string(value))));
    const EncluArgs args{kEenterLeaf, tcs, static_cast<std::uint64_t>(Request::kCall), bytes, 0, {offset}, {}, 0};
    const EncluResult r = peer_.enclu(args);
    return r.hit ? r : peer_.finish(tcs, r, args);
  }
  EncluResult resume_until(std::uint32_t tcs, std::uint64_t offset) {
    return peer_.enclu({kEresumeLeaf, tcs, 0, 0, 0, {offset}, {}, 0});
  }
  std::uint64_t entry_ = 0, window_end_ = 0, bail_ = 0;
  // `movq %gs:TB_RESUME_RSP, %rsp`: Running is published, the gate was seen open, RSP is still core's.
  static constexpr std::uint64_t kLastOfWindow = 9;
};

// Stage 1 sends a thread that it finds in the window to the bail-out. Interrupted there once more, RSP is still core's
// and the state that it must take back does not travel: parking it would lose the thread on the target.
TEST_F(HostileThreads, AThreadThatIsBeingSentOutIsNeverParked) {
  ASSERT_EQ(agent_.meet(peer_), Errc::kOk);
  const messages::Prepare prepare = agent_.prepare();
  ASSERT_TRUE(interrupted(put_until(kTcs, "k", "v", window_end_ - kLastOfWindow)));
  EXPECT_EQ(close_gate(peer_), 1u);
  EXPECT_TRUE(left_with(peer_.handle(kTcs), Exit::kResume));
  ASSERT_TRUE(interrupted(resume_until(kTcs, peer_.instructions(bail_, bail_ + 16)[1])));
  EXPECT_TRUE(left_with(peer_.handle(kTcs), Exit::kResume));
  EXPECT_EQ(state_of(peer_, kTcs), ThreadState::kRunning);
  EXPECT_TRUE(refused_with(peer_.resume(kTcs), Errc::kGateClosed));
  EXPECT_EQ(state_of(peer_, kTcs), ThreadState::kFree);
  EXPECT_EQ(close_gate(peer_), 0u);

  const std::vector<Bytes> sealed = dump_rest(peer_);
  LabMachine elsewhere;
  Peer copy(elsewhere);
  KeyHolder agent(elsewhere);
  revive(copy, agent, OpenStream::of(prepare, sealed), sealed);
  EXPECT_EQ(state_of(copy, kTcs), ThreadState::kFree);
  EXPECT_TRUE(copy.raw_call(kTcs, counter::kGet, "k").ok());
}

// Between the look at the gate, which was closed, and the jump that follows from it: were the thread parked here, it
// would take that jump on the target, and there take back a state that has not travelled.
TEST_F(HostileThreads, AThreadThatHasSeenTheClosedGateIsSentOutAndNotParked) {
  const std::uint64_t publish = peer_.instructions(entry_, window_end_, "cmpxchg").at(0);
  const std::vector<std::uint64_t> window = peer_.instructions(publish, window_end_);
  ASSERT_EQ(agent_.meet(peer_), Errc::kOk);
  const messages::Prepare prepare = agent_.prepare();
  ASSERT_TRUE(interrupted(put_until(kTcs, "k", "v", window.at(1))));  // Running is published
  EXPECT_EQ(close_gate(peer_), 1u);
  ASSERT_TRUE(interrupted(resume_until(kTcs, window.at(window.size() - 2))));
  EXPECT_TRUE(left_with(peer_.handle(kTcs), Exit::kResume));
  EXPECT_TRUE(refused_with(peer_.finish(kTcs, peer_.resume(kTcs)), Errc::kGateClosed));
  EXPECT_EQ(state_of(peer_, kTcs), ThreadState::kFree);
  EXPECT_EQ(close_gate(peer_), 0u);

  const std::vector<Bytes> sealed = dump_rest(peer_);
  LabMachine elsewhere;
  Peer copy(elsewhere);
  KeyHolder agent(elsewhere);
  revive(copy, agent, OpenStream::of(prepare, sealed), sealed);
  EXPECT_EQ(state_of(copy, kTcs), ThreadState::kFree);
  EXPECT_TRUE(copy.raw_call(kTcs, counter::kGet, "k").ok());
}

// An interrupt's frame is never evidence, and evidence is cleared whenever stage 1 has seen it.
TEST_F(HostileThreads, EvidenceIsClearedInTheWindowToo) {
  ASSERT_TRUE(interrupted(put_until(kTcs, "k", "v", window_end_ - kLastOfWindow)));
  const EnclaveConfig config = peer_.config();
  const std::uint64_t gpr = ssa_offset(config, kTcs) + sgx::kPageSize - sizeof(sgx::GprSgx);
  // As a #PF on core's own page would leave it, which the host can always cause.
  const std::uint32_t page_fault = sgx::exitinfo::kValid | sgx::exitinfo::kTypeHardware | sgx::vector::kPf;
  peer_.poison(gpr + offsetof(sgx::GprSgx, exitinfo), wire::encode(page_fault));
  EXPECT_TRUE(left_with(peer_.handle(kTcs), Exit::kResume));
  EXPECT_EQ(peer_.peek(gpr + offsetof(sgx::GprSgx, exitinfo), 4), Bytes(4, 0));
  EXPECT_TRUE(left_with(peer_.finish(kTcs, peer_.resume(kTcs)), Exit::kDone));
  EXPECT_EQ(*peer_.raw_call(kTcs, counter::kGet, "k"), "v");
}

// A thread that was restored inside an ocall, came back with a meaningless result of the new host's making, and was
// parked before it could notice, must still notice on the next machine.
TEST_F(HostileThreads, AResultOfAnOcallThatMigratedStaysVoidOverASecondMigration) {
  ASSERT_EQ(agent_.meet(peer_), Errc::kOk);
  std::vector<Bytes> sealed = dump_all(peer_);
  const OpenStream first = OpenStream::of(agent_.prepare(), sealed);
  LabMachine second_machine, third_machine;
  Peer second(second_machine), third(third_machine);
  KeyHolder second_agent(second_machine), third_agent(third_machine);
  revive(second, second_agent, first, sealed);

  // Main waits for the answer of kStarted. The new host answers, and stops it at its first instruction inside.
  ASSERT_EQ(state_of(second, abi::kMainTcs), ThreadState::kInOcall);
  ASSERT_TRUE(interrupted(second.enclu(
      {kEenterLeaf, abi::kMainTcs, static_cast<std::uint64_t>(Request::kOcallReturn), 0, 0, {window_end_}, {}, 0})));
  ASSERT_EQ(second_agent.meet(second), Errc::kOk);
  EXPECT_EQ(close_gate(second), 1u);
  ASSERT_TRUE(left_with(second.handle(abi::kMainTcs), Exit::kParked));
  sealed = dump_rest(second);
  revive(third, third_agent, OpenStream::of(second_agent.prepare(), sealed), sealed);

  ASSERT_EQ(state_of(third, abi::kMainTcs), ThreadState::kParked);
  const EncluResult end = third.finish(abi::kMainTcs, third.enter(abi::kMainTcs, Request::kOcallReturn));
  ASSERT_TRUE(left_with(end, Exit::kOcall));
  EXPECT_EQ(end.a, static_cast<std::uint64_t>(abi::OcallOp::kStarted)) << "main believed the void answer";
}

// An entry that was stopped before it could publish Running, and is let go while the control thread dumps, is Running
// for a moment. It will be sent out: the checkpoint must have it as it was, and never as Running.
TEST_F(HostileThreads, AThreadThatEntersDuringTheDumpIsCheckpointedAsItWas) {
  const auto publish = peer_.instructions(entry_, window_end_, "cmpxchg");
  ASSERT_EQ(publish.size(), 1u);
  const std::uint64_t published = peer_.instructions(publish[0], window_end_)[1];
  // How many entries the dump takes.
  ASSERT_EQ(agent_.meet(peer_), Errc::kOk);
  ASSERT_EQ(close_gate(peer_), 0u);
  std::size_t batches = 1;
  Bytes batch;
  while (peer_.control(ControlOp::kDump, {}, batch) == Errc::kOk && !is_final(split(batch).back())) ++batches;
  ASSERT_GE(batches, 2u);
  ASSERT_EQ(peer_.control(ControlOp::kCancel), Errc::kOk);

  ASSERT_EQ(agent_.meet(peer_), Errc::kOk);
  ASSERT_TRUE(interrupted(put_until(kOtherTcs, "k", "v", publish[0])));
  ASSERT_EQ(close_gate(peer_), 0u);
  std::vector<Bytes> sealed;
  for (std::size_t i = 0; i + 1 < batches; ++i) {
    const bool last = i + 2 == batches;  // the thread records are in it
    const std::uint64_t copy = peer_.symbol("_ZN7sealift4core4copyEPvPKvm");
    EncluResult r = peer_.enclu({kEenterLeaf,
                                 0,
                                 static_cast<std::uint64_t>(Request::kControl),
                                 static_cast<std::uint64_t>(ControlOp::kDump),
                                 0,
                                 {copy},
                                 {},
                                 0});
    ASSERT_TRUE(interrupted(r));
    if (last) {
      ASSERT_TRUE(interrupted(resume_until(kOtherTcs, published)));
      ASSERT_EQ(peer_.peek(peer_.config().thread_block_offset + kOtherTcs * peer_.config().thread_block_stride, 4),
                wire::encode(static_cast<std::uint32_t>(ThreadState::kRunning)));
    }
    r = peer_.finish(0, peer_.resume(0));
    ASSERT_TRUE(left_with(r, Exit::kDone));
    ASSERT_EQ(r.a, 0u) << errc_name(static_cast<Errc>(r.a));
    for (Bytes& record : split(peer_.peek_arena(0, r.b))) sealed.push_back(std::move(record));
  }
  EXPECT_EQ(peer_.control(ControlOp::kDump), Errc::kNotQuiescent);
  EXPECT_TRUE(refused_with(peer_.finish(kOtherTcs, peer_.resume(kOtherTcs)), Errc::kGateClosed));
  for (Bytes& record : dump_rest(peer_)) sealed.push_back(std::move(record));

  LabMachine elsewhere;
  Peer copy(elsewhere);
  KeyHolder agent(elsewhere);
  revive(copy, agent, OpenStream::of(agent_.prepare(), sealed), sealed);
  EXPECT_EQ(state_of(copy, kOtherTcs), ThreadState::kFree);
  EXPECT_TRUE(copy.raw_call(kOtherTcs, counter::kGet, "k").ok());
}

// The instructions of entry and exit, one by one: interrupted there, the enclave can always be checkpointed, the copy
// works, and so does the original.
TEST_F(HostileThreads, EveryInstructionOfEntryAndExitCanBeInterrupted) {
  LabMachine elsewhere;
  Peer copy(elsewhere);
  const auto all = peer_.instructions(entry_, peer_.symbol("sealift_thread_exit"));
  int reached = 0;
  for (const std::uint64_t at : all) {
    const std::string value = std::to_string(at);
    EncluResult r = put_until(kTcs, "k", value, at);
    if (!interrupted(r)) {
      ASSERT_TRUE(left_with(r, Exit::kDone)) << at;  // not on this path
      continue;
    }
    ++reached;
    ASSERT_EQ(agent_.meet(peer_), Errc::kOk);
    // An honest host's answer to a thread that still runs: stage 1, then go on.
    bool parked = false;
    while (!parked && close_gate(peer_) != 0) {
      const EncluResult answer = peer_.handle(kTcs);
      parked = left_with(answer, Exit::kParked);
      if (!parked) {
        ASSERT_TRUE(left_with(answer, Exit::kResume)) << at;
        r = peer_.resume(kTcs);
      }
    }
    const ThreadState frozen = state_of(peer_, kTcs);
    const std::vector<Bytes> sealed = dump_rest(peer_);
    KeyHolder agent(elsewhere);
    revive(copy, agent, OpenStream::of(agent_.prepare(), sealed), sealed);
    ASSERT_EQ(state_of(copy, kTcs), frozen) << at;
    if (frozen == ThreadState::kParked) {
      ASSERT_TRUE(left_with(copy.finish(kTcs, copy.enter(kTcs, Request::kCall)), Exit::kDone)) << at;
    }
    ASSERT_TRUE(copy.raw_call(kTcs, counter::kGet, "k").ok()) << at;
    copy.close();

    ASSERT_EQ(peer_.control(ControlOp::kCancel), Errc::kOk);
    if (frozen == ThreadState::kParked) {
      ASSERT_TRUE(left_with(peer_.handle(kTcs), Exit::kResume)) << at;
    }
    if (r.outcome == static_cast<std::uint64_t>(RawOutcome::kAex)) r = peer_.finish(kTcs, peer_.resume(kTcs));
    ASSERT_TRUE(left_with(r, Exit::kDone) || refused_with(r, Errc::kGateClosed)) << at;
    ASSERT_TRUE(peer_.raw_call(kTcs, counter::kPut, "k", value).ok()) << at;
    ASSERT_EQ(*peer_.raw_call(kTcs, counter::kGet, "k"), value) << at;
  }
  EXPECT_GT(reached, 60);
}

// The life of a thread that is made inside: its start and its end, interrupted at each instruction. Nobody may lose it,
// run it twice or wait for it for ever.
class HostileThreadLife : public HostileThreads {
 protected:
  EncluResult call(Peer& peer, std::uint32_t id, const Bytes& arguments) {
    const std::uint64_t bytes = peer.put_call(kTcs, id, arguments);
    return peer.finish(kTcs, peer.enter(kTcs, Request::kCall, bytes));
  }
  EncluResult answer_ocall(Peer& peer) { return peer.finish(kTcs, peer.enter(kTcs, Request::kOcallReturn)); }
  // A thread that has not been entered and will end at once, and its joiner, which waits outside.
  void make_thread() {
    EncluResult r = call(peer_, 3, wire::encode(std::tuple(1u)));  // kStartWorkers
    ASSERT_TRUE(left_with(r, Exit::kOcall) && r.a == static_cast<std::uint64_t>(abi::OcallOp::kSpawn));
    ASSERT_TRUE(left_with(answer_ocall(peer_), Exit::kDone));
    ASSERT_EQ(state_of(peer_, kPoolTcs), ThreadState::kStarting);
    r = call(peer_, 4, {});  // kStopWorkers
    ASSERT_TRUE(left_with(r, Exit::kOcall) && r.a == static_cast<std::uint64_t>(abi::OcallOp::kFutexWait));
  }
  // Whatever state the thread is in outside of the enclave: it runs to its end, once, and its joiner sees that.
  void expect_end(Peer& peer) {
    const ThreadState state = state_of(peer, kPoolTcs);
    if (state == ThreadState::kStarting || state == ThreadState::kParked) {
      const EncluResult r = peer.finish(kPoolTcs, peer.enter(kPoolTcs, Request::kThreadStart));
      ASSERT_TRUE(left_with(r, Exit::kThreadExit));
    }
    ASSERT_EQ(state_of(peer, kPoolTcs), ThreadState::kUnbound);
    ASSERT_TRUE(left_with(answer_ocall(peer), Exit::kDone)) << "the joiner waits for ever";
    EXPECT_TRUE(refused_with(peer.enter(kPoolTcs, Request::kThreadStart), Errc::kWrongState));
  }
};

TEST_F(HostileThreadLife, EveryInstructionOfStartAndEndCanBeInterrupted) {
  LabMachine elsewhere;
  Peer copy(elsewhere);
  const auto [frame_return, frame_end] = std::pair(peer_.symbol("sealift_frame_return"), peer_.symbol("sealift_jump"));
  std::vector<std::uint64_t> all = peer_.instructions(entry_, peer_.symbol("sealift_park"));
  const std::vector<std::uint64_t> more = peer_.instructions(frame_return, frame_end);
  all.insert(all.end(), more.begin(), more.end());
  int reached = 0;
  for (const std::uint64_t at : all) {
    SCOPED_TRACE(at);
    make_thread();
    const EncluArgs args{kEenterLeaf, kPoolTcs, static_cast<std::uint64_t>(Request::kThreadStart), 0, 0, {at}, {}, 0};
    EncluResult r = peer_.enclu(args);
    if (!r.hit) r = peer_.finish(kPoolTcs, r, args);
    if (!r.hit) {
      ASSERT_TRUE(left_with(r, Exit::kThreadExit));
      ASSERT_TRUE(left_with(answer_ocall(peer_), Exit::kDone));
      continue;
    }
    ++reached;
    ASSERT_EQ(agent_.meet(peer_), Errc::kOk);
    while (close_gate(peer_) != 0) {
      const EncluResult answer = peer_.handle(kPoolTcs);
      if (left_with(answer, Exit::kParked)) break;
      ASSERT_TRUE(left_with(answer, Exit::kResume));
      r = peer_.resume(kPoolTcs);
    }
    const std::vector<Bytes> sealed = dump_rest(peer_);
    KeyHolder agent(elsewhere);
    revive(copy, agent, OpenStream::of(agent_.prepare(), sealed), sealed);
    expect_end(copy);
    copy.close();

    ASSERT_EQ(peer_.control(ControlOp::kCancel), Errc::kOk);
    if (state_of(peer_, kPoolTcs) == ThreadState::kParked) {
      ASSERT_TRUE(left_with(peer_.handle(kPoolTcs), Exit::kResume));
    }
    if (r.outcome == static_cast<std::uint64_t>(RawOutcome::kAex)) r = peer_.finish(kPoolTcs, peer_.resume(kPoolTcs));
    ASSERT_TRUE(left_with(r, Exit::kThreadExit) || refused_with(r, Errc::kGateClosed));
    expect_end(peer_);
  }
  EXPECT_GT(reached, 80);
}

// A joiner that was stopped on its way out, between its last look at the thread that it waits for and the wait itself;
// then that thread ends, and the enclave moves before the host has woken anybody. The word that the joiner is about to
// wait on must say on the target that something has happened.
TEST_F(HostileThreadLife, AnEndThatItsJoinerHasNotSeenIsSeenOnTheTarget) {
  EncluResult r = call(peer_, 3, wire::encode(std::tuple(1u)));  // kStartWorkers
  ASSERT_TRUE(left_with(r, Exit::kOcall) && r.a == static_cast<std::uint64_t>(abi::OcallOp::kSpawn));
  ASSERT_TRUE(left_with(answer_ocall(peer_), Exit::kDone));
  const std::uint64_t bytes = peer_.put_call(kTcs, 4, {});  // kStopWorkers
  const EncluArgs args{
      kEenterLeaf, kTcs, static_cast<std::uint64_t>(Request::kCall), bytes, 0, {peer_.symbol("sealift_leave")}, {}, 0};
  r = peer_.enclu(args);
  if (!r.hit) r = peer_.finish(kTcs, r, args);
  ASSERT_TRUE(r.hit);
  const EnclaveConfig config = peer_.config();
  const auto asked = [&](Peer& peer) {
    abi::FutexWaitArgs wait{};
    const Bytes slot = peer.peek_arena(abi::slot_offset(kTcs, config.slot_bytes), sizeof wait);
    std::memcpy(&wait, slot.data(), sizeof wait);
    return wait;
  };
  const auto word = [&](Peer& peer) {
    const std::uint64_t at = abi::futex_offset(config.tcs_count, config.slot_bytes) + 4 * asked(peer).word;
    return peer.peek_arena(at, 4);
  };
  ASSERT_LT(asked(peer_).word, abi::kFutexWords);
  ASSERT_EQ(word(peer_), wire::encode(asked(peer_).expected));
  ASSERT_TRUE(left_with(peer_.finish(kPoolTcs, peer_.enter(kPoolTcs, Request::kThreadStart)), Exit::kThreadExit));

  ASSERT_EQ(agent_.meet(peer_), Errc::kOk);
  ASSERT_EQ(close_gate(peer_), 1u);
  ASSERT_TRUE(left_with(peer_.handle(kTcs), Exit::kParked));
  const std::vector<Bytes> sealed = dump_rest(peer_);
  LabMachine elsewhere;
  Peer copy(elsewhere);
  KeyHolder agent(elsewhere);
  revive(copy, agent, OpenStream::of(agent_.prepare(), sealed), sealed);
  r = copy.finish(kTcs, copy.enter(kTcs, Request::kOcallReturn));
  ASSERT_TRUE(left_with(r, Exit::kOcall) && r.a == static_cast<std::uint64_t>(abi::OcallOp::kFutexWait));
  EXPECT_NE(word(copy), wire::encode(asked(copy).expected)) << "the joiner waits for ever";
  EXPECT_TRUE(left_with(answer_ocall(copy), Exit::kDone));
}

}  // namespace
}  // namespace sealift::lab

// Rebuild in place: the enclave's memory goes, as when a VM arrives on another host, and this process's own threads go
// on in the enclave that is built again around them.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "tests/lab/in_place.h"

namespace sealift::lab {
namespace {

class InPlaceTest : public ::testing::Test {
 protected:
  explicit InPlaceTest(const std::vector<std::string>& options = {}) : peer_(machine_, options) {}
  void SetUp() override {
    ASSERT_EQ(peer_.build("counter"), Errc::kOk) << peer_.error;
    ASSERT_EQ(peer_.start(), Errc::kOk) << peer_.error;
    ASSERT_TRUE(peer_.call(counter::kPut, "key", "value").ok());
  }
  // The state that must travel, and an epoch that tells how often it did.
  void expect_running(std::uint64_t epoch) {
    const auto value = peer_.call(counter::kGet, "key");
    ASSERT_TRUE(value.ok()) << errc_name(value.error()) << ": " << peer_.report();
    EXPECT_EQ(*value, "value");
    EXPECT_EQ(*peer_.call(counter::kIdentity), epoch);
    EXPECT_TRUE(peer_.call(counter::kState)->consistent);
  }

  LabMachine machine_;
  Peer peer_;
};

TEST_F(InPlaceTest, AnIdleEnclaveGoesOn) {
  InPlace move(machine_, peer_);
  ASSERT_EQ(move.checkpoint(), Errc::kOk);
  machine_.lose_epc();
  ASSERT_EQ(move.resume(), Errc::kOk) << peer_.error;
  expect_running(2);
}

TEST_F(InPlaceTest, ItCanBeRebuiltWhileTheSourceIsStillThere) {
  InPlace move(machine_, peer_);
  ASSERT_EQ(move.checkpoint(), Errc::kOk);
  ASSERT_EQ(move.resume(), Errc::kOk) << peer_.error;
  expect_running(2);
}

// Parked in the middle of application code: threads made inside, and an ecall of this process.
TEST_F(InPlaceTest, ParkedThreadsGoOnInTheirOwnFrames) {
  ASSERT_TRUE(peer_.call(counter::kStartWorkers, 8u).ok());
  // More than the workers do in three rounds, and still soon.
  constexpr std::uint64_t kUntil = 200'000;
  ASSERT_EQ(peer_.call_async(counter::kWatch, kUntil), Errc::kOk);
  std::uint64_t epoch = 1, last = 0;
  for (int round = 0; round < 3; ++round) {
    InPlace move(machine_, peer_);
    ASSERT_EQ(move.checkpoint(), Errc::kOk) << peer_.error;
    machine_.lose_epc();
    ASSERT_EQ(move.resume(), Errc::kOk) << peer_.error;
    expect_running(++epoch);
    const std::uint64_t now = peer_.call(counter::kState)->value;
    EXPECT_GE(now, last);
    // Ends only if the workers go on.
    const auto later = peer_.call(counter::kSpin, now + 100);
    ASSERT_TRUE(later.ok()) << errc_name(later.error());
    last = *later;
  }
  const auto watched = peer_.collect(counter::kWatch);
  ASSERT_TRUE(watched.ok()) << errc_name(watched.error());
  EXPECT_GE(*watched, kUntil);
  ASSERT_TRUE(peer_.call(counter::kStopWorkers).ok());
}

// Ecalls that were in flight return to their callers, with their results, from the enclave that was rebuilt.
TEST_F(InPlaceTest, CallsInFlightReturnToTheirCallers) {
  ASSERT_EQ(peer_.call_async(counter::kWatch, std::uint64_t{3}), Errc::kOk);
  InPlace move(machine_, peer_);
  ASSERT_EQ(move.checkpoint(), Errc::kOk);
  machine_.lose_epc();
  ASSERT_EQ(move.resume(), Errc::kOk) << peer_.error;
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(peer_.call(counter::kStep).ok());
  const auto watched = peer_.collect(counter::kWatch);
  ASSERT_TRUE(watched.ok()) << errc_name(watched.error());
  EXPECT_GE(*watched, 3u);
}

// Standard input of a process, for an ocall that blocks until the test lets it go on.
class Pipe {
 public:
  Pipe() : saved_(::dup(0)) {
    int ends[2];
    if (::pipe(ends) != 0) throw std::runtime_error("pipe");
    ::dup2(ends[0], 0);
    ::close(ends[0]);
    writer_ = ends[1];
    ::fcntl(writer_, F_SETFD, FD_CLOEXEC);
  }
  ~Pipe() {
    if (saved_ >= 0) ::dup2(saved_, 0);
    ::close(saved_);
    ::close(writer_);
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  void write(const std::string& text) const {
    ASSERT_EQ(::write(writer_, text.data(), text.size()), ssize_t(text.size()));
  }

 private:
  int saved_;
  int writer_ = -1;
};

class InPlaceOcall : private Pipe, public InPlaceTest {
 protected:
  using Pipe::write;
  // Blocks in read(2), an ocall that is never repeated: a second read would lose bytes.
  void read_in_flight() {
    ASSERT_EQ(peer_.call_async(counter::kRead, std::uint64_t{16}), Errc::kOk);
    while (in_ocall() == 0) ::usleep(1000);
  }
  int in_ocall() {
    const abi::Status s = peer_.status();
    int n = 0;
    for (std::uint32_t i = abi::kFirstEcallTcs; i < s.tcs_count; ++i) {
      n += s.states[i] == static_cast<std::uint8_t>(abi::ThreadState::kInOcall) ? 1 : 0;
    }
    return n;
  }
  void expect_read(std::int64_t bytes) {
    const auto read = peer_.collect(counter::kRead);
    ASSERT_TRUE(read.ok()) << errc_name(read.error());
    EXPECT_EQ(std::get<0>(*read), bytes);
    EXPECT_TRUE(std::get<1>(*read));
  }
};

TEST_F(InPlaceOcall, AnOcallAcrossTheMoveSimplyReturns) {
  read_in_flight();
  InPlace move(machine_, peer_);
  ASSERT_EQ(move.checkpoint(), Errc::kOk);
  machine_.lose_epc();
  ASSERT_EQ(move.resume(), Errc::kOk) << peer_.error;
  write("0123456");
  expect_read(7);
  expect_running(2);
}

TEST_F(InPlaceOcall, AnOcallThatEndsWhileThereIsNoEnclaveWaits) {
  read_in_flight();
  InPlace move(machine_, peer_);
  ASSERT_EQ(move.checkpoint(), Errc::kOk);
  machine_.lose_epc();
  write("abc");
  ASSERT_EQ(move.resume(), Errc::kOk) << peer_.error;
  expect_read(3);
}

// What is not an answer is never taken for one: by default a thread that comes with a checkpoint learns that its ocall
// is void, and only the host thread that made it says otherwise.
TEST_F(InPlaceOcall, OnAnotherHostTheSameOcallIsVoid) {
  read_in_flight();
  LabMachine there;
  Peer target(there);
  Migration m(machine_, peer_, there);
  ASSERT_EQ(m.run(target, "counter"), Errc::kOk) << target.error;
  EXPECT_EQ(*target.call(counter::kIdentity), 2u);
  write("x");
  EXPECT_EQ(peer_.collect(counter::kRead).error(), Errc::kDestroyed);
}

// --- Contended locks: no wake-up is lost on the way, however often the words are set back
// -------------------------------

class InPlaceStress : public InPlaceTest {
 protected:
  InPlaceStress() : InPlaceTest({"--aex-hz", "2000"}) {}
};

TEST_F(InPlaceStress, ManyThreadsManyMoves) {
  ASSERT_TRUE(peer_.call(counter::kStartWorkers, 16u).ok());
  std::uint64_t last = 0;
  for (std::uint64_t round = 0; round < 15; ++round) {
    InPlace move(machine_, peer_);
    ASSERT_EQ(move.checkpoint(), Errc::kOk) << "round " << round << ": " << peer_.error;
    if (round % 2 == 0) machine_.lose_epc();
    ASSERT_EQ(move.resume(), Errc::kOk) << "round " << round << ": " << peer_.error;
    const auto state = peer_.call(counter::kState);
    ASSERT_TRUE(state.ok()) << "round " << round << ": " << errc_name(state.error()) << ": " << peer_.report();
    EXPECT_TRUE(state->consistent);
    EXPECT_GE(state->value, last);
    ASSERT_TRUE(peer_.call(counter::kSpin, state->value + 50).ok());
    last = state->value;
  }
  ASSERT_TRUE(peer_.call(counter::kStopWorkers).ok());
  EXPECT_TRUE(peer_.call(counter::kState)->consistent);
}

// --- Without a checkpoint, before it is committed, and after
// -----------------------------------------------------------

TEST_F(InPlaceTest, LossWithoutACheckpointIsAClearError) {
  machine_.lose_epc();
  EXPECT_EQ(peer_.call(counter::kState).error(), Errc::kEpcLost) << peer_.error;
  EXPECT_EQ(peer_.call(counter::kState).error(), Errc::kEpcLost);
  EXPECT_NE(peer_.report().find("memory is gone"), std::string::npos) << peer_.report();
  EXPECT_EQ(peer_.report().find('\n'), std::string::npos);
  // The process has lost its enclave and nothing else: it can open another.
  peer_.close();
  ASSERT_EQ(peer_.build("counter"), Errc::kOk) << peer_.error;
  ASSERT_EQ(peer_.start(), Errc::kOk) << peer_.error;
  ASSERT_TRUE(peer_.call(counter::kStep).ok());
}

// The first to learn of it is a thread that the enclave made and that has never called anything of the host's
// libraries.
TEST_F(InPlaceTest, LossUnderThreadsMadeInsideIsAClearError) {
  ASSERT_TRUE(peer_.call(counter::kStartWorkers, 1u).ok());  // it waits for nobody, and stays inside
  machine_.lose_epc();
  for (int tries = 0; tries < 20'000 && peer_.report().empty(); ++tries) ::usleep(1000);
  EXPECT_NE(peer_.report().find("memory is gone"), std::string::npos) << peer_.report();
  EXPECT_EQ(peer_.call(counter::kState).error(), Errc::kEpcLost) << peer_.error;
}

// Asleep outside, in an ocall that nothing else ends.
TEST_F(InPlaceOcall, LossWakesWhoWaitsForAnotherThread) {
  ASSERT_EQ(peer_.call_async(counter::kWaitForNothing), Errc::kOk);
  while (in_ocall() == 0) ::usleep(1000);
  machine_.lose_epc();
  EXPECT_EQ(peer_.call(counter::kState).error(), Errc::kEpcLost) << peer_.error;
  EXPECT_EQ(peer_.collect(counter::kWaitForNothing).error(), Errc::kEpcLost);
}

// It has no exception handler, and is in the middle of a dump.
TEST_F(InPlaceTest, LossUnderTheControlThreadIsALossAndNoCrash) {
  constexpr std::size_t kHits = 8, kTries = 40;  // whose thread comes too late has hit nothing
  std::size_t hits = 0;
  for (std::size_t round = 0; hits < kHits && round < kTries; ++round) {
    ASSERT_TRUE(peer_.call(counter::kFill, std::uint64_t{24} << 20, std::uint8_t{7}).ok());
    InPlace move(machine_, peer_);
    ASSERT_EQ(move.prepare(), Errc::kOk);
    ASSERT_EQ(peer_.quiesce(), Errc::kOk);
    ASSERT_EQ(peer_.settle(), Errc::kOk);
    std::atomic<std::size_t> dumped = 0;
    std::atomic<bool> gone = false;
    std::thread kernel([&] {
      for (std::size_t now = 0; now < 2; now = dumped) dumped.wait(now);
      ::usleep(500 * static_cast<useconds_t>(hits));  // each time at another moment of the third
      machine_.lose_epc();
      gone = true;
    });
    Errc end = Errc::kOk;
    bool too_late = true;
    for (Bytes batch; end == Errc::kOk;) {
      too_late = !gone;
      end = peer_.control(abi::ControlOp::kDump, {}, batch);
      ++dumped;
      dumped.notify_one();
    }
    dumped = 1000;  // in case there were too few records
    dumped.notify_one();
    kernel.join();
    if (end == Errc::kEpcLost) {
      ++hits;
    } else {
      EXPECT_TRUE(too_late) << "round " << round << ": " << errc_name(end) << ' ' << peer_.report();
    }
    peer_.close();
    ASSERT_EQ(peer_.build("counter"), Errc::kOk) << peer_.error;
    ASSERT_EQ(peer_.start(), Errc::kOk) << peer_.error;
  }
  EXPECT_EQ(hits, kHits);
}

TEST_F(InPlaceTest, LossBetweenHoldAndCommitIsALoss) {
  InPlace move(machine_, peer_);
  ASSERT_EQ(move.prepare(), Errc::kOk);
  ASSERT_EQ(move.hold(), Errc::kOk);
  machine_.lose_epc();
  EXPECT_EQ(move.commit(), Errc::kEpcLost);
  EXPECT_EQ(peer_.rebuild(move.attempt), Errc::kNotReady) << "what has not committed can never be granted";
  EXPECT_EQ(peer_.call(counter::kState).error(), Errc::kEpcLost);
}

TEST_F(InPlaceTest, HeldAndCancelledItGoesOn) {
  ASSERT_TRUE(peer_.call(counter::kStartWorkers, 4u).ok());
  InPlace move(machine_, peer_);
  ASSERT_EQ(move.prepare(), Errc::kOk);
  ASSERT_EQ(move.hold(), Errc::kOk);
  EXPECT_EQ(peer_.rebuild(move.attempt), Errc::kNotReady);
  ASSERT_EQ(peer_.control(abi::ControlOp::kCancel), Errc::kOk);
  Bytes none;
  ASSERT_EQ(peer_.request(Op::kResumed, {}, none), Errc::kOk);
  expect_running(1);
  ASSERT_TRUE(peer_.call(counter::kStopWorkers).ok());
  EXPECT_EQ(machine_.agent->cancel(move.attempt), Errc::kOk);
}

TEST_F(InPlaceTest, ASecondResumeIsRefused) {
  InPlace move(machine_, peer_);
  ASSERT_EQ(move.checkpoint(), Errc::kOk);
  ASSERT_EQ(move.resume(), Errc::kOk) << peer_.error;
  EXPECT_EQ(peer_.rebuild(move.attempt), Errc::kNotReady);
  expect_running(2);
  // By a process that has the records as well: K is gone from the agent.
  Peer other(machine_);
  ASSERT_EQ(other.build("counter", peer_.base), Errc::kOk) << other.error;
  ASSERT_EQ(other.restore(move.attempt), Errc::kOk);
  EXPECT_EQ(move.restore(other), Errc::kAlreadyGranted);
  expect_running(2);
}

// Two processes restore the same records, both to the end: one is granted, the other never.
TEST_F(InPlaceTest, OfTwoThatRestoreTheSameRecordsOneIsGranted) {
  InPlace move(machine_, peer_);
  ASSERT_EQ(move.checkpoint(), Errc::kOk);
  machine_.lose_epc();
  Peer thief(machine_);
  ASSERT_EQ(thief.build("counter", peer_.base), Errc::kOk) << thief.error;
  ASSERT_EQ(thief.restore(move.attempt), Errc::kOk);
  ASSERT_EQ(move.restore(thief), Errc::kOk);
  const agent::SessionId thiefs = move.target_session;
  ASSERT_EQ(peer_.rebuild(move.attempt), Errc::kOk) << peer_.error;
  ASSERT_EQ(move.restore(peer_), Errc::kOk);
  ASSERT_EQ(move.go_on(peer_), Errc::kOk);
  EXPECT_EQ(machine_.agent->request_grant(thiefs, agent::kSelf), Errc::kAlreadyGranted);
  EXPECT_NE(thief.control(abi::ControlOp::kGrant, move.grant), Errc::kOk) << "the other's grant";
  expect_running(2);
}

// Records lie in memory that the guest's kernel can write. Each refusal costs that instance, and the next one with the
// true bytes runs.
TEST_F(InPlaceTest, RecordsThatWereTamperedWithAreRefused) {
  InPlace move(machine_, peer_);
  ASSERT_EQ(move.checkpoint(), Errc::kOk);
  machine_.lose_epc();
  const std::vector<Bytes> sound = move.records;
  for (const std::size_t which : {std::size_t{0}, sound.size() - 1}) {
    move.records = sound;
    move.records[which][move.records[which].size() / 2] ^= 1;
    ASSERT_EQ(peer_.rebuild(move.attempt), Errc::kOk) << peer_.error;
    EXPECT_NE(move.restore(peer_), Errc::kOk);
    EXPECT_EQ(peer_.status().gate, static_cast<std::uint32_t>(abi::GateState::kDestroyed));
  }
  move.records = sound;
  ASSERT_EQ(move.resume(), Errc::kOk) << peer_.error;
  expect_running(2);
}

// The memory goes again, before the grant: moved back, or suspended. The records are still there.
TEST_F(InPlaceTest, LossDuringTheRestoreCostsATryOnly) {
  InPlace move(machine_, peer_);
  ASSERT_EQ(move.checkpoint(), Errc::kOk);
  machine_.lose_epc();
  ASSERT_EQ(peer_.rebuild(move.attempt), Errc::kOk) << peer_.error;
  ASSERT_EQ(move.restore(peer_), Errc::kOk);
  machine_.lose_epc();
  Bytes none;
  EXPECT_EQ(peer_.control(abi::ControlOp::kStatus, {}, none), Errc::kEpcLost);
  ASSERT_EQ(move.resume(), Errc::kOk) << peer_.error;
  expect_running(2);
}

// --- kCommitHeld itself
// ------------------------------------------------------------------------------------------------

TEST_F(InPlaceTest, CommitNeedsTheWholeStream) {
  InPlace move(machine_, peer_);
  EXPECT_EQ(peer_.control(abi::ControlOp::kCommitHeld), Errc::kNotReady) << "no session";
  ASSERT_EQ(move.prepare(), Errc::kOk);
  EXPECT_EQ(peer_.control(abi::ControlOp::kCommitHeld), Errc::kNotReady) << "the gate is open";
  ASSERT_EQ(peer_.quiesce(), Errc::kOk);
  EXPECT_EQ(peer_.control(abi::ControlOp::kCommitHeld), Errc::kNotReady) << "nothing is dumped";
  Bytes batch;
  ASSERT_EQ(peer_.control(abi::ControlOp::kDump, {}, batch), Errc::kOk);
  EXPECT_EQ(peer_.control(abi::ControlOp::kCommitHeld), Errc::kNotReady) << "the final record is missing";
  ASSERT_EQ(peer_.control(abi::ControlOp::kCancel), Errc::kOk);
  EXPECT_EQ(peer_.control(abi::ControlOp::kCommitHeld), Errc::kNotReady) << "cancelled";
}

TEST_F(InPlaceTest, AfterCommitNothingRunsAndTheTicketIsTheSame) {
  InPlace move(machine_, peer_);
  ASSERT_EQ(move.prepare(), Errc::kOk);
  ASSERT_EQ(move.hold(), Errc::kOk);
  EXPECT_EQ(peer_.control(abi::ControlOp::kCommitHeld, Bytes(8)), Errc::kBadSize);
  ASSERT_EQ(move.commit(), Errc::kOk);
  Bytes again;
  ASSERT_EQ(peer_.control(abi::ControlOp::kCommitHeld, {}, again), Errc::kOk);
  EXPECT_EQ(again, move.ticket);
  ASSERT_EQ(peer_.control(abi::ControlOp::kTicketAgain, {}, again), Errc::kOk);
  EXPECT_EQ(again, move.ticket);
  EXPECT_EQ(peer_.status().gate, static_cast<std::uint32_t>(abi::GateState::kDestroyed));
  EXPECT_NE(peer_.control(abi::ControlOp::kCancel), Errc::kOk);
  EXPECT_NE(peer_.control(abi::ControlOp::kQuiesce), Errc::kOk);
  EXPECT_EQ(machine_.agent->cancel(move.attempt), Errc::kDestroyed);
  Bytes hello;
  EXPECT_EQ(peer_.control(abi::ControlOp::kAgentHello, machine_.agent->hello(), hello), Errc::kWrongState);
}

// A restore on this machine needs the ticket like any other: before it, whoever restores waits.
TEST_F(InPlaceTest, WithoutTheTicketNobodyIsGranted) {
  InPlace move(machine_, peer_);
  ASSERT_EQ(move.prepare(), Errc::kOk);
  ASSERT_EQ(move.hold(), Errc::kOk);
  ASSERT_EQ(peer_.control(abi::ControlOp::kCommitHeld, {}, move.ticket), Errc::kOk);
  ASSERT_EQ(peer_.rebuild(move.attempt), Errc::kOk) << peer_.error;
  ASSERT_EQ(move.restore(peer_), Errc::kOk);
  EXPECT_EQ(move.fetch_grant(), Errc::kNoTicket);
  ASSERT_EQ(machine_.agent->local_message(move.source_session, move.ticket).error(), Errc::kOk);
  ASSERT_EQ(move.go_on(peer_), Errc::kOk);
  expect_running(2);
}

}  // namespace
}  // namespace sealift::lab

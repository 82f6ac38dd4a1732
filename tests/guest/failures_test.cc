// What breaks while a guest's enclaves move, and what is left then.
#include <csignal>
#include <thread>

#include "tests/guest/world.h"

namespace sealift::guest_test {
namespace {

using State = GuestEnclave::State;
using GuestFailures = World;
using std::chrono::milliseconds;

// Enough for those that can, on a machine that is busy with other things; waited for in full by those that cannot.
constexpr milliseconds kTimeToRest{3'000};

std::string said(const GuestResult& result) {
  return daemon::to_line(result.failure);
}

// A VM that was moved by someone who knows nothing of Sealift.
TEST_F(GuestFailures, LossWithoutACheckpointIsReported) {
  start_guest(*a_);
  run_program(2);
  wait_guest(*a_, 2);
  move_to(*b_);
  wait_guest(*b_, 2);
  const GuestResult resumed = resume(*b_);
  EXPECT_FALSE(resumed.ok());
  EXPECT_TRUE(resumed.guest.all(State::kLost));
  for (const GuestEnclave& each : resumed.guest.enclaves) EXPECT_EQ(each.error, Errc::kEpcLost);
  for (const Said& each : programs_[0].state()) EXPECT_EQ(each.error, "EPC lost");
  // Nothing else in the guest is broken: new enclaves can be opened, and move.
  run_program(1);
  wait_guest(*b_, 3);
  expect_goes_on(programs_[1], 0, 1);
  ASSERT_TRUE(prepare(*b_, a_->listen).ok());
  const GuestResult held = checkpoint(*b_);
  EXPECT_TRUE(held.ok()) << said(held);
  move_to(*a_);
  wait_guest(*a_, 3);
  const GuestResult again = resume(*a_);
  EXPECT_TRUE(again.ok()) << said(again);
  expect_goes_on(programs_[1], 0, 2);
}

// A program that does not answer, as if its enclave could not come to rest: reported, and the others go on.
TEST_F(GuestFailures, OneThatDoesNotComeToRestStopsTheMove) {
  start_guest(*a_);
  run_program(2);
  run_program(1);
  wait_guest(*a_, 3);
  ASSERT_TRUE(prepare(*a_, b_->listen).ok());
  programs_[1].process->signal(SIGSTOP);
  const GuestResult held = checkpoint(*a_, {kTimeToRest, false});
  EXPECT_EQ(held.failure.errc(), static_cast<std::uint32_t>(Errc::kNotQuiescent)) << said(held);
  EXPECT_TRUE(held.guest.all(State::kRunning));
  expect_goes_on(programs_[0], 0, 1);
  expect_goes_on(programs_[0], 1, 1);
  programs_[1].process->signal(SIGCONT);
  expect_all_run(1);
}

TEST_F(GuestFailures, ByForceTheOthersCommitWithoutIt) {
  start_guest(*a_);
  run_program(2);
  run_program(1);
  wait_guest(*a_, 3);
  ASSERT_TRUE(prepare(*a_, b_->listen).ok());
  programs_[1].process->signal(SIGSTOP);
  const GuestResult held = checkpoint(*a_, {kTimeToRest, true});
  EXPECT_TRUE(held.ok()) << said(held);
  std::size_t committed = 0;
  for (const GuestEnclave& each : held.guest.enclaves) committed += each.state == State::kCommitted ? 1 : 0;
  EXPECT_EQ(committed, 2u);
  programs_[1].process->signal(SIGCONT);
  ASSERT_TRUE(resume(*a_).ok());
  expect_goes_on(programs_[0], 0, 2);
  expect_goes_on(programs_[1], 0, 1);
}

TEST_F(GuestFailures, AnUnreachableTargetIsSaidAndNothingIsPrepared) {
  start_guest(*a_);
  run_program(1);
  wait_guest(*a_, 1);
  const GuestResult prepared = prepare(*a_, "127.0.0.1:1");
  EXPECT_EQ(prepared.failure.kind(), wire::Failure::UNREACHABLE);
  EXPECT_TRUE(prepared.guest.all(State::kRunning));
  expect_all_run(1);
}

TEST_F(GuestFailures, UnknownAndAbsentGuestsAreSaidSo) {
  EXPECT_EQ(prepare(*a_, b_->listen).failure.kind(), wire::Failure::NOT_FOUND);
  start_guest(*a_);
  wait_guest(*a_, 0);
  broker_->kill();
  until([&] { return !known(*a_).connected; }, "the broker's loss");
  EXPECT_EQ(checkpoint(*a_).failure.kind(), wire::Failure::UNREACHABLE);
  EXPECT_EQ(resume(*a_).failure.kind(), wire::Failure::UNREACHABLE);
}

// --- The channel is cut, and comes back
// -------------------------------------------------------------------------------

TEST_F(GuestFailures, AChannelThatIsCutBeforeTheCommitUndoesEverything) {
  start_guest(*a_);
  run_program(2);
  wait_guest(*a_, 2);
  ASSERT_TRUE(prepare(*a_, b_->listen).ok());
  cut_channel(*a_);
  wait_guest(*a_, 2);
  until([&] { return known(*a_).all(State::kRunning); }, "running enclaves");
  expect_all_run(1);
  ASSERT_TRUE(prepare(*a_, b_->listen).ok());
  ASSERT_TRUE(checkpoint(*a_).ok());
  ASSERT_TRUE(resume(*a_).ok());
  expect_all_run(2);
}

TEST_F(GuestFailures, AChannelThatIsCutDuringTheCheckpointLosesNothing) {
  start_guest(*a_);
  run_program(3);
  wait_guest(*a_, 3);
  // At moments of the test's own making: after so many events.
  for (int cut_after = 0; cut_after < 6; ++cut_after) {
    SCOPED_TRACE("cut after " + std::to_string(cut_after) + " events");
    ASSERT_TRUE(prepare(*a_, b_->listen).ok());
    int events = 0;
    const GuestResult held = wait([&](auto done) {
      if (cut_after == 0) asio::post(io_, [&] { cut_channel(*a_); });
      a_->guests().checkpoint(
          "g", {},
          [&](const GuestEnclave&) {
            if (++events == cut_after) asio::post(io_, [&] { cut_channel(*a_); });
          },
          std::move(done));
    });
    wait_guest(*a_, 3);
    // Those that had committed have their tickets taken when the channel is back.
    until(
        [&] {
          const Guest now = known(*a_);
          return std::all_of(now.enclaves.begin(), now.enclaves.end(), [](const GuestEnclave& each) {
            return each.state == State::kRunning || each.state == State::kCommitted;
          });
        },
        "enclaves that run or have committed");
    const GuestResult resumed = resume(*a_);
    ASSERT_TRUE(resumed.ok()) << said(resumed);
    for (const Program& program : programs_) {
      for (const Said& each : program.state()) {
        EXPECT_EQ(each.error, "ok");
        EXPECT_TRUE(each.consistent);
        EXPECT_GE(each.value, each.acked);
      }
    }
  }
}

// The agent does not answer until the resume has begun.
TEST_F(GuestFailures, ATicketThatIsUnderWayWhenTheResumeBeginsIsGiven) {
  start_guest(*a_);
  run_program(2);
  wait_guest(*a_, 2);
  ASSERT_TRUE(prepare(*a_, b_->listen).ok());
  a_->agent->signal(SIGSTOP);
  int unticketed = 0;
  const GuestResult held = wait([&](auto done) {
    a_->guests().checkpoint(
        "g", {},
        [&](const GuestEnclave& each) {
          if (each.state == State::kUnticketed && ++unticketed == 2) asio::post(io_, [&] { cut_channel(*a_); });
        },
        std::move(done));
  });
  EXPECT_FALSE(held.ok());
  wait_guest(*a_, 2);
  bool resuming = false;
  const GuestResult resumed = wait([&](auto done) {
    a_->guests().resume(
        "g", std::chrono::seconds(30),
        [&](const GuestEnclave& each) {
          if (each.state == State::kResuming && !std::exchange(resuming, true)) a_->agent->signal(SIGCONT);
        },
        std::move(done));
  });
  ASSERT_TRUE(resuming);
  ASSERT_TRUE(resumed.ok()) << said(resumed);
  expect_all_run(2);
}

TEST_F(GuestFailures, AChannelThatIsCutDuringTheResumeIsTakenUpAgain) {
  start_guest(*a_);
  run_program(3);
  wait_guest(*a_, 3);
  ASSERT_TRUE(prepare(*a_, b_->listen).ok());
  ASSERT_TRUE(checkpoint(*a_).ok());
  move_to(*b_);
  wait_guest(*b_, 3);
  for (const int cut_after : {0, 1, 2, 4}) {
    int events = 0;
    const GuestResult cut = wait([&](auto done) {
      if (cut_after == 0) asio::post(io_, [&] { cut_channel(*b_); });
      b_->guests().resume(
          "g", std::chrono::seconds(30),
          [&](const GuestEnclave&) {
            if (++events == cut_after) asio::post(io_, [&] { cut_channel(*b_); });
          },
          std::move(done));
    });
    wait_guest(*b_, 3);
  }
  // It goes on by itself, as it was told to before; asking once more does no harm.
  const GuestResult resumed = resume(*b_);
  ASSERT_TRUE(resumed.ok()) << said(resumed);
  expect_all_run(2);
}

// Its enclaves are the first, and more than are rebuilt at once. On the source, as a process of a softsgx guest that
// does not let go of lost EPC keeps all others from building there.
TEST_F(GuestFailures, AProgramThatDoesNotAnswerDoesNotKeepOthersFromResuming) {
  start_guest(*a_);
  run_program(2 * std::thread::hardware_concurrency() + 1);
  run_program(2);
  const std::size_t all = programs_[0].enclaves + 2;
  wait_guest(*a_, all);
  ASSERT_TRUE(prepare(*a_, b_->listen).ok());
  ASSERT_TRUE(checkpoint(*a_).ok());
  programs_[0].process->signal(SIGSTOP);
  const GuestResult some = resume(*a_, std::chrono::seconds(15));
  EXPECT_EQ(some.failure.errc(), static_cast<std::uint32_t>(Errc::kNotReady)) << said(some);
  for (const GuestEnclave& each : some.guest.enclaves) {
    const bool answers = each.pid == static_cast<std::uint32_t>(programs_[1].process->pid());
    EXPECT_STREQ(name_of(each.state), answers ? "running" : "committed") << each.id;
  }
  expect_goes_on(programs_[1], 0, 2);
  programs_[0].process->signal(SIGCONT);
  const GuestResult resumed = resume(*a_);
  ASSERT_TRUE(resumed.ok()) << said(resumed);
  expect_all_run(2);
}

// --- The broker dies, and another is started
// --------------------------------------------------------------------------

TEST_F(GuestFailures, ABrokerThatDiesBeforeTheCommitUndoesEverything) {
  start_guest(*a_);
  run_program(2);
  wait_guest(*a_, 2);
  ASSERT_TRUE(prepare(*a_, b_->listen).ok());
  broker_->kill();
  until([&] { return !known(*a_).connected; }, "the broker's loss");
  start_broker();
  wait_guest(*a_, 2);
  expect_all_run(1);
  ASSERT_TRUE(prepare(*a_, b_->listen).ok());
  ASSERT_TRUE(checkpoint(*a_).ok());
  move_to(*b_);
  wait_guest(*b_, 2);
  ASSERT_TRUE(resume(*b_).ok());
  expect_all_run(2);
}

TEST_F(GuestFailures, ABrokerThatDiesAfterTheCommitIsReplaced) {
  start_guest(*a_);
  run_program(2);
  wait_guest(*a_, 2);
  for (const bool moved : {false, true}) {
    ASSERT_TRUE(prepare(*a_, b_->listen).ok());
    ASSERT_TRUE(checkpoint(*a_).ok());
    broker_->kill();
    until([&] { return !known(*a_).connected; }, "the broker's loss");
    Host& there = moved ? *b_ : *a_;
    if (moved) move_to(there);
    start_broker();
    wait_guest(there, 2);
    const GuestResult resumed = resume(there);
    ASSERT_TRUE(resumed.ok()) << said(resumed);
    expect_all_run(moved ? 3 : 2);
  }
}

// --- The target's agent, the link ---------------------------------------------------------------------------------

// The target's machine never heard of the attempt: nothing is lost, and the source can take it back.
TEST_F(GuestFailures, AMachineThatWasNotOfferedTheKeyWaits) {
  start_guest(*a_);
  run_program(1);
  wait_guest(*a_, 1);
  ASSERT_TRUE(prepare(*a_, "").ok());
  ASSERT_TRUE(checkpoint(*a_).ok());
  move_to(*b_);
  wait_guest(*b_, 1);
  // As long as it takes to be rebuilt and to ask.
  GuestResult refused;
  for (milliseconds patience{700}; patience < milliseconds(60'000); patience *= 2) {
    refused = resume(*b_, patience);
    if (refused.guest.enclaves.empty() || refused.guest.enclaves[0].error == Errc::kUnknownAttempt) break;
  }
  EXPECT_FALSE(refused.ok());
  EXPECT_TRUE(refused.guest.all(State::kCommitted)) << name_of(refused.guest.enclaves[0].state);
  ASSERT_FALSE(refused.guest.enclaves.empty());
  EXPECT_EQ(refused.guest.enclaves[0].error, Errc::kUnknownAttempt);
  move_to(*a_);
  wait_guest(*a_, 1);
  const GuestResult resumed = resume(*a_);
  ASSERT_TRUE(resumed.ok()) << said(resumed);
  expect_all_run(2);
}

}  // namespace
}  // namespace sealift::guest_test

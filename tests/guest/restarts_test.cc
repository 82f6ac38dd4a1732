// A host's sealiftd ends and is started again while a guest's enclaves move: its agent, which has the tickets, goes on,
// and so do the guest and its enclaves.
#include <chrono>
#include <fstream>
#include <stdexcept>

#include "daemon/guest_journal.h"
#include "tests/guest/world.h"

namespace sealift::guest_test {
namespace {

using State = GuestEnclave::State;

std::string said(const GuestResult& result) {
  return daemon::to_line(result.failure);
}

class GuestRestarts : public World {
 protected:
  using Clock = std::chrono::steady_clock;
  void start(std::size_t enclaves) {
    start_guest(*a_);
    run_program(enclaves);
    run_program(1);
    wait_guest(*a_, enclaves + 1);
    all_ = enclaves + 1;
  }
  void commit(Host& here, const Host& there) {
    const GuestResult prepared = prepare(here, there.listen);
    ASSERT_TRUE(prepared.ok()) << said(prepared);
    const GuestResult held = checkpoint(here);
    ASSERT_TRUE(held.ok()) << said(held);
  }
  // So many steps of both daemons, or until `end`.
  std::size_t step(std::size_t limit, const std::function<bool()>& end) {
    std::size_t steps = 0;
    for (const auto deadline = Clock::now() + std::chrono::minutes(1); steps < limit && !end();) {
      if (Clock::now() >= deadline) throw std::runtime_error("no end after " + std::to_string(steps) + " steps");
      io_.restart();
      steps += io_.run_one_for(std::chrono::milliseconds(20));
    }
    return steps;
  }
  // What the daemon of a VM does with its enclaves when a move has failed, or has arrived.
  void bring_back(Host& host) {
    wait_guest(host, all_);
    (void)abort(host);
    const GuestResult resumed = resume(host);
    EXPECT_TRUE(resumed.ok()) << said(resumed);
  }
  void expect_none_lost() {
    for (const Program& program : programs_) {
      for (std::size_t i = 0; i < program.enclaves; ++i) expect_goes_on(program, i, program.state().at(i).epoch);
    }
  }
  void expect_no_journals() {
    until([] { return a_->journals() + b_->journals() == 0; }, "no journal of a move that is over");
  }

  std::size_t all_ = 0;
};

TEST_F(GuestRestarts, TheJournalIsThereFromOfferToRunning) {
  start(1);
  EXPECT_EQ(a_->journals(), 0u);
  ASSERT_TRUE(prepare(*a_, b_->listen).ok());
  EXPECT_EQ(a_->journals(), 1u) << "before anybody can hand the guest over";
  ASSERT_TRUE(abort(*a_).ok());
  EXPECT_EQ(a_->journals(), 0u);
  commit(*a_, *b_);
  EXPECT_EQ(a_->journals(), 1u);
  ASSERT_TRUE(resume(*a_).ok());  // where it was
  expect_no_journals();
  commit(*a_, *b_);
  move_to(*b_);
  wait_guest(*b_, all_);
  EXPECT_EQ(a_->journals(), 1u);
  EXPECT_EQ(b_->journals(), 0u);
  ASSERT_TRUE(resume(*b_).ok());
  expect_no_journals();
  expect_all_run(3);
}

// The broker cannot tell the agent that it has given up: the daemon does, when it sees that the enclaves run.
TEST_F(GuestRestarts, OfTheSourceBeforeTheCommitUndoesEverything) {
  start(2);
  ASSERT_TRUE(prepare(*a_, b_->listen).ok());
  restart(*a_);
  EXPECT_EQ(a_->journals(), 1u);
  wait_guest(*a_, all_);
  until([&] { return known(*a_).all(State::kRunning); }, "running enclaves");
  expect_no_journals();
  expect_all_run(1);
  commit(*a_, *b_);
  move_to(*b_);
  bring_back(*b_);
  expect_all_run(2);
}

TEST_F(GuestRestarts, OfTheSourceAtAnyMomentUntilTheCommitLosesNothing) {
  start(2);
  // How long it takes when nothing happens.
  const auto begin = [&](bool& ended) {
    a_->guests().prepare("g", b_->listen, [&](const GuestResult&) {
      a_->guests().checkpoint("g", {}, nullptr, [&](const GuestResult&) { ended = true; });
    });
  };
  bool ended = false;
  begin(ended);
  const std::size_t steps = step(~std::size_t{0}, [&] { return ended; });
  bring_back(*a_);
  constexpr std::size_t kMoments = 8;
  for (std::size_t moment = 1; moment <= kMoments; ++moment) {
    SCOPED_TRACE("after step " + std::to_string(moment * steps / kMoments) + " of " + std::to_string(steps));
    ended = false;
    begin(ended);
    (void)step(moment * steps / kMoments, [&] { return ended; });
    restart(*a_);
    bring_back(*a_);
    expect_none_lost();
  }
  expect_no_journals();
}

TEST_F(GuestRestarts, OfTheSourceAfterTheCommitLetsTheTargetBeGranted) {
  start(2);
  commit(*a_, *b_);
  restart(*a_);
  EXPECT_EQ(a_->journals(), 1u);
  move_to(*b_);
  bring_back(*b_);
  expect_all_run(2);
  expect_no_journals();
}

// The target's agent has lost the keys, and the source's daemon knows whom to offer them again by its journal alone.
TEST_F(GuestRestarts, OfTheSourceWhileTheTargetsAgentIsReplaced) {
  start(2);
  commit(*a_, *b_);
  restart(*a_, [&] {
    b_->agent->kill();
    b_->start_agent();
  });
  move_to(*b_);
  bring_back(*b_);
  expect_all_run(2);
  expect_no_journals();
}

TEST_F(GuestRestarts, OfBothAfterTheCommit) {
  start(2);
  commit(*a_, *b_);
  restart(*a_, [&] { restart(*b_); });
  move_to(*b_);
  bring_back(*b_);
  expect_all_run(2);
  expect_no_journals();
}

// Grants are asked for, made, lost on the way and asked for again.
TEST_F(GuestRestarts, OfEitherAtAnyMomentOfTheGrantsLosesNothing) {
  start(2);
  Host* here = a_.get();
  Host* there = b_.get();
  std::size_t steps = 0;
  std::uint64_t epoch = 1;
  const auto move = [&](std::size_t until_step, Host* victim) {
    commit(*here, *there);
    move_to(*there);
    wait_guest(*there, all_);
    bool ended = false;
    there->guests().resume("g", std::chrono::seconds(30), nullptr, [&](const GuestResult&) { ended = true; });
    steps = step(until_step, [&] { return ended; });
    if (victim != nullptr) restart(*victim);
    if (victim != there) until([&] { return ended; }, "the resume's end");
    bring_back(*there);
    expect_all_run(++epoch);
    std::swap(here, there);
  };
  move(~std::size_t{0}, nullptr);
  const std::size_t undisturbed = steps;
  constexpr std::size_t kMoments = 5;
  for (std::size_t moment = 1; moment <= kMoments; ++moment) {
    for (const bool source : {true, false}) {
      const std::size_t at = moment * undisturbed / kMoments;
      SCOPED_TRACE((source ? "the source's after step " : "the target's after step ") + std::to_string(at) + " of " +
                   std::to_string(undisturbed));
      move(at, source ? here : there);
    }
  }
  expect_no_journals();
}

// --- Journals that are of no use ----------------------------------------------------------------------------------

TEST_F(GuestRestarts, AJournalThatCannotBeReadIsPutAside) {
  start(1);
  const auto file = a_->dir / "state" / "0123.guest";
  restart(*a_, [&] { std::ofstream(file) << "not a journal"; });
  EXPECT_FALSE(std::filesystem::exists(file));
  EXPECT_TRUE(std::filesystem::exists(file.string() + ".unreadable"));
  wait_guest(*a_, all_);
  expect_all_run(1);
}

TEST_F(GuestRestarts, AJournalOfAttemptsThatTheAgentDoesNotKnowIsForgotten) {
  restart(*a_, [&] {
    daemon::GuestJournal journal(a_->dir / "state", "g", b_->listen);
    wire::GuestJournal::Attempt attempt;
    attempt.mutable_who()->set_attempt(std::string(16, 'a'));
    attempt.mutable_who()->set_lineage(std::string(16, 'l'));
    journal.add(attempt);
    journal.flush();
  });
  expect_no_journals();
}

// As by another agent: the tickets are gone with the one that had them, and so is the journal.
TEST_F(GuestRestarts, AJournalOfAnotherAgentIsForgotten) {
  start(1);
  commit(*a_, *b_);
  restart(*a_, [&] {
    a_->agent->kill();
    a_->start_agent();
  });
  expect_no_journals();
}

}  // namespace
}  // namespace sealift::guest_test

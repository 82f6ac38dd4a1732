// Somebody dies in each phase. What must come out is S7 (design §2): without an adversary either the source runs, or an
// instance resumes, or the death was one of the stated exceptions. That never two run at once, and that whoever runs
// continues where the last one stopped, the Cluster checks by itself.
#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <ostream>

#include "daemon/testing/cluster.h"

namespace sealift::daemon::testing {
namespace {

struct Step {
  const char* who;
  const char* step;
};

// Every step before the source destroys itself, in order.
constexpr Step kBeforeCommit[] = {
    {"source-a", "hello"},    {"agent-a", "hello"},    {"source-a", "confirm"}, {"agent-a", "message1"},
    {"agent-a", "offer"},     {"target-b", "adopt"},   {"target-b", "hello"},   {"agent-b", "hello"},
    {"target-b", "confirm"},  {"agent-b", "message4"}, {"target-b", "install"}, {"source-a", "quiesce"},
    {"source-a", "dump0"},    {"source-a", "dump7"},   {"target-b", "record3"}, {"source-a", "dump20"},
    {"target-b", "record20"}, {"target-b", "ready"},   {"agent-b", "message6"},
};

std::ostream& operator<<(std::ostream& out, const Step& step) {
  return out << step.who << " at " << step.step;
}

bool target_exists(const Step& step) {
  static const std::string kFirst = "adopt";
  for (const Step& each : kBeforeCommit) {
    if (each.step == kFirst) return true;
    if (each.who == step.who && std::string(each.step) == step.step) return false;
  }
  return true;
}

class BeforeCommit : public Cluster, public ::testing::WithParamInterface<Step> {
 protected:
  void begin() {
    start_program(a_);
    hold(GetParam().who, GetParam().step);
    migration_ = migrate(a_, b_);
    held(GetParam().who, GetParam().step);
  }
  void go_on() { release(GetParam().who, GetParam().step); }

  // The source runs, and nothing is in the way of the next migration.
  void expect_source_runs_and_can_move() {
    EXPECT_EQ(the_one_running(), "source-a");
    wait_registered(a_, "app");
    unhold(GetParam().who, GetParam().step);
    const wire::MigrationInfo again = migrate(a_, b_).get();
    EXPECT_EQ(again.phase(), wire::DONE) << again.failure().what() << ": " << again.failure().object();
    EXPECT_EQ(the_one_running(), "target-b");
  }

  std::future<wire::MigrationInfo> migration_;
};

TEST_P(BeforeCommit, TargetDaemonDies) {
  begin();
  kill(b_.daemon);
  go_on();
  EXPECT_EQ(migration_.get().phase(), wire::FAILED);
  EXPECT_EQ(the_one_running(), "source-a");
  start_daemon(b_);
  expect_source_runs_and_can_move();
}

TEST_P(BeforeCommit, SourceDaemonDies) {
  begin();
  kill(a_.daemon);
  go_on();
  EXPECT_EQ(migration_.get().failure().kind(), wire::Failure::UNREACHABLE) << "the command loses its daemon";
  EXPECT_EQ(the_one_running(), "source-a") << "its link cancels without a daemon";
  start_daemon(a_);
  expect_source_runs_and_can_move();
}

TEST_P(BeforeCommit, SourceAgentDies) {
  begin();
  kill(a_.agent);
  if (std::string(GetParam().who) != "agent-a") go_on();
  EXPECT_EQ(migration_.get().phase(), wire::FAILED);
  unhold(GetParam().who, GetParam().step);
  start_agent(a_);
  wait_agent(a_);
  expect_source_runs_and_can_move();
}

TEST_P(BeforeCommit, TargetAgentDies) {
  begin();
  kill(b_.agent);
  if (std::string(GetParam().who) != "agent-b") go_on();
  const wire::MigrationInfo failed = migration_.get();
  unhold(GetParam().who, GetParam().step);
  EXPECT_EQ(failed.phase(), wire::FAILED);
  start_agent(b_);
  wait_agent(b_);
  expect_source_runs_and_can_move();
}

TEST_P(BeforeCommit, Cancel) {
  begin();
  auto cancelled = std::async(std::launch::async, [this] {
    wire::Envelope request;
    request.mutable_cancel_request()->set_id("app");
    return call(a_, request).migration_list().migrations(0).phase();
  });
  // It is under way once the daemon says so, or is through already.
  for (bool seen = false; !seen;) {
    const wire::StatusReply now = status(a_);
    for (const auto& info : now.migrations())
      seen |= info.phase() == wire::CANCELLING || info.phase() == wire::CANCELLED;
  }
  go_on();
  EXPECT_EQ(cancelled.get(), wire::CANCELLED);
  EXPECT_EQ(migration_.get().phase(), wire::CANCELLED);
  expect_source_runs_and_can_move();
}

TEST_P(BeforeCommit, SourceProcessDies) {
  begin();
  Line source = wait_for("started", "source-a");
  kill(source.pid);
  if (std::string(GetParam().who) != "source-a") go_on();
  EXPECT_EQ(migration_.get().phase(), wire::FAILED);
  drain();
  EXPECT_TRUE(open_instances().empty()) << "it was the only one that might run";
  if (!target_exists(GetParam())) return;
  const Line target = wait_for("started", "target-b");
  wait_gone(target.pid);  // its daemon ends it
}

std::string name_of(const ::testing::TestParamInfo<Step>& info) {
  std::string name = std::string(info.param.who) + "_" + info.param.step;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Steps, BeforeCommit, ::testing::ValuesIn(kBeforeCommit), name_of);

class WithTarget : public BeforeCommit {};

TEST_P(WithTarget, TargetProcessDies) {
  begin();
  Line target = wait_for("started", "target-b");
  kill(target.pid);
  if (std::string(GetParam().who) != "target-b") go_on();
  const wire::Phase phase = migration_.get().phase();
  // The agent that is let go on in its last step hands the notice to the source, which may commit before it hears of
  // the death.
  if (std::string(GetParam().step) == "message6" && phase == wire::RESUMED) {
    EXPECT_EQ(the_one_running(), "target-a");
    return;
  }
  EXPECT_EQ(phase, wire::FAILED);
  expect_source_runs_and_can_move();
}

std::vector<Step> steps_with_target() {
  std::vector<Step> out;
  std::copy_if(std::begin(kBeforeCommit), std::end(kBeforeCommit), std::back_inserter(out), target_exists);
  return out;
}

INSTANTIATE_TEST_SUITE_P(Steps, WithTarget, ::testing::ValuesIn(steps_with_target()), name_of);

// --- From commit on -----------------------------------------------------------------------------------------------

class FromCommit : public Cluster {
 protected:
  void SetUp() override {
    Cluster::SetUp();
    // Patience is not what is tested here.
    terminate(a_.daemon);
    start_daemon(a_, kHasty);
  }
  void begin(const std::string& who, const std::string& step) {
    start_program(a_);
    hold(who, step);
    migration_ = migrate(a_, b_);
    held(who, step);
  }
  wire::MigrationInfo wait_phase(Host& host, wire::Phase phase) {
    for (int i = 0; i < 30'000; ++i, ::usleep(2000)) {
      const wire::StatusReply now = status(host);
      for (const auto& info : now.migrations()) {
        if (!info.incoming() && info.phase() == phase) return info;
      }
    }
    ADD_FAILURE() << "it does not come to phase " << wire::Phase_Name(phase);
    return {};
  }
  // Where the target is to be granted however slow this machine is.
  void be_patient() {
    terminate(a_.daemon);
    start_daemon(a_, kPatient);
  }
  const std::vector<std::string> kHasty = {"--grant-timeout-ms", "1000"}, kPatient = {"--grant-timeout-ms", "60000"};
  std::future<wire::MigrationInfo> migration_;
};

// The source's enclave has destroyed itself; nobody knows yet.
TEST_F(FromCommit, TargetDaemonDiesDuringCommit) {
  begin("source-a", "commit-done");
  kill(b_.daemon);
  release("source-a", "commit-done");
  EXPECT_EQ(migration_.get().phase(), wire::RESUMED);
  EXPECT_EQ(the_one_running(), "target-a");
  wait_for("destroyed", "source-a");
}

TEST_F(FromCommit, TargetProcessDiesDuringCommit) {
  begin("source-a", "commit-done");
  Line target = wait_for("started", "target-b");
  kill(target.pid);
  release("source-a", "commit-done");
  EXPECT_EQ(migration_.get().phase(), wire::RESUMED);
  EXPECT_EQ(the_one_running(), "target-a");
}

TEST_F(FromCommit, TargetAgentDiesDuringCommit) {
  begin("source-a", "commit-done");
  kill(b_.agent);
  release("source-a", "commit-done");
  EXPECT_EQ(migration_.get().phase(), wire::RESUMED);
  EXPECT_EQ(the_one_running(), "target-a");
}

TEST_F(FromCommit, TargetDaemonDiesAndIsBackBeforeTheTicket) {
  be_patient();
  begin("source-a", "commit-done");
  kill(b_.daemon);
  start_daemon(b_);
  wait_registered(b_, "app");
  release("source-a", "commit-done");
  EXPECT_EQ(migration_.get().phase(), wire::DONE) << "the restored instance waited for it";
  EXPECT_EQ(the_one_running(), "target-b");
}

TEST_F(FromCommit, SourceDaemonDiesDuringCommit) {
  begin("source-a", "commit-done");
  kill(a_.daemon);
  release("source-a", "commit-done");
  start_daemon(a_);
  EXPECT_EQ(wait_phase(a_, wire::DONE).name(), "app") << "it asked the source for its ticket again";
  EXPECT_EQ(the_one_running(), "target-b");
  wait_for("destroyed", "source-a");
}

TEST_F(FromCommit, SourceDaemonDiesBeforeTheEnclaveCommits) {
  begin("source-a", "commit");
  kill(a_.daemon);
  release("source-a", "commit");
  start_daemon(a_, kPatient);
  // The enclave was asked, and did: only the answer had nobody to go to.
  EXPECT_EQ(wait_phase(a_, wire::DONE).name(), "app");
  EXPECT_EQ(the_one_running(), "target-b");
}

TEST_F(FromCommit, SourceProcessDiesWithItsTicket) {
  begin("source-a", "commit-done");
  Line source = wait_for("started", "source-a");
  terminate(a_.daemon);  // for a shorter wait, see below
  kill(source.pid);
  start_daemon(a_);
  // Nobody has the ticket: the lineage ends with the process, as without a migration.
  EXPECT_EQ(status(a_).migrations(0).phase(), wire::COMMIT);
  drain();
  EXPECT_TRUE(open_instances().empty());
}

TEST_F(FromCommit, SourceProcessDiesAfterItsTicketWasTaken) {
  be_patient();
  begin("agent-a", "message3");
  Line source = wait_for("started", "source-a");
  kill(source.pid);
  release("agent-a", "message3");
  EXPECT_EQ(migration_.get().phase(), wire::DONE);
  EXPECT_EQ(the_one_running(), "target-b");
}

TEST_F(FromCommit, SourceDaemonDiesWhileItHandsTheTicketOver) {
  begin("agent-a", "message3");
  kill(a_.daemon);
  release("agent-a", "message3");
  start_daemon(a_, kPatient);
  wait_phase(a_, wire::DONE);
  EXPECT_EQ(the_one_running(), "target-b");
  wait_for("destroyed", "source-a");  // its program hears of the end, and serves nobody any more
}

TEST_F(FromCommit, SourceDaemonDiesAfterTheTicketWasTaken) {
  begin("agent-a", "message3-done");
  kill(a_.daemon);
  release("agent-a", "message3-done");
  start_daemon(a_, kPatient);
  wait_phase(a_, wire::DONE);
  EXPECT_EQ(the_one_running(), "target-b");
  wait_for("destroyed", "source-a");  // its program hears of the end, and serves nobody any more
}

TEST_F(FromCommit, ASourceThatComesBackAfterTheEndHearsOfIt) {
  begin("agent-a", "message3-done");
  const Line source = wait_for("started", "source-a");
  kill(a_.daemon);
  ASSERT_EQ(::kill(source.pid, SIGSTOP), 0);
  release("agent-a", "message3-done");
  start_daemon(a_, kPatient);
  wait_phase(a_, wire::DONE);
  ASSERT_EQ(::kill(source.pid, SIGCONT), 0);
  wait_for("destroyed", "source-a");
  EXPECT_EQ(the_one_running(), "target-b");
}

TEST_F(FromCommit, SourceAgentDiesWithTheTicket) {
  begin("agent-a", "message3-done");
  kill(a_.agent);
  unhold("agent-a", "message3-done");
  start_agent(a_);
  const wire::MigrationInfo lost = migration_.get();
  EXPECT_EQ(lost.phase(), wire::LOST) << "the stated exception";
  EXPECT_EQ(lost.failure().kind(), wire::Failure::LOST);
  drain();
  EXPECT_TRUE(open_instances().empty());
}

// --- Grant --------------------------------------------------------------------------------------------------------

TEST_F(FromCommit, TargetDaemonDiesBeforeTheGrantIsAskedFor) {
  begin("agent-b", "request");
  kill(b_.daemon);
  kill(b_.agent);
  unhold("agent-b", "request");
  EXPECT_EQ(migration_.get().phase(), wire::RESUMED);
  EXPECT_EQ(the_one_running(), "target-a");
  // The instance over there is still there, and never runs.
  start_agent(b_);
  start_daemon(b_);
  wait_registered(b_, "app");
  EXPECT_EQ(the_one_running(), "target-a");
}

TEST_F(FromCommit, TargetDaemonIsBackInTime) {
  be_patient();
  begin("agent-b", "request");
  kill(b_.daemon);
  release("agent-b", "request");
  start_daemon(b_);
  EXPECT_EQ(migration_.get().phase(), wire::DONE);
  EXPECT_EQ(the_one_running(), "target-b");
}

TEST_F(FromCommit, TargetAgentIsReplacedInTime) {
  be_patient();
  begin("agent-b", "request");
  kill(b_.agent);
  unhold("agent-b", "request");
  start_agent(b_);
  EXPECT_EQ(migration_.get().phase(), wire::DONE) << "the new agent relays the grant to the instance that waits";
  EXPECT_EQ(the_one_running(), "target-b");
}

TEST_F(FromCommit, TargetProcessDiesBeforeTheGrantIsAskedFor) {
  begin("agent-b", "request");
  Line target = wait_for("started", "target-b");
  kill(target.pid);
  release("agent-b", "request");
  // Bound or not, depending on who was first; one of the two ends is right, and both are safe.
  const wire::Phase phase = migration_.get().phase();
  EXPECT_TRUE(phase == wire::RESUMED || phase == wire::LOST) << phase;
}

// The grant is bound to the target and in its hands: only it can run.
TEST_F(FromCommit, TargetDaemonDiesWithTheGrantInTheTargetsHands) {
  begin("target-b", "grant");
  kill(b_.daemon);
  release("target-b", "grant");
  EXPECT_EQ(the_one_running(), "target-b");
  start_daemon(b_);
  EXPECT_EQ(migration_.get().phase(), wire::DONE) << "found running after the reconnect";
}

TEST_F(FromCommit, ALateTargetDaemonIsWaitedForWhenTheGrantIsBound) {
  begin("target-b", "grant");
  kill(b_.daemon);
  // The instance restored here hears that the grant is bound, and ends.
  wait_gone(wait_for("started", "target-a").pid);
  wait_phase(a_, wire::GRANT);
  release("target-b", "grant");
  EXPECT_EQ(the_one_running(), "target-b");
  start_daemon(b_);
  EXPECT_EQ(migration_.get().phase(), wire::DONE);
}

TEST_F(FromCommit, TargetProcessDiesWithTheGrant) {
  begin("target-b", "grant");
  Line target = wait_for("started", "target-b");
  kill(target.pid);
  EXPECT_EQ(migration_.get().phase(), wire::LOST) << "the one instance that could run died itself";
}

TEST_F(FromCommit, CancelComesTooLate) {
  be_patient();
  begin("agent-b", "request");
  wire::Envelope request;
  request.mutable_cancel_request()->set_id("app");
  EXPECT_EQ(failing_call(a_, request), wire::Failure::BUSY);
  release("agent-b", "request");
  EXPECT_EQ(migration_.get().phase(), wire::DONE);
}

// The ticket dies with the agent before a grant has left it: nothing can be resumed, and that is said.
TEST_F(FromCommit, SourceAgentDiesBeforeItHasGranted) {
  begin("agent-b", "request");
  kill(a_.agent);
  release("agent-b", "request");
  start_agent(a_);
  const wire::MigrationInfo lost = migration_.get();
  EXPECT_EQ(lost.phase(), wire::LOST);
  EXPECT_EQ(lost.failure().kind(), wire::Failure::LOST);
  EXPECT_EQ(lost.failure().what(), "the agent that held the ticket is gone");
  drain();
  EXPECT_TRUE(open_instances().empty());
}

// The grant has left it: the target runs, and the source hears so.
TEST_F(FromCommit, SourceAgentDiesWhenItHasGranted) {
  be_patient();
  begin("target-b", "grant");
  kill(a_.agent);
  start_agent(a_);
  wait_agent(a_);
  release("target-b", "grant");
  EXPECT_EQ(migration_.get().phase(), wire::DONE);
  EXPECT_EQ(the_one_running(), "target-b");
}

TEST_F(FromCommit, SourceAgentDiesDuringTheResume) {
  begin("source-a", "commit-done");
  kill(b_.daemon);
  hold("target-a", "record4");
  release("source-a", "commit-done");
  held("target-a", "record4");
  kill(a_.agent);
  start_agent(a_);
  wait_agent(a_);
  release("target-a", "record4");
  const wire::MigrationInfo lost = migration_.get();
  EXPECT_EQ(lost.phase(), wire::LOST);
  EXPECT_EQ(lost.failure().kind(), wire::Failure::LOST);
  drain();
  EXPECT_TRUE(open_instances().empty());
}

// --- Resume -------------------------------------------------------------------------------------------------------

TEST_F(FromCommit, AFailedResumeIsStrandedAndCanBeRetried) {
  begin("source-a", "commit-done");
  kill(b_.daemon);
  hold("target-a", "record4");
  release("source-a", "commit-done");
  Line first = held("target-a", "record4");
  kill(first.pid);
  unhold("target-a", "record4");
  const wire::MigrationInfo stranded = migration_.get();
  EXPECT_EQ(stranded.phase(), wire::STRANDED);
  EXPECT_EQ(stranded.failure().kind(), wire::Failure::STRANDED);
  wire::Envelope request;
  request.mutable_resume_request()->set_id("app");
  EXPECT_EQ(call(a_, request).migration_list().migrations(0).phase(), wire::RESUMED);
  EXPECT_EQ(the_one_running(), "target-a");
}

TEST_F(FromCommit, AResumedEnclaveCanMoveAgain) {
  begin("source-a", "commit-done");
  kill(b_.daemon);
  release("source-a", "commit-done");
  ASSERT_EQ(migration_.get().phase(), wire::RESUMED);
  start_daemon(b_);
  EXPECT_EQ(migrate(a_, b_).get().phase(), wire::DONE);
  EXPECT_EQ(the_one_running(), "target-b");
}

}  // namespace
}  // namespace sealift::daemon::testing

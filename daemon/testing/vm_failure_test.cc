// What a VM's move does when something dies or the wire is cut, step by step.
#include <signal.h>
#include <unistd.h>

#include "daemon/failure.h"
#include "daemon/testing/relay.h"
#include "daemon/testing/vm_cluster.h"

namespace sealift::daemon::testing {
namespace {

class VmFailure : public VmCluster {
 protected:
  void SetUp() override {
    VmCluster::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    // The daemons give up early: these tests wait for it.
    for (Host* host : {&a_, &b_}) {
      kill(host->daemon);
      start_daemon(*host, kImpatient);
    }
  }
  const std::vector<std::string> kImpatient = {"--stall-timeout-ms", "5000"};

  [[nodiscard]] wire::VmOptions crawling() const {
    wire::VmOptions options = plain();
    options.set_bandwidth(500'000);
    return options;
  }
  [[nodiscard]] wire::VmOptions never_converging() const {
    wire::VmOptions options = plain();
    options.set_downtime_limit_ms(1);
    return options;
  }
  [[nodiscard]] wire::VmOptions long_switch() const {
    wire::VmOptions options = plain();
    options.set_downtime_limit_ms(60'000);
    return options;
  }
  // B's daemon sleeps from pre-copy on, so that the order to start the VM is sent and not heard.
  [[nodiscard]] std::unique_ptr<VmCall> hand_over_to_a_sleeper() {
    wire::VmOptions options = plain();
    options.set_bandwidth(8'000'000);
    options.set_downtime_limit_ms(60'000);
    auto call = move(a_, b_, options);
    EXPECT_TRUE(call->reach("precopy"));
    EXPECT_EQ(::kill(b_.daemon, SIGSTOP), 0);
    EXPECT_TRUE(call->reach("hand over"));
    return call;
  }
};

TEST_F(VmFailure, TheWireIsCutDuringPrecopy) {
  start_both();
  const auto call = move(a_, b_, crawling());
  ASSERT_TRUE(call->reach("precopy"));
  cut_wire();
  EXPECT_EQ(call->end().phase(), wire::VM_BACK);
  expect_runs_only_on(a_);
}

TEST_F(VmFailure, TheWireIsCutWhileItConverges) {
  slow_wire();
  start_both();
  const auto call = move(a_, b_, never_converging());
  ASSERT_TRUE(call->reach("converge"));
  cut_wire();
  EXPECT_EQ(call->end().phase(), wire::VM_BACK);
  expect_runs_only_on(a_);
}

TEST_F(VmFailure, TheWireIsCutInTheSwitchover) {
  slow_wire();
  start_both();
  const auto call = move(a_, b_, long_switch());
  ASSERT_TRUE(call->reach("switch"));
  cut_wire();
  EXPECT_EQ(call->end().phase(), wire::VM_BACK);
  expect_runs_only_on(a_);
}

// The order to start is in B's hands, its answer is lost: B runs the VM, A must not, and hears so when it can.
TEST_F(VmFailure, TheWireIsCutBehindTheOrderToStart) {
  start_both();
  const auto call = hand_over_to_a_sleeper();
  cut_wire();
  ASSERT_EQ(::kill(b_.daemon, SIGCONT), 0);
  ASSERT_TRUE(call->reach("hand over (target gone)"));
  expect_reaches(a_, "postmigrate");
  EXPECT_EQ(cancel(a_).failure().kind(), wire::Failure::BUSY);
  join_wire();
  EXPECT_EQ(call->end().phase(), wire::VM_DONE);
  expect_runs_only_on(b_);
}

// The order was never heard: a daemon that starts anew is asked, and told again.
TEST_F(VmFailure, TheTargetsDaemonDiesWithTheOrderUnheard) {
  start_both();
  const auto call = hand_over_to_a_sleeper();
  kill(b_.daemon);
  ASSERT_TRUE(call->reach("hand over (target gone)"));
  expect_reaches(a_, "postmigrate");
  expect_reaches(b_, "paused");
  start_daemon(b_, kImpatient);
  EXPECT_EQ(call->end().phase(), wire::VM_DONE);
  expect_runs_only_on(b_);
}

TEST_F(VmFailure, TheTargetsQemuDiesDuringPrecopy) {
  start_both();
  const auto call = move(a_, b_, crawling());
  ASSERT_TRUE(call->reach("precopy"));
  kill(qemu_["b"]);
  EXPECT_EQ(call->end().phase(), wire::VM_BACK);
  expect_runs_only_on(a_);
}

TEST_F(VmFailure, TheTargetsQemuDiesInTheSwitchover) {
  slow_wire();
  start_both();
  const auto call = move(a_, b_, long_switch());
  ASSERT_TRUE(call->reach("switch"));
  kill(qemu_["b"]);
  EXPECT_EQ(call->end().phase(), wire::VM_BACK);
  expect_runs_only_on(a_);
}

// A's QEMU has finished and lets go of the VM; it is taken back as B's QEMU certainly never ran it.
TEST_F(VmFailure, TheTargetsQemuDiesBeforeItStartsTheVm) {
  start_both();
  const auto call = hand_over_to_a_sleeper();
  kill(qemu_["b"]);
  ASSERT_EQ(::kill(b_.daemon, SIGCONT), 0);
  const wire::VmMoveInfo ended = call->end();
  EXPECT_EQ(ended.phase(), wire::VM_BACK);
  EXPECT_EQ(ended.failure().what(), "the target's QEMU has ended");
  expect_runs_only_on(a_);
}

TEST_F(VmFailure, TheTargetsQemuHangsInTheSwitchover) {
  slow_wire();
  start_both();
  const auto call = move(a_, b_, long_switch());
  ASSERT_TRUE(call->reach("switch"));
  ASSERT_EQ(::kill(qemu_["b"], SIGSTOP), 0);
  EXPECT_EQ(call->end().phase(), wire::VM_BACK);
  ASSERT_EQ(::kill(qemu_["b"], SIGCONT), 0);
  expect_runs_only_on(a_);
}

TEST_F(VmFailure, TheTargetsDaemonDiesDuringPrecopy) {
  start_both();
  const auto call = move(a_, b_, crawling());
  ASSERT_TRUE(call->reach("precopy"));
  kill(b_.daemon);
  EXPECT_EQ(call->end().phase(), wire::VM_BACK);
  expect_runs_only_on(a_);
}

TEST_F(VmFailure, TheSourcesDaemonDiesDuringPrecopyAndTheNextOneGoesBack) {
  start_both();
  const auto call = move(a_, b_, crawling());
  ASSERT_TRUE(call->reach("precopy"));
  kill(a_.daemon);
  (void)call->end();
  start_daemon(a_, kImpatient);
  for (int i = 0; i < 6'000 && row(a_).move().phase() != wire::VM_BACK; ++i) ::usleep(10'000);
  EXPECT_EQ(row(a_).move().failure().what(), "sealiftd was restarted during the move");
  // By A, or before that by B, which A has told as well that the move is over.
  const std::string status = ask(a_, "query-migrate")["status"];
  EXPECT_TRUE(status == "cancelled" || status == "failed") << status;
  expect_runs_only_on(a_);
}

TEST_F(VmFailure, TheSourcesDaemonDiesBehindTheOrderAndTheNextOneGoesOn) {
  start_both();
  const auto call = hand_over_to_a_sleeper();
  kill(a_.daemon);
  (void)call->end();
  start_daemon(a_, kImpatient);
  EXPECT_EQ(row(a_).move().detail(), "hand over (target gone)");
  ASSERT_EQ(::kill(b_.daemon, SIGCONT), 0);
  for (int i = 0; i < 6'000 && row(a_).move().phase() != wire::VM_DONE; ++i) ::usleep(10'000);
  expect_runs_only_on(b_);
}

TEST_F(VmFailure, TheSourcesQemuDies) {
  start_both();
  const auto call = move(a_, b_, crawling());
  ASSERT_TRUE(call->reach("precopy"));
  kill(qemu_["a"]);
  const wire::VmMoveInfo ended = call->end();
  EXPECT_EQ(ended.phase(), wire::VM_LOST);
  EXPECT_EQ(ended.failure().what(), "this VM's QEMU has ended");
  EXPECT_NE(run_state(b_), "running");
}

TEST_F(VmFailure, TheMonitorIsClosedMidway) {
  start_both();
  Relay relay(a_.dir / "relay.sock", a_.dir / "qmp.sock");
  add(a_, "", a_.dir / "relay.sock");
  const auto call = move(a_, b_, crawling());
  ASSERT_TRUE(call->reach("precopy"));
  relay.drop();
  const wire::VmMoveInfo ended = call->end();
  EXPECT_EQ(ended.phase(), wire::VM_BACK);
  EXPECT_EQ(ended.failure().what(), "lost the monitor of this VM's QEMU");
  expect_runs_only_on(a_);
}

TEST_F(VmFailure, TheMonitorIsClosedInTheSwitchover) {
  slow_wire();
  start_both();
  Relay relay(a_.dir / "relay.sock", a_.dir / "qmp.sock");
  add(a_, "", a_.dir / "relay.sock");
  const auto call = move(a_, b_, long_switch());
  ASSERT_TRUE(call->reach("switch"));
  relay.drop();
  EXPECT_EQ(call->end().phase(), wire::VM_BACK);
  expect_runs_only_on(a_);
}

}  // namespace
}  // namespace sealift::daemon::testing

// A VM with enclaves inside moves, and the sealiftd of either host is killed and started again, at each step. The
// agent, QEMU and the guest go on. Nobody helps but the daemon: afterwards the VM runs on exactly one side, and every
// enclave in it, once.
#include <csignal>

#include "daemon/failure.h"
#include "tests/vm/enclave_steps.h"

namespace sealift::vm_test {
namespace {

class ADaemonsRestart : public EnclaveSteps {
 protected:
  static void restart(EnclaveHost& host) {
    host.daemon->kill();
    host.start_daemon();
  }
  void expect_ends(const EnclaveHost& host, wire::VmPhase phase) {
    EXPECT_TRUE(eventually([&] { return row(host).move().phase() == phase; }))
        << wire::VmPhase_Name(row(host).move().phase());
  }
  // VM and enclaves run here, so many epochs on, as `vm list` of both sides says; no journal is left.
  void expect_settled_here(std::uint64_t newer, std::uint64_t newest = 0) {
    wait_enclaves(here());
    EXPECT_TRUE(eventually([&] { return row(here()).state() == "running"; })) << row(here()).state();
    EXPECT_TRUE(eventually([&] { return row(there()).state() == "gone"; })) << row(there()).state();
    expect_all_run_here(newer, newest);
    EXPECT_TRUE(eventually([&] { return here().journals() + there().journals() == 0; })) << "a journal is left";
  }
  // The restarted daemon of the source goes back, and says so.
  void expect_gone_back(std::uint64_t newer, std::uint64_t newest = 0) {
    expect_ends(here(), wire::VM_BACK);
    EXPECT_EQ(row(here()).move().failure().what(), "sealiftd was restarted during the move");
    expect_settled_here(newer, newest);
    expect_moves_on();
  }
  void expect_arrived() {
    arrived_there();
    expect_settled_here(1);
    expect_moves_on();
  }
};

// --- The source's -------------------------------------------------------------------------------------------------

class ASourcesRestart : public ADaemonsRestart {
 protected:
  void restart_source(VmCall& call) {
    restart(here());
    (void)call.end();
  }
};

TEST_F(ASourcesRestart, InPrepare) {
  const auto call = stand_in_prepare();
  restart_source(*call);
  program_goes_on();
  expect_gone_back(0);
}

TEST_F(ASourcesRestart, InPrecopy) {
  const auto call = stand_in_precopy();
  restart_source(*call);
  expect_gone_back(0);
}

TEST_F(ASourcesRestart, InTheMiddleOfTheCheckpoint) {
  const auto call = stand_in_the_checkpoint();
  restart_source(*call);
  program_goes_on();
  expect_gone_back(0, 1);
}

TEST_F(ASourcesRestart, AfterTheCommit) {
  const auto call = move_and_stand_after_the_commit();
  restart_source(*call);
  expect_gone_back(1);
}

// Killed again, while the first brings them back.
TEST_F(ASourcesRestart, TwiceAfterTheCommit) {
  const auto call = move_and_stand_after_the_commit();
  restart_source(*call);
  restart(here());
  expect_settled_here(1);
  expect_moves_on();
}

TEST_F(ASourcesRestart, InTheSwitch) {
  const auto call = stand_in_the_switch();
  restart_source(*call);
  fast_wire();
  expect_gone_back(1);
}

TEST_F(ASourcesRestart, BehindTheOrder) {
  const auto call = hand_over_to_a_sleeper();
  restart_source(*call);
  EXPECT_EQ(row(here()).move().detail(), "hand over (target gone)");
  expect_reaches(here(), "postmigrate");
  there().daemon->signal(SIGCONT);
  expect_ends(here(), wire::VM_DONE);
  expect_arrived();
}

TEST_F(ASourcesRestart, BeforeTheGrants) {
  const auto call = stand_in_activate();
  restart_source(*call);
  there().agent->signal(SIGCONT);
  expect_ends(here(), wire::VM_DONE);
  expect_arrived();
}

// The target's agent loses the keys too: the source's daemon knows by its journal whom to offer them again.
TEST_F(ASourcesRestart, BeforeTheGrantsAndTheTargetsAgentIsReplaced) {
  const auto call = stand_in_activate();
  here().daemon->kill();
  (void)call->end();
  there().agent->kill();
  there().start_agent();
  here().start_daemon();
  expect_ends(here(), wire::VM_DONE);
  expect_arrived();
}

// --- The target's -------------------------------------------------------------------------------------------------

class ATargetsRestart : public ADaemonsRestart {};

TEST_F(ATargetsRestart, InPrecopy) {
  const auto call = stand_in_precopy();
  restart(there());
  expect_back(*call, 0);
  expect_moves_on();
}

TEST_F(ATargetsRestart, AfterTheCommit) {
  const auto call = move_and_stand_after_the_commit();
  restart(there());
  expect_back(*call, 1);
  expect_moves_on();
}

TEST_F(ATargetsRestart, WithTheOrderUnheard) {
  const auto call = hand_over_to_a_sleeper();
  restart(there());
  expect_done(*call);
  expect_settled_here(0);
  expect_moves_on();
}

TEST_F(ATargetsRestart, BeforeTheGrants) {
  const auto call = stand_in_activate();
  there().daemon->kill();
  there().agent->signal(SIGCONT);
  there().start_daemon();
  expect_done(*call);
  expect_settled_here(0);
  expect_moves_on();
}

// It does not wait for the source's to ask.
TEST_F(ATargetsRestart, WhileTheSourcesIsAway) {
  const auto call = stand_in_activate();
  here().daemon->kill();
  (void)call->end();
  there().daemon->kill();
  there().agent->signal(SIGCONT);
  there().start_daemon();
  EXPECT_EQ(there().run_state(), "running");
  EXPECT_TRUE(eventually([&] {
    const std::string log = guest_test::text_of(there().dir / "sealiftd.log");
    return log.rfind("guest web is here") != std::string::npos;
  })) << "its broker does not find it";
  here().start_daemon();
  expect_ends(here(), wire::VM_DONE);
  expect_arrived();
}

}  // namespace
}  // namespace sealift::vm_test

// A VM with enclaves inside, and on the target something dies or is out of reach: its QEMU, its agent.
#include <csignal>

#include "tests/vm/enclave_steps.h"

namespace sealift::vm_test {
namespace {

class TargetsQemuDies : public EnclaveSteps {};

TEST_F(TargetsQemuDies, InPrecopy) {
  const auto call = stand_in_precopy();
  there().qemu->kill();
  expect_back(*call, 0);
  expect_moves_on();
}

TEST_F(TargetsQemuDies, InTheMiddleOfTheCheckpoint) {
  const auto call = stand_in_the_checkpoint();
  there().qemu->kill();
  program_goes_on();
  expect_back(*call, 0, 1);
  expect_moves_on();
}

TEST_F(TargetsQemuDies, InTheSwitch) {
  const auto call = stand_in_the_switch();
  there().qemu->kill();
  expect_back(*call, 1);
  fast_wire();
  expect_moves_on();
}

// The source's QEMU has finished; the VM is taken back, as the target's certainly never ran it.
TEST_F(TargetsQemuDies, BeforeItStartsTheVm) {
  const auto call = hand_over_to_a_sleeper();
  there().qemu->kill();
  there().daemon->signal(SIGCONT);
  expect_back(*call, 1);
  expect_moves_on();
}

class TargetsDaemonDies : public EnclaveSteps {};

// The next one is asked, and told again.
TEST_F(TargetsDaemonDies, WithTheOrderToStartUnheard) {
  const auto call = hand_over_to_a_sleeper();
  there().daemon->kill();
  EXPECT_TRUE(call->reach("hand over (target gone)"));
  expect_reaches(here(), "postmigrate");
  expect_reaches(there(), "paused");
  there().start_daemon();
  expect_done(*call);
  expect_moves_on();
}

class TargetsAgent : public EnclaveSteps {
 protected:
  void agent_comes_back() {
    there().start_agent();
    EXPECT_TRUE(eventually([this] { return there().agent_up(); })) << "the daemon does not find the agent";
  }
};

TEST_F(TargetsAgent, IsNotThere) {
  wait_there();
  there().agent->kill();
  const auto call = move(here(), there());
  expect_back(*call, 0);
  EXPECT_FALSE(call->reach("prepare")) << "told before anything begins";
  EXPECT_EQ(there().run_state(), "inmigrate");
  agent_comes_back();
  expect_moves_on();
}

TEST_F(TargetsAgent, DoesNotAnswer) {
  wait_there();
  there().daemon->kill();  // the link of the move before would be up still
  there().start_daemon();
  there().agent->signal(SIGSTOP);
  const auto call = move(here(), there());
  expect_back(*call, 0);
  EXPECT_FALSE(call->reach("precopy"));
  there().agent->signal(SIGCONT);
  expect_moves_on();
}

TEST_F(TargetsAgent, DiesInPrepare) {
  const auto call = stand_in_prepare();
  there().agent->kill();
  program_goes_on();
  expect_back(*call, 0);
  EXPECT_FALSE(call->reach("precopy"));
  agent_comes_back();
  expect_moves_on();
}

TEST_F(TargetsAgent, DiesInPrecopy) {
  const auto call = stand_in_precopy();
  there().agent->kill();
  expect_back(*call, 0);
  agent_comes_back();
  expect_moves_on();
}

TEST_F(TargetsAgent, DiesInTheMiddleOfTheCheckpoint) {
  const auto call = stand_in_the_checkpoint();
  there().agent->kill();
  program_goes_on();
  expect_back(*call, 0, 1);
  agent_comes_back();
  expect_moves_on();
}

// The tickets are with the agent here: it grants them to instances here.
TEST_F(TargetsAgent, DiesAfterTheCommit) {
  const auto call = move_and_stand_after_the_commit();
  there().agent->kill();
  expect_back(*call, 1);
  agent_comes_back();
  expect_moves_on();
}

// The VM runs there and nobody can be granted, until the next agent is offered the keys.
TEST_F(TargetsAgent, DiesBeforeTheGrant) {
  const auto call = stand_in_activate();
  there().agent->kill();
  EXPECT_EQ(there().run_state(), "running");
  EXPECT_NE(here().run_state(), "running");
  agent_comes_back();
  expect_done(*call);
  expect_moves_on();
}

}  // namespace
}  // namespace sealift::vm_test

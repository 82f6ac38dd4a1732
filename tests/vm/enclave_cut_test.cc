// A VM with enclaves inside, and the wire is cut, at each step of its move. While it is cut both sides are looked at by
// what is on their own hosts.
#include <csignal>

#include "tests/vm/enclave_steps.h"

namespace sealift::vm_test {
namespace {

class WireCut : public EnclaveSteps {
 protected:
  // Before the order to start the VM has left, a cut leads back.
  void cut_and_expect_back(VmCall& call, std::uint64_t newer, std::uint64_t newest = 0) {
    cut_wire(here());
    expect_back(call, newer, newest);
    join_wire(here());
    expect_moves_on();
  }
  std::string ends_of_resume() { return there().guest().run("grep -c 'RESUMING -> RUNNING' /run/broker.log").output; }
};

TEST_F(WireCut, InPrepare) {
  const auto call = stand_in_prepare();
  cut_wire(here());
  program_goes_on();  // all are prepared, and the keys do not reach the target's agent
  expect_back(*call, 0);
  EXPECT_FALSE(call->reach("precopy"));
  join_wire(here());
  expect_moves_on();
}

TEST_F(WireCut, InPrecopy) {
  const auto call = stand_in_precopy();
  cut_and_expect_back(*call, 0);
}

// One program's enclaves are held, the other's are not yet; then all commit, as that is between guest and host.
TEST_F(WireCut, InTheMiddleOfTheCheckpoint) {
  const auto call = stand_in_the_checkpoint();
  cut_wire(here());
  program_goes_on();
  expect_back(*call, 0, 1);
  join_wire(here());
  expect_moves_on();
}

TEST_F(WireCut, InTheSwitch) {
  const auto call = stand_in_the_switch();
  cut_wire(here());
  expect_back(*call, 1);
  join_wire(here());
  fast_wire();
  expect_moves_on();
}

// QEMU has finished, and the order has not arrived: nobody runs the VM until the wire is whole again.
TEST_F(WireCut, BeforeTheOrderToStartHasArrived) {
  const auto call = hand_over_to_a_daemon_out_of_reach();
  expect_reaches(here(), "postmigrate");
  expect_reaches(there(), "paused");
  EXPECT_EQ(cancel(here()).failure().kind(), wire::Failure::BUSY);
  join_daemons();
  expect_done(*call);
  expect_moves_on();
}

// The same, and the target's QEMU dies: only that leads back.
TEST_F(WireCut, BeforeTheOrderToStartHasArrivedAndTheTargetsQemuDies) {
  const auto call = hand_over_to_a_daemon_out_of_reach();
  there().qemu->kill();
  expect_reaches(here(), "postmigrate");
  join_daemons();
  expect_back(*call, 1);
  expect_moves_on();
}

// The order has arrived, its answer is lost. The VM runs there; its enclaves wait for the arbiter, which is here.
TEST_F(WireCut, BehindTheOrderToStart) {
  const auto call = hand_over_to_a_sleeper();
  expect_reaches(there(), "paused");
  cut_wire(here());
  there().daemon->signal(SIGCONT);
  expect_reaches(there(), "running");
  EXPECT_TRUE(call->reach("hand over (target gone)"));
  expect_reaches(here(), "postmigrate");
  EXPECT_EQ(cancel(here()).failure().kind(), wire::Failure::BUSY);
  join_wire(here());
  expect_done(*call);
  expect_moves_on();
}

// The enclaves are rebuilt there, and their grants do not come through.
TEST_F(WireCut, InActivate) {
  const auto call = stand_in_activate();
  const std::string before = ends_of_resume();
  cut_wire(here());
  there().agent->signal(SIGCONT);
  EXPECT_EQ(there().run_state(), "running");
  EXPECT_NE(here().run_state(), "running");
  EXPECT_EQ(cancel(here()).failure().kind(), wire::Failure::BUSY);
  EXPECT_EQ(ends_of_resume(), before) << "nobody was granted";
  join_wire(here());
  expect_done(*call);
  expect_moves_on();
}

}  // namespace
}  // namespace sealift::vm_test

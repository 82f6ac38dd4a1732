// A VM with enclaves inside, whose move the guest spoils: a broker that falls silent, an enclave that does not come to
// rest. And the last link of a VM's enclaves to their machine: reports that hold for one agent alone.
#include "cli/client.h"
#include "daemon/failure.h"
#include "migration/errc.h"
#include "tests/vm/enclave_world.h"

namespace sealift::vm_test {
namespace {

class GuestsPart : public EnclaveWorld {
 protected:
  // A move; when its enclaves are prepared one program stands still, as if what is inside did not come to rest.
  [[nodiscard]] std::unique_ptr<VmCall> move_with_a_program_that_stops(bool force = false) {
    wait_there();
    wire::VmOptions options;
    options.set_bandwidth(15'000'000);
    options.set_force(force);
    auto call = move(here(), there(), options);
    EXPECT_TRUE(call->reach("precopy")) << daemon::to_line(call->end().failure());
    in_guest(kStopProgram);
    return call;
  }
};

// While one program keeps the checkpoint waiting, the other's enclaves are held.
TEST_F(GuestsPart, TheBrokerFallsSilentInTheMiddleOfACheckpoint) {
  const auto call = move_with_a_program_that_stops();
  ASSERT_TRUE(call->reach("checkpoint")) << daemon::to_line(call->end().failure());
  in_guest(std::string("kill -STOP $(cat /run/broker.pid)\n") + kProgramGoesOn);
  const wire::VmMoveInfo ended = call->end();
  EXPECT_EQ(ended.phase(), wire::VM_BACK);
  EXPECT_NE(ended.failure().what().find("broker"), std::string::npos) << daemon::to_line(ended.failure());
  EXPECT_EQ(here().run_state(), "running");
  EXPECT_NE(there().run_state(), "running");
  // When it speaks again, it hears that the move is over. What it had done by then, nobody can say.
  in_guest("kill -CONT $(cat /run/broker.pid)");
  expect_all_run_here(0, 1);
  expect_moves_on();
}

// It never speaks again: the next one is told.
TEST_F(GuestsPart, TheBrokerDiesInTheMiddleOfACheckpoint) {
  const auto call = move_with_a_program_that_stops();
  ASSERT_TRUE(call->reach("checkpoint")) << daemon::to_line(call->end().failure());
  in_guest(std::string("kill -KILL $(cat /run/broker.pid)\n") + kProgramGoesOn);
  EXPECT_EQ(call->end().phase(), wire::VM_BACK);
  in_guest("rm -f /run/sealiftd.sock; start-broker");
  wait_enclaves(here());
  expect_all_run_here(0, 1);
  expect_moves_on();
}

TEST_F(GuestsPart, AnEnclaveThatDoesNotComeToRestStopsTheMove) {
  const wire::VmMoveInfo refused = move_with_a_program_that_stops()->end();
  EXPECT_EQ(refused.phase(), wire::VM_BACK);
  EXPECT_EQ(refused.failure().what(), "an enclave cannot be checkpointed") << daemon::to_line(refused.failure());
  EXPECT_EQ(refused.failure().object().rfind("guest (", 0), 0u) << "which one: " << daemon::to_line(refused.failure());
  expect_enclaves(0);
  in_guest(kProgramGoesOn);
  expect_all_run_here(0);
  expect_moves_on();
}

TEST_F(GuestsPart, AProgramThatDoesNotAnswerStopsTheMoveBeforePrecopy) {
  wait_there();
  in_guest(kStopProgram);
  const auto call = move(here(), there());
  const wire::VmMoveInfo refused = call->end();
  EXPECT_EQ(refused.phase(), wire::VM_BACK);
  EXPECT_EQ(refused.failure().what(), "an enclave cannot be prepared") << daemon::to_line(refused.failure());
  EXPECT_FALSE(call->reach("precopy"));
  expect_enclaves(0);
  in_guest(kProgramGoesOn);
  expect_all_run_here(0);
}

// The machine decides: what a guest's enclave says to an agent holds for the agent on its own host.
TEST_F(GuestsPart, AReportPresentedToTheOtherHostsAgentIsRefused) {
  const auto agent_of = [](const EnclaveHost& host) {
    wire::Envelope request;
    request.mutable_agent_info_request();
    return cli::Client(host.agent_socket()).call(std::move(request)).agent_info();
  };
  // An enclave in the guest is given `addressee`'s hello; its answer goes to that very agent.
  const auto answer_of = [&](const EnclaveHost& addressee) {
    const std::string made =
        in_guest("softsgx run auto -- vm-hello /guest.enclave " + to_hex(agent_of(addressee).hello()));
    wire::Envelope request;
    request.mutable_agent_local_hello()->set_hello(from_hex(made.substr(0, made.find('\n'))));
    return static_cast<Errc>(
        cli::Client(addressee.agent_socket()).call(std::move(request)).agent_local_session().errc());
  };
  ASSERT_EQ(agent_of(here()).mrenclave(), agent_of(there()).mrenclave()) << "the same enclave on both hosts";
  EXPECT_EQ(answer_of(here()), Errc::kOk);
  EXPECT_EQ(answer_of(there()), Errc::kBadReport);
  expect_all_run_here(0);
  // Behind the move it is the other way round.
  expect_moves_on();
  EXPECT_EQ(answer_of(here()), Errc::kOk);
  EXPECT_EQ(answer_of(there()), Errc::kBadReport);
}

// Last: what is left behind is lost.
TEST_F(GuestsPart, ByForceTheOthersMoveWithoutIt) {
  const wire::VmMoveInfo moved = move_with_a_program_that_stops(true)->end();
  ASSERT_EQ(moved.phase(), wire::VM_DONE) << daemon::to_line(moved.failure());
  std::size_t lost = 0;
  for (const wire::VmEnclave& each : moved.reports()) lost += each.has_failure() ? 1 : 0;
  EXPECT_EQ(lost, kEach) << daemon::to_line(moved.failure());
  arrived_there();
  in_guest(kProgramGoesOn);
  for (const Counted& each : ask(1)) EXPECT_EQ(each.error, "EPC lost");
  lose_program(1);
  expect_all_run_here(1);
}

}  // namespace
}  // namespace sealift::vm_test

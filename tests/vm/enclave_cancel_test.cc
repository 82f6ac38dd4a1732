// A VM with enclaves inside, whose move is cancelled at each step; or, where that is too late, is not.
#include <csignal>

#include "tests/vm/enclave_steps.h"

namespace sealift::vm_test {
namespace {

class Cancelled : public EnclaveSteps {
 protected:
  void cancel_and_expect_back(VmCall& call, std::uint64_t newer, std::uint64_t newest = 0) {
    EXPECT_EQ(cancel(here()).phase(), wire::VM_BACK);
    EXPECT_EQ(call.end().failure().kind(), wire::Failure::CANCELLED);
    expect_back(call, newer, newest);
  }
};

TEST_F(Cancelled, InPrepare) {
  const auto call = stand_in_prepare();
  const wire::VmMoveInfo ended = cancel(here());
  EXPECT_EQ(ended.phase(), wire::VM_BACK);
  program_goes_on();
  EXPECT_EQ(call->end().failure().kind(), wire::Failure::CANCELLED);
  expect_back(*call, 0);
  expect_moves_on();
}

TEST_F(Cancelled, InPrecopy) {
  const auto call = stand_in_precopy();
  cancel_and_expect_back(*call, 0);
  expect_moves_on();
}

// Some are held; the gates open again.
TEST_F(Cancelled, InTheMiddleOfTheCheckpoint) {
  const auto call = stand_in_the_checkpoint();
  const wire::VmMoveInfo ended = cancel(here());
  EXPECT_EQ(ended.phase(), wire::VM_BACK);
  program_goes_on();
  EXPECT_EQ(call->end().failure().kind(), wire::Failure::CANCELLED);
  expect_back(*call, 0);
  expect_moves_on();
}

TEST_F(Cancelled, InTheSwitch) {
  const auto call = stand_in_the_switch();
  cancel_and_expect_back(*call, 1);
  fast_wire();
  expect_moves_on();
}

TEST_F(Cancelled, TooLateWhenTheTargetWasToldToStart) {
  const auto call = hand_over_to_a_sleeper();
  EXPECT_EQ(cancel(here()).failure().kind(), wire::Failure::BUSY);
  there().daemon->signal(SIGCONT);
  expect_done(*call);
  expect_moves_on();
}

}  // namespace
}  // namespace sealift::vm_test

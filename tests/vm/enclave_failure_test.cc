// A VM with enclaves inside, whose move fails when they have committed: they are rebuilt where they were, by the agent
// that has their tickets, and the VM can leave again.
#include "daemon/failure.h"
#include "tests/vm/enclave_world.h"

namespace sealift::vm_test {
namespace {

using AfterTheCommit = EnclaveWorld;

TEST_F(AfterTheCommit, Cancelled) {
  const auto call = move_and_stand_after_the_commit();
  EXPECT_EQ(cancel(here()).phase(), wire::VM_BACK);
  EXPECT_EQ(call->end().failure().kind(), wire::Failure::CANCELLED);
  expect_all_run_here(1);
  expect_moves_on();
}

TEST_F(AfterTheCommit, TheWireIsCut) {
  const auto call = move_and_stand_after_the_commit();
  cut_wire(here());
  EXPECT_EQ(call->end().phase(), wire::VM_BACK);
  expect_all_run_here(1);
  join_wire(here());
  expect_moves_on();
}

TEST_F(AfterTheCommit, TheTargetsQemuIsKilled) {
  const auto call = move_and_stand_after_the_commit();
  there().qemu->kill();
  EXPECT_EQ(call->end().phase(), wire::VM_BACK);
  expect_all_run_here(1);
  expect_moves_on();
}

TEST_F(AfterTheCommit, TheTargetsDaemonIsKilled) {
  const auto call = move_and_stand_after_the_commit();
  there().daemon->kill();
  EXPECT_EQ(call->end().phase(), wire::VM_BACK);
  expect_all_run_here(1);
  there().start_daemon();
  expect_moves_on();
}

}  // namespace
}  // namespace sealift::vm_test

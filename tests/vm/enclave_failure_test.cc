// A VM with enclaves inside, whose move fails when they have committed: they are rebuilt where they were, by the agent
// that has their tickets, and the VM can leave again.
#include "daemon/failure.h"
#include "daemon/testing/relay.h"
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

TEST_F(AfterTheCommit, TheMonitorIsClosed) {
  daemon::testing::Relay relay(here().dir / "relay.sock", here().vm() / "qmp.sock");
  add(here(), here().dir / "relay.sock");
  const auto call = move_and_stand_after_the_commit();
  relay.drop();
  const wire::VmMoveInfo ended = call->end();
  EXPECT_EQ(ended.phase(), wire::VM_BACK);
  EXPECT_EQ(ended.failure().what(), "lost the monitor of this VM's QEMU");
  expect_all_run_here(1);
  add(here());
  expect_moves_on();
}

}  // namespace
}  // namespace sealift::vm_test

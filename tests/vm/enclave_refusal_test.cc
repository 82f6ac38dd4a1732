// A VM with enclaves inside, whose move is refused before anything is touched: its enclaves do not notice.
#include "daemon/failure.h"
#include "tests/vm/enclave_world.h"

namespace sealift::vm_test {
namespace {

using Refused = EnclaveWorld;

TEST_F(Refused, EpcOnTheTargetIsTooSmall) {
  wait_there("16M");
  const auto call = move(here(), there());
  const wire::VmMoveInfo refused = call->end();
  EXPECT_EQ(refused.phase(), wire::VM_BACK);
  EXPECT_FALSE(call->reach("prepare")) << "told before anything begins";
  EXPECT_EQ(refused.failure().what(), "EPC on the target is too small");
  const std::string said = refused.failure().object();
  char need[32];
  std::snprintf(need, sizeof need, "need %.1f MiB", static_cast<double>(row(here()).enclave_bytes()) / (1 << 20));
  EXPECT_NE(said.find(need), std::string::npos) << said;
  // The device is a little larger than the EPC in it.
  EXPECT_NE(said.find("has " + std::to_string(row(there()).epc_bytes() >> 20) + " MiB"), std::string::npos) << said;
  EXPECT_EQ(there().run_state(), "inmigrate");
  expect_all_run_here(0);
  expect_moves_on();
}

TEST_F(Refused, AnotherVmIsComingInFromAThirdHost) {
  wait_there();
  const auto third = another_host();
  third->start_qemu({});
  add(*third);
  wire::VmOptions crawling;
  crawling.set_without_enclaves(true);
  crawling.set_bandwidth(500'000);
  const auto first = move(*third, there(), crawling);
  ASSERT_TRUE(first->reach("precopy")) << daemon::to_line(first->end().failure());
  const wire::VmMoveInfo refused = move(here(), there())->end();
  EXPECT_EQ(refused.phase(), wire::VM_BACK);
  EXPECT_EQ(refused.failure().kind(), wire::Failure::BUSY);
  EXPECT_EQ(refused.failure().what(), "another VM is already incoming");
  expect_all_run_here(0);
  EXPECT_EQ(cancel(*third).phase(), wire::VM_BACK);
  EXPECT_EQ(first->end().failure().kind(), wire::Failure::CANCELLED) << "the first one was not disturbed";
  EXPECT_EQ(third->run_state(), "running");
  expect_moves_on();
}

}  // namespace
}  // namespace sealift::vm_test

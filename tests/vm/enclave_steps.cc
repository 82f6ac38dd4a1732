#include "tests/vm/enclave_steps.h"

#include <csignal>

#include "daemon/failure.h"

namespace sealift::vm_test {

namespace {

// All of the guest's RAM takes minutes, or some ten seconds.
constexpr std::uint64_t kCrawl = 500'000, kWalk = 15'000'000;
// QEMU pauses the guest however much is left.
constexpr std::uint32_t kAnyDowntime = 60'000;

}  // namespace

std::unique_ptr<VmCall> EnclaveSteps::move_slowly(std::uint64_t bandwidth, std::uint32_t downtime_limit_ms) {
  wire::VmOptions options;
  options.set_bandwidth(bandwidth);
  options.set_downtime_limit_ms(downtime_limit_ms);
  return move(here(), there(), options);
}

std::unique_ptr<VmCall> EnclaveSteps::stand_in_prepare() {
  wait_there();
  in_guest(kStopProgram);
  auto call = move(here(), there());
  EXPECT_TRUE(call->reach("prepare")) << daemon::to_line(call->end().failure());
  return call;
}

std::unique_ptr<VmCall> EnclaveSteps::stand_in_precopy() {
  wait_there();
  auto call = move_slowly(kCrawl);
  EXPECT_TRUE(call->reach("precopy")) << daemon::to_line(call->end().failure());
  return call;
}

std::unique_ptr<VmCall> EnclaveSteps::stand_in_the_checkpoint() {
  wait_there();
  auto call = move_slowly(kWalk);
  EXPECT_TRUE(call->reach("precopy")) << daemon::to_line(call->end().failure());
  in_guest(kStopProgram);
  EXPECT_TRUE(call->reach("checkpoint")) << daemon::to_line(call->end().failure());
  return call;
}

void EnclaveSteps::program_goes_on() {
  in_guest(kProgramGoesOn);
}

std::unique_ptr<VmCall> EnclaveSteps::stand_in_the_switch() {
  wait_there();
  write_in_guest();
  auto call = move_slowly(kWalk, kAnyDowntime);
  EXPECT_TRUE(call->reach("converge")) << daemon::to_line(call->end().failure());
  slow_wire();
  EXPECT_TRUE(call->reach("switch")) << daemon::to_line(call->end().failure());
  return call;
}

std::unique_ptr<VmCall> EnclaveSteps::hand_over_to_a_sleeper() {
  wait_there();
  auto call = move_slowly(kWalk, kAnyDowntime);
  EXPECT_TRUE(call->reach("precopy")) << daemon::to_line(call->end().failure());
  there().daemon->signal(SIGSTOP);
  EXPECT_TRUE(call->reach("hand over")) << daemon::to_line(call->end().failure());
  return call;
}

std::unique_ptr<VmCall> EnclaveSteps::hand_over_to_a_daemon_out_of_reach() {
  wait_there();
  auto call = move_slowly(kWalk, kAnyDowntime);
  EXPECT_TRUE(call->reach("checkpoint")) << daemon::to_line(call->end().failure());
  cut_daemons();
  EXPECT_TRUE(call->reach("hand over (target gone)")) << daemon::to_line(call->end().failure());
  return call;
}

std::unique_ptr<VmCall> EnclaveSteps::stand_in_activate() {
  wait_there();
  auto call = move_slowly(kWalk, kAnyDowntime);
  EXPECT_TRUE(call->reach("converge")) << daemon::to_line(call->end().failure());
  there().agent->signal(SIGSTOP);
  EXPECT_TRUE(call->reach("activate")) << daemon::to_line(call->end().failure());
  return call;
}

void EnclaveSteps::expect_back(VmCall& call, std::uint64_t newer, std::uint64_t newest) {
  const wire::VmMoveInfo ended = call.end();
  EXPECT_EQ(ended.phase(), wire::VM_BACK);
  const std::string line = daemon::to_line(ended.failure());
  EXPECT_FALSE(line.empty());
  EXPECT_EQ(line.find('\n'), std::string::npos) << line;
  RecordProperty("failure", line);
  expect_all_run_here(newer, newest);
}

void EnclaveSteps::expect_done(VmCall& call) {
  const wire::VmMoveInfo done = call.end();
  ASSERT_EQ(done.phase(), wire::VM_DONE) << daemon::to_line(done.failure());
  EXPECT_FALSE(done.has_failure()) << daemon::to_line(done.failure());
  arrived_there();
  expect_all_run_here(1);
}

void EnclaveSteps::slow_wire() {
  in_space(here(), "tc qdisc add dev wire root tbf rate 24mbit burst 64kb latency 400ms");
}

void EnclaveSteps::fast_wire() {
  in_space(here(), "tc qdisc del dev wire root");
}

void EnclaveSteps::cut_daemons() {
  in_space(here(), "ip rule add ipproto tcp dport 7419 blackhole");
}

void EnclaveSteps::join_daemons() {
  in_space(here(), "ip rule del ipproto tcp dport 7419 blackhole");
}

}  // namespace sealift::vm_test

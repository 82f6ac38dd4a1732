// A VM moves between two hosts, by real daemons and unmodified QEMU processes; and every way in which it may not.
// After each, both sides are looked at: the VM runs on exactly one, its memory is what it wrote.
#include <signal.h>
#include <unistd.h>

#include "daemon/failure.h"
#include "daemon/testing/vm_cluster.h"

namespace sealift::daemon::testing {
namespace {

using VmMove = VmCluster;

wire::VmOptions at(std::uint64_t bandwidth) {
  wire::VmOptions options;
  options.set_without_enclaves(true);
  options.set_bandwidth(bandwidth);
  return options;
}

// So slow that pre-copy lasts; the guest has 24 MiB to send.
constexpr std::uint64_t kCrawl = 500'000;

wire::VmOptions never_converging() {
  wire::VmOptions options;
  options.set_without_enclaves(true);
  options.set_downtime_limit_ms(1);
  return options;
}

// Over slow_wire() QEMU pauses the guest with seconds' worth of RAM left.
wire::VmOptions long_switch() {
  wire::VmOptions options;
  options.set_without_enclaves(true);
  options.set_downtime_limit_ms(60'000);
  return options;
}

std::string line_of(const wire::VmMoveInfo& info) {
  return to_line(info.failure());
}

TEST_F(VmMove, ItGoesOnWhereItWas) {
  start_both();
  const std::uint64_t before = count(a_);
  const wire::VmMoveInfo done = move(a_, b_)->end();
  EXPECT_EQ(done.phase(), wire::VM_DONE) << line_of(done);
  EXPECT_GT(done.ram_transferred(), 24u << 20);
  EXPECT_GT(done.vm_downtime_seconds(), 0);
  EXPECT_LE(done.vm_downtime_seconds(), done.total_seconds());
  EXPECT_GT(done.qemu_total_ms(), 0);
  wait_gone(qemu_["a"]);
  expect_runs_only_on(b_);
  EXPECT_GT(count(b_), before);
  EXPECT_EQ(row(b_).state(), "running");
  EXPECT_EQ(row(b_).move().phase(), wire::VM_DONE);
}

TEST_F(VmMove, ItMovesBack) {
  start_both();
  ASSERT_EQ(move(a_, b_)->end().phase(), wire::VM_DONE);
  wait_gone(qemu_["a"]);
  start_qemu(a_, {"-incoming", "defer"});
  const wire::VmMoveInfo back = move(b_, a_)->end();
  EXPECT_EQ(back.phase(), wire::VM_DONE) << line_of(back);
  expect_runs_only_on(a_);
}

TEST_F(VmMove, OverSeveralCompressedConnections) {
  start_both();
  wire::VmOptions options = plain();
  options.set_multifd(3);
  options.set_compress("zstd");
  const wire::VmMoveInfo done = move(a_, b_, options)->end();
  EXPECT_EQ(done.phase(), wire::VM_DONE) << line_of(done);
  expect_runs_only_on(b_);
}

TEST_F(VmMove, TheCommandMayDie) {
  start_both();
  const pid_t command =
      spawn({std::filesystem::read_symlink("/proc/self/exe").parent_path() / "sealift", "--socket", a_.socket(), "vm",
             "migrate", "web", b_.listen, "--without-enclaves", "--bandwidth", "30M"},
            {}, a_.dir / "command.log");
  for (int i = 0; i < 6'000 && row(a_).move().detail() != "precopy"; ++i) ::usleep(10'000);
  pid_t pid = command;
  kill(pid);
  expect_runs_only_on(b_);
}

// --- Refused before anything begins -------------------------------------------------------------------------------

TEST_F(VmMove, AnotherCpuModelIsRefused) {
  start_qemu(a_);
  start_qemu(b_, {"-incoming", "defer"}, "qemu64");
  add(a_);
  add(b_);
  const wire::VmMoveInfo refused = move(a_, b_)->end();
  EXPECT_EQ(refused.phase(), wire::VM_BACK);
  EXPECT_EQ(line_of(refused),
            "CPU models differ: max-x86_64-cpu here, qemu64-x86_64-cpu there: start both with the "
            "same -cpu");
  EXPECT_EQ(run_state(b_), "inmigrate");
  expect_runs_only_on(a_);
}

TEST_F(VmMove, OtherCpuFeaturesAreRefused) {
  start_qemu(a_);
  start_qemu(b_, {"-incoming", "defer"}, "max,-pku,-avx2");
  add(a_);
  add(b_);
  const wire::VmMoveInfo refused = move(a_, b_)->end();
  EXPECT_NE(line_of(refused).find("CPU features differ: leaf 7H.0 EBX"), std::string::npos) << line_of(refused);
  expect_runs_only_on(a_);
}

TEST_F(VmMove, AQemuWithoutTheDeviceIsRefused) {
  start_both();
  const wire::VmMoveInfo refused = move(a_, b_, wire::VmOptions())->end();
  EXPECT_EQ(refused.phase(), wire::VM_BACK);
  EXPECT_EQ(refused.failure().what(), "this VM's QEMU has no EPC device");
  EXPECT_EQ(run_state(b_), "inmigrate");
  expect_runs_only_on(a_);
}

TEST_F(VmMove, AVmWithoutABrokerIsRefused) {
  const std::string section = dir_ / "section";
  const std::vector<std::string> device = {"-object",
                                           "memory-backend-file,id=epc,mem-path=" + section + ",size=16M,share=on",
                                           "-device", "nvdimm,memdev=epc,id=epc0"};
  start_both(device);
  const wire::VmMoveInfo refused = move(a_, b_, wire::VmOptions())->end();
  EXPECT_EQ(refused.failure().what(), "this VM was added without a channel to its broker");
  expect_runs_only_on(a_);
}

// The channel is there, and nobody in the guest speaks.
TEST_F(VmMove, AVmWhoseBrokerIsSilentIsRefused) {
  const auto options = [](const Host& host) {
    const std::string dir = host.dir;
    return std::vector<std::string>{
        "-object",  "memory-backend-file,id=epc,mem-path=" + dir + "/section,size=16M,share=on",
        "-device",  "nvdimm,memdev=epc,id=epc0",
        "-device",  "virtio-serial-pci",
        "-chardev", "socket,id=broker,path=" + dir + "/broker.sock,server=on,wait=off",
        "-device",  "virtserialport,chardev=broker,name=org.sealift.broker"};
  };
  start_qemu(a_, options(a_));
  std::vector<std::string> waiting = options(b_);
  waiting.insert(waiting.end(), {"-incoming", "defer"});
  start_qemu(b_, waiting);
  add(a_, a_.dir / "broker.sock");
  add(b_, b_.dir / "broker.sock");
  EXPECT_FALSE(row(a_).broker());
  EXPECT_EQ(row(a_).epc_bytes(), 16u << 20);
  const wire::VmMoveInfo refused = move(a_, b_, wire::VmOptions())->end();
  EXPECT_EQ(refused.phase(), wire::VM_BACK);
  EXPECT_EQ(refused.failure().what(), "no broker answers in this VM");
  EXPECT_EQ(run_state(b_), "inmigrate");
  expect_runs_only_on(a_);
}

TEST_F(VmMove, ATargetThatKnowsNoSuchVmIsRefused) {
  start_qemu(a_);
  add(a_);
  const wire::VmMoveInfo refused = move(a_, b_)->end();
  EXPECT_EQ(refused.failure().what(), "the target knows no VM of this name");
  expect_runs_only_on(a_);
}

TEST_F(VmMove, ATargetThatDoesNotWaitIsRefused) {
  start_qemu(a_);
  start_qemu(b_);
  add(a_);
  add(b_);
  const wire::VmMoveInfo refused = move(a_, b_)->end();
  EXPECT_EQ(refused.failure().what(), "the target's QEMU does not wait for a VM");
  EXPECT_EQ(run_state(b_), "running");
}

TEST_F(VmMove, AnotherVmThatIsIncomingIsRefused) {
  start_both();
  (void)ask(b_, "migrate-incoming", {{"uri", "tcp:127.0.0.1:0"}});
  const wire::VmMoveInfo refused = move(a_, b_)->end();
  EXPECT_EQ(refused.failure().what(), "another VM is already incoming in the target's QEMU");
  EXPECT_EQ(refused.failure().kind(), wire::Failure::BUSY);
  expect_runs_only_on(a_);
}

TEST_F(VmMove, ASecondMoveOfTheSameVmIsRefused) {
  start_both();
  const auto first = move(a_, b_, at(kCrawl));
  ASSERT_TRUE(first->reach("precopy"));
  EXPECT_EQ(move(a_, b_)->end().failure().kind(), wire::Failure::BUSY);
  // Nor can it leave the host that it is coming to.
  EXPECT_EQ(move(b_, a_)->end().failure().kind(), wire::Failure::BUSY);
  EXPECT_EQ(cancel(a_).failure().kind(), wire::Failure::CANCELLED);
  expect_runs_only_on(a_);
}

TEST_F(VmMove, ATargetWithoutAnAgentIsRefused) {
  kill(b_.agent);
  start_both();
  const wire::VmMoveInfo refused = move(a_, b_)->end();
  EXPECT_EQ(refused.phase(), wire::VM_BACK);
  EXPECT_NE(line_of(refused).find("agent"), std::string::npos) << line_of(refused);
  expect_runs_only_on(a_);
}

TEST_F(VmMove, ATargetOutOfReachIsRefused) {
  start_both();
  Host nowhere = b_;
  nowhere.listen = "10.99.0.2:1";
  const wire::VmMoveInfo refused = move(a_, nowhere)->end();
  EXPECT_EQ(refused.failure().what(), "cannot connect to the target's sealiftd");
  expect_runs_only_on(a_);
}

// --- Cancelled ----------------------------------------------------------------------------------------------------

TEST_F(VmMove, CancelledDuringPrecopy) {
  start_both();
  const auto call = move(a_, b_, at(kCrawl));
  ASSERT_TRUE(call->reach("precopy"));
  EXPECT_EQ(cancel(a_).phase(), wire::VM_BACK);
  EXPECT_EQ(call->end().failure().kind(), wire::Failure::CANCELLED);
  wait_gone(qemu_["b"]);
  expect_runs_only_on(a_);
}

TEST_F(VmMove, CancelledWhileItDoesNotConverge) {
  slow_wire();
  start_both();
  const auto call = move(a_, b_, never_converging());
  ASSERT_TRUE(call->reach("converge"));
  EXPECT_EQ(cancel(a_).phase(), wire::VM_BACK);
  expect_runs_only_on(a_);
}

TEST_F(VmMove, CancelledInTheSwitchover) {
  slow_wire();
  start_both();
  const auto call = move(a_, b_, long_switch());
  ASSERT_TRUE(call->reach("switch"));
  EXPECT_EQ(cancel(a_).phase(), wire::VM_BACK);
  expect_runs_only_on(a_);
}

TEST_F(VmMove, AfterACancelItMovesAgainAndQemuIsSetAsBefore) {
  start_both();
  const nlohmann::json before = ask(a_, "query-migrate-parameters");
  const auto call = move(a_, b_, at(kCrawl));
  ASSERT_TRUE(call->reach("precopy"));
  (void)cancel(a_);
  EXPECT_EQ(ask(a_, "query-migrate-parameters"), before);
  wait_gone(qemu_["b"]);
  start_qemu(b_, {"-incoming", "defer"});
  EXPECT_EQ(move(a_, b_)->end().phase(), wire::VM_DONE);
  expect_runs_only_on(b_);
}

TEST_F(VmMove, NotDoneWithinItsTimeout) {
  slow_wire();
  start_both();
  wire::VmOptions options = never_converging();
  options.set_timeout_s(2);
  const wire::VmMoveInfo ended = move(a_, b_, options)->end();
  EXPECT_EQ(ended.failure().what(), "not done within --timeout");
  expect_runs_only_on(a_);
}

}  // namespace
}  // namespace sealift::daemon::testing

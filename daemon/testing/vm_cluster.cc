#include "daemon/testing/vm_cluster.h"

#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <asio/io_context.hpp>
#include <chrono>
#include <cstdlib>
#include <fstream>

#include "vm/qmp_client.h"

namespace sealift::daemon::testing {

namespace {

constexpr std::chrono::seconds kPatience{60};
constexpr const char* kQemu = "/usr/bin/qemu-system-x86_64";
constexpr const char* kIp = "/sbin/ip";
using Clock = std::chrono::steady_clock;

template <typename Test>
bool eventually(Test test) {
  for (const auto deadline = Clock::now() + kPatience; Clock::now() < deadline; ::poll(nullptr, 0, 10)) {
    if (test()) return true;
  }
  return false;
}

}  // namespace

void VmCluster::SetUp() {
  if (::geteuid() != 0) GTEST_SKIP() << "network namespaces need root";
  if (::access(kQemu, X_OK) != 0) GTEST_SKIP() << kQemu << " is not installed (scripts/setup)";
  prefix_ = "sealift" + std::to_string(::getpid());
  Cluster::SetUp();
}

void VmCluster::TearDown() {
  if (prefix_.empty()) return;
  Cluster::TearDown();
  for (const Host* host : {&a_, &b_}) ip("netns delete " + space(*host));
}

std::string VmCluster::space(const Host& host) const {
  return prefix_ + host.name;
}

void VmCluster::ip(const std::string& arguments) {
  const std::string command = std::string(kIp) + " " + arguments;
  if (std::system(command.c_str()) != 0) ADD_FAILURE() << command;
}

void VmCluster::make_hosts() {
  for (const Host* host : {&a_, &b_}) {
    ip("netns add " + space(*host));
    ip("-n " + space(*host) + " link set lo up");
  }
  ip("link add wa netns " + space(a_) + " type veth peer name wb netns " + space(b_));
  int last = 1;
  for (Host* host : {&a_, &b_}) {
    const std::string address = "10.99.0." + std::to_string(last++);
    ip("-n " + space(*host) + " address add " + address + "/24 dev w" + host->name);
    ip("-n " + space(*host) + " link set w" + host->name + " up");
    host->listen = address + ":7419";
    host->wrapper = {kIp, "netns", "exec", space(*host)};
  }
}

void VmCluster::slow_wire() {
  ip("netns exec " + space(a_) + " tc qdisc add dev wa root tbf rate 16mbit burst 64kb latency 400ms");
}

void VmCluster::cut_wire() {
  ip("-n " + space(a_) + " link set wa down");
}

void VmCluster::join_wire() {
  ip("-n " + space(a_) + " link set wa up");
}

pid_t VmCluster::start_qemu(Host& host, const std::vector<std::string>& more, const char* cpu) {
  const std::string dir = host.dir;
  // 65500 KiB: see scripts/vm-run on sizes under TCG.
  std::vector<std::string> argv = host.wrapper;
  const std::vector<std::string> qemu = {kQemu,
                                         "-accel",
                                         "tcg",
                                         "-M",
                                         "q35,nvdimm=on",
                                         "-cpu",
                                         cpu,
                                         "-m",
                                         "65500K,slots=2,maxmem=1G",
                                         "-nodefaults",
                                         "-no-user-config",
                                         "-display",
                                         "none",
                                         "-no-reboot",
                                         "-kernel",
                                         SEALIFT_VM_TEST_GUEST,
                                         "-debugcon",
                                         "file:" + dir + "/count." + std::to_string(started_++),
                                         "-qmp",
                                         "unix:" + dir + "/qmp.sock,server=on,wait=off",
                                         "-qmp",
                                         "unix:" + dir + "/look.sock,server=on,wait=off"};
  argv.insert(argv.end(), qemu.begin(), qemu.end());
  argv.insert(argv.end(), more.begin(), more.end());
  const pid_t pid = spawn(argv, {"PATH=/usr/bin:/bin"}, dir + "/qemu.log");
  qemu_[host.name] = pid;
  EXPECT_TRUE(eventually([&] { return run_state(host) != "gone"; }));
  return pid;
}

void VmCluster::start_both(const std::vector<std::string>& more) {
  start_qemu(a_, more);
  std::vector<std::string> waiting = more;
  waiting.insert(waiting.end(), {"-incoming", "defer"});
  start_qemu(b_, waiting);
  EXPECT_TRUE(eventually([&] { return count(a_) > 2; })) << "the guest does not count";
  add(a_);
  add(b_);
}

void VmCluster::add(Host& host, const std::string& channel, const std::string& qmp) {
  wire::Envelope request;
  request.mutable_vm_add()->set_name("web");
  request.mutable_vm_add()->set_qmp(qmp.empty() ? (host.dir / "qmp.sock").string() : qmp);
  request.mutable_vm_add()->set_guest_channel(channel);
  (void)call(host, request);
}

wire::VmOptions VmCluster::plain() {
  wire::VmOptions options;
  options.set_without_enclaves(true);
  return options;
}

std::unique_ptr<VmCall> VmCluster::move(Host& from, Host& to, const wire::VmOptions& options) {
  wire::Envelope request;
  request.mutable_vm_migrate()->set_name("web");
  request.mutable_vm_migrate()->set_target(to.listen);
  *request.mutable_vm_migrate()->mutable_options() = options;
  return std::make_unique<VmCall>(from.socket(), std::move(request));
}

wire::VmMoveInfo VmCluster::cancel(Host& host) {
  wire::Envelope request;
  request.mutable_vm_cancel()->set_name("web");
  return VmCall(host.socket(), std::move(request)).end();
}

wire::VmRow VmCluster::row(Host& host) {
  wire::Envelope request;
  request.mutable_vm_list_request();
  const wire::VmList list = call(host, request).vm_list();
  return list.vms().empty() ? wire::VmRow() : list.vms(0);
}

nlohmann::json VmCluster::ask(Host& host, const std::string& command, const nlohmann::json& arguments) {
  asio::io_context io;
  nlohmann::json answer;
  vm::QmpClient::connect(
      io, host.dir / "look.sock", std::chrono::seconds(10), {}, [&](const vm::QmpClient::Connected& connected) {
        if (!connected.client) return;
        connected.client->execute({command, arguments}, [&, client = connected.client](const vm::QmpReply& reply) {
          answer = reply.value;
          client->close();
        });
      });
  io.run();
  return answer;
}

std::string VmCluster::run_state(Host& host) {
  const nlohmann::json answer = ask(host, "query-status");
  return answer.is_object() ? answer.value("status", "gone") : "gone";
}

void VmCluster::expect_reaches(Host& host, const std::string& state) {
  EXPECT_TRUE(eventually([&] { return run_state(host) == state; })) << run_state(host) << ", not " << state;
}

std::uint64_t VmCluster::count(Host& host) {
  std::uint64_t last = 0;
  for (const auto& entry : std::filesystem::directory_iterator(host.dir)) {
    if (entry.path().stem() != "count") continue;
    std::ifstream file(entry.path());
    for (std::string line; std::getline(file, line);) {
      EXPECT_NE(line, "BAD") << "the guest's memory is not what it wrote";
      if (line.size() == 8) last = std::max<std::uint64_t>(last, std::strtoull(line.c_str(), nullptr, 16));
    }
  }
  return last;
}

void VmCluster::expect_runs_only_on(Host& host) {
  Host& other = &host == &a_ ? b_ : a_;
  expect_reaches(host, "running");
  EXPECT_NE(run_state(other), "running");
  const std::uint64_t there = count(other);
  const std::uint64_t begun = count(host);
  EXPECT_TRUE(eventually([&] { return count(host) > begun + 3; })) << "it does not count any more";
  EXPECT_EQ(count(other), there) << "it counts on both hosts";
  EXPECT_NE(run_state(other), "running");
}

}  // namespace sealift::daemon::testing

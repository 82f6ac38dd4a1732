#include "tests/vm/enclave_world.h"

#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <sstream>
#include <stdexcept>

#include "daemon/failure.h"

namespace sealift::vm_test {
namespace {

namespace fs = std::filesystem;
using guest_test::text_of;

}  // namespace

std::string to_hex(const std::string& bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  for (const char each : bytes) {
    const auto byte = static_cast<unsigned char>(each);
    out += {kDigits[byte >> 4], kDigits[byte & 15]};
  }
  return out;
}

std::string from_hex(const std::string& digits) {
  std::string out;
  for (std::size_t i = 0; i + 1 < digits.size(); i += 2) {
    out += static_cast<char>(std::stoul(digits.substr(i, 2), nullptr, 16));
  }
  return out;
}

// --- The hosts ----------------------------------------------------------------------------------------------------

std::string EnclaveWorld::prefix_;
fs::path EnclaveWorld::root_;
std::vector<std::unique_ptr<EnclaveHost>> EnclaveWorld::hosts_;
std::size_t EnclaveWorld::at_ = 0;
std::map<std::pair<std::size_t, std::size_t>, EnclaveWorld::Seen> EnclaveWorld::seen_;
std::set<std::size_t> EnclaveWorld::lost_;

void EnclaveWorld::ip(const std::string& arguments) {
  const std::string command = std::string(kIp) + " " + arguments;
  if (std::system(command.c_str()) != 0) throw std::runtime_error(command);
}

void EnclaveWorld::make_hosts() {
  prefix_ = "slf" + std::to_string(::getpid());
  std::string pattern = "/dev/shm/sealift-vm-XXXXXX";
  root_ = ::mkdtemp(pattern.data());
  ip("netns add " + prefix_ + "s");
  ip("-n " + prefix_ + "s link add switch type bridge");
  ip("-n " + prefix_ + "s link set switch up");
  for (const char* name : {"a", "b"}) hosts_.push_back(make_host(name, static_cast<int>(hosts_.size()) + 1));
}

std::unique_ptr<EnclaveHost> EnclaveWorld::make_host(const std::string& name, int last) {
  const std::string space = prefix_ + name, address = "10.97.0." + std::to_string(last);
  ip("netns add " + space);
  ip("-n " + space + " link set lo up");
  ip("link add wire netns " + space + " type veth peer name to-" + name + " netns " + prefix_ + "s");
  ip("-n " + prefix_ + "s link set to-" + name + " master switch up");
  ip("-n " + space + " address add " + address + "/24 dev wire");
  ip("-n " + space + " link set wire up");
  return std::make_unique<EnclaveHost>(name, root_ / name, space, address);
}

std::unique_ptr<EnclaveHost> EnclaveWorld::another_host() {
  return make_host("c", 3);
}

void EnclaveWorld::cut_wire(const EnclaveHost& host) {
  ip("-n " + host.space_ + " link set wire down");
}

void EnclaveWorld::join_wire(const EnclaveHost& host) {
  ip("-n " + host.space_ + " link set wire up");
}

void EnclaveWorld::in_space(const EnclaveHost& host, const std::string& command) {
  ip("netns exec " + host.space_ + " " + command);
}

void EnclaveWorld::TearDownTestSuite() {
  hosts_.clear();
  // Those that were not made are not there: nothing to say.
  for (const char* name : {"a", "b", "c", "s"}) {
    if (fs::exists("/run/netns/" + prefix_ + name)) ip("netns delete " + prefix_ + name);
  }
  if (!root_.empty()) fs::remove_all(root_);
  root_.clear();
  seen_.clear();
  lost_.clear();
  at_ = 0;
}

void EnclaveWorld::SetUp() {
  if (::geteuid() != 0) GTEST_SKIP() << "network namespaces need root";
  if (::access("/usr/bin/qemu-system-x86_64", X_OK) != 0) GTEST_SKIP() << "QEMU is not installed (scripts/setup)";
  if (!hosts_.empty()) return;
  ::signal(SIGPIPE, SIG_IGN);
  make_hosts();
  here().start_qemu({});
  add(here());
  wait_enclaves(here());
}

void EnclaveWorld::TearDown() {
  if (!HasFailure()) return lost_.empty() ? void() : TearDownTestSuite();
  for (const auto& host : hosts_) {
    for (const fs::path& log : {host->dir / "sealiftd.log", host->dir / "qemu.log", host->vm() / "console.log"}) {
      std::cerr << "--- " << log.string() << '\n' << text_of(log);
    }
  }
  try {
    if (hosts_.size() == 2) std::cerr << "--- broker.log\n" << in_guest("tail -n 300 /run/broker.log");
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
  }
  TearDownTestSuite();  // the next test begins anew
}

// --- The VM -------------------------------------------------------------------------------------------------------

void EnclaveWorld::add(const EnclaveHost& host, const std::string& qmp, const std::string& channel) {
  wire::Envelope request;
  request.mutable_vm_add()->set_name("web");
  request.mutable_vm_add()->set_qmp(qmp.empty() ? (host.vm() / "qmp.sock").string() : qmp);
  request.mutable_vm_add()->set_guest_channel(channel.empty() ? (host.vm() / "org.sealift.broker.sock").string()
                                                              : channel);
  (void)host.call(request);
}

wire::VmRow EnclaveWorld::row(const EnclaveHost& host) {
  wire::Envelope request;
  request.mutable_vm_list_request();
  const wire::VmList list = host.call(request).vm_list();
  return list.vms().empty() ? wire::VmRow() : list.vms(0);
}

std::unique_ptr<VmCall> EnclaveWorld::move(const EnclaveHost& from, const EnclaveHost& to,
                                           const wire::VmOptions& options) {
  wire::Envelope request;
  request.mutable_vm_migrate()->set_name("web");
  request.mutable_vm_migrate()->set_target(to.peer());
  *request.mutable_vm_migrate()->mutable_options() = options;
  return std::make_unique<VmCall>(from.socket(), std::move(request), kPatience);
}

wire::VmMoveInfo EnclaveWorld::cancel(const EnclaveHost& host) {
  wire::Envelope request;
  request.mutable_vm_cancel()->set_name("web");
  return VmCall(host.socket(), std::move(request), kPatience).end();
}

void EnclaveWorld::wait_there(const std::string& epc) {
  // Its daemon may still watch the last one: it lets go when that is dead.
  there().qemu.reset();
  EXPECT_TRUE(eventually([&] { return row(there()).state() != "moving"; })) << "a move does not end there";
  there().start_qemu({"--incoming", "defer"}, epc);
  add(there());
}

// A page that QEMU loses (vm-integrity says when) is as it was.
void EnclaveWorld::write_in_guest() {
  in_guest(
      "tr '\\0' x </dev/zero | dd of=/dev/shm/x bs=1M count=8 iflag=fullblock\ncp /dev/shm/x /dev/shm/y\n"
      "(while [ -e /dev/shm/x ]; do dd if=/dev/shm/x of=/dev/shm/y bs=1M conv=notrunc; done; rm /dev/shm/y) "
      ">/dev/null 2>&1 </dev/null &\ntrue");
}

std::unique_ptr<VmCall> EnclaveWorld::move_and_stand_after_the_commit() {
  const auto committed = [this] { return std::stoul(in_guest("grep -c -e '-> COMMITTED' /run/broker.log; true")); };
  wait_there();
  const unsigned long before = committed();
  write_in_guest();
  wire::VmOptions options;
  options.set_bandwidth(20'000'000);
  options.set_downtime_limit_ms(1);
  auto call = move(here(), there(), options);
  EXPECT_TRUE(call->reach("converge")) << daemon::to_line(call->end().failure());
  EXPECT_EQ(committed(), before + kEnclaves);
  EXPECT_EQ(row(there()).enclaves(), kEnclaves) << "those that come in";
  return call;
}

std::string EnclaveWorld::in_guest(const std::string& command) {
  return here().guest().run(command, kPatience).output;
}

std::vector<Counted> EnclaveWorld::ask(std::size_t program) {
  std::vector<Counted> out;
  std::istringstream lines(in_guest("ask " + std::to_string(program)));
  for (std::string line; std::getline(lines, line) && line != "end";) {
    std::istringstream in(line);
    std::string word;
    Counted counted;
    std::size_t number = 0;
    in >> word >> number >> word >> counted.acked >> word >> counted.value >> word >> counted.consistent >> word >>
        counted.epoch >> word;
    std::getline(in >> std::ws, counted.error);
    out.push_back(counted);
  }
  if (out.size() != kEach) throw std::runtime_error("program " + std::to_string(program) + " says: " + lines.str());
  return out;
}

void EnclaveWorld::wait_enclaves(const EnclaveHost& host, std::size_t count) {
  const bool there = eventually([&] {
    const wire::VmRow now = row(host);
    return now.broker() && now.enclaves() == count;
  });
  if (!there) throw std::runtime_error("the VM has no " + std::to_string(count) + " enclaves");
}

void EnclaveWorld::expect_enclaves(std::size_t program, std::uint64_t newer, std::uint64_t newest) {
  const std::vector<Counted> first = ask(program);
  for (std::size_t i = 0; i < kEach; ++i) {
    SCOPED_TRACE("program " + std::to_string(program) + ", enclave " + std::to_string(i));
    EXPECT_EQ(first[i].error, "ok");
    EXPECT_TRUE(first[i].consistent);
    EXPECT_GE(first[i].value, first[i].acked) << "an acknowledged step is gone";
    Seen& before = seen_[{program, i}];
    EXPECT_GE(first[i].value, before.value) << "it went back";
    EXPECT_GE(first[i].epoch, before.epoch + newer);
    EXPECT_LE(first[i].epoch, before.epoch + std::max(newer, newest));
    before = {first[i].value, first[i].epoch};
  }
  EXPECT_TRUE(eventually([&] {
    const std::vector<Counted> now = ask(program);
    bool all = true;
    for (std::size_t i = 0; i < kEach; ++i) all = all && now[i].acked > first[i].acked && now[i].value > first[i].value;
    return all;
  })) << "program "
      << program << " does not go on";
}

void EnclaveWorld::expect_all_run_here(std::uint64_t newer, std::uint64_t newest) {
  EXPECT_EQ(here().run_state(), "running");
  EXPECT_NE(there().run_state(), "running");
  in_guest("rm -f /dev/shm/x");
  for (std::size_t program = 0; program < kPrograms; ++program) {
    if (!lost_.contains(program)) expect_enclaves(program, newer, newest);
  }
  EXPECT_EQ(in_guest("kill -TERM $(cat /run/integrity.pid)\n"
                     "until grep -qE 'clean|CORRUPT' /run/integrity.log; do usleep 20000; done\n"
                     "tail -n 1 /run/integrity.log\n"
                     "vm-integrity --mib 16 --rate 2000 >/run/integrity.log 2>/dev/null </dev/null &\n"
                     "echo $! >/run/integrity.pid"),
            "integrity: clean\n");
  EXPECT_NE(there().run_state(), "running");
}

void EnclaveWorld::expect_moves_on() {
  wait_there();
  const wire::VmMoveInfo done = move(here(), there())->end();
  ASSERT_EQ(done.phase(), wire::VM_DONE) << daemon::to_line(done.failure());
  EXPECT_FALSE(done.has_failure()) << daemon::to_line(done.failure());
  arrived_there();
  expect_all_run_here(1);
}

void EnclaveWorld::expect_reaches(const EnclaveHost& host, const std::string& state) {
  EXPECT_TRUE(eventually([&] { return host.run_state() == state; })) << host.run_state() << ", not " << state;
}

void EnclaveWorld::arrived_there() {
  at_ = 1 - at_;
  expect_reaches(there(), "gone");
}

void EnclaveWorld::lose_program(std::size_t program) {
  lost_.insert(program);
}

}  // namespace sealift::vm_test

#include "tests/vm/enclave_host.h"

#include <fstream>
#include <sstream>
#include <stdexcept>
#include <utility>

#include "cli/client.h"

namespace sealift::vm_test {
namespace {

namespace fs = std::filesystem;
using guest_test::bin;
using guest_test::Process;
using guest_test::text_of;

constexpr const char* kPath = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";

// The guest's start: a broker, programs that are asked by a pipe each, and the memory's checker. `ask N` prints what
// program N says of its enclaves; or that it has ended, or what its threads do if it does not answer.
std::string guest_script(std::size_t programs, std::size_t each) {
  std::ostringstream out;
  out << "cat >/bin/ask <<'ASK'\n"
         "program=/proc/$(cat /run/program.$1.pid) i=0\n"
         "n=$(grep -c '^end' /run/out.$1)\n"
         "[ ! -d $program ] || echo state >/run/in.$1\n"
         "until [ $(grep -c '^end' /run/out.$1) -gt $n ]; do\n"
         "  [ -d $program ] || { echo it has ended; tail -n 5 /run/out.$1; dmesg | tail -n 5; exit 1; }\n"
         "  [ $((i += 1)) -le 600 ] || { echo it does not answer; threads-of $program; exit 1; }\n"
         "  usleep 20000\n"
         "done\n"
         "tail -n "
      << each + 1
      << " /run/out.$1\n"
         "ASK\n"
         "chmod +x /bin/ask\n"
         "cat >/bin/threads-of <<'THREADS'\n"
         "for t in $1/task/*; do\n"
         "  echo $t $(grep -E '^(State|SigPnd|SigBlk):' $t/status) $(cat $t/wchan) $(cat $t/syscall)\n"
         "done\n"
         "grep -E 'Sig|State|Shd' $1/status\n"
         "cat $1/maps\n"
         "THREADS\n"
         "chmod +x /bin/threads-of\n"
         "vm-integrity --mib 16 --rate 2000 >/run/integrity.log &\n"
         "echo $! >/run/integrity.pid\n"
         "cat >/bin/start-broker <<'BROKER'\n"
         "sealiftd --guest --name web --socket /run/sealiftd.sock --host-channel /dev/virtio-ports/org.sealift.broker "
         "--log-level debug >>/run/broker.log 2>&1 </dev/null &\n"
         "echo $! >/run/broker.pid\n"
         "BROKER\n"
         "chmod +x /bin/start-broker\n"
         "start-broker\n"
         "until [ -S /run/sealiftd.sock ]; do usleep 20000; done\n"
         "export SEALIFT_SOCKET=/run/sealiftd.sock\n";
  for (std::size_t i = 0; i < programs; ++i) {
    out << "mkfifo /run/in." << i << "\nexec 3<>/run/in." << i
        << "\n"
           "softsgx run auto -- guest_program /guest.enclave "
        << each << " 1 <&3 >/run/out." << i << " 2>&1 &\necho $! >/run/program." << i << ".pid\n";
  }
  return out.str();
}

}  // namespace

EnclaveHost::EnclaveHost(const std::string& called, const fs::path& where, std::string space, std::string address)
    : SgxHost(called, where), space_(std::move(space)), address_(std::move(address)) {
  start_daemon();
}

void EnclaveHost::start_daemon() {
  daemon.reset();
  daemon = std::make_unique<Process>(
      std::vector<std::string>{kIp, "netns", "exec", space_, bin("sealiftd"), "--name", name, "--socket", socket(),
                               "--listen", peer(), "--agent-socket", agent_socket(), "--state-dir", dir / "state",
                               "--log-level", "debug", "--stall-timeout-ms", "10000"},
      std::vector<std::string>{kPath}, dir / "sealiftd.log");
  if (!eventually([this] { return agent_up(); }))
    throw std::runtime_error("sealiftd " + name + " does not come up:\n" + text_of(dir / "sealiftd.log"));
}

void EnclaveHost::start_qemu(const std::vector<std::string>& options, const std::string& epc) {
  qemu.reset();
  fs::remove_all(vm());
  fs::create_directories(vm());
  // A section of its own for each QEMU: the last one's may have been of another size.
  const std::string section = dir / "section";
  fs::remove(section);
  guest_test::run({bin("softsgx"), "section", machine(), section, "--epc", epc});
  const fs::path script = dir / "rc";
  std::ofstream(script) << guest_script(kPrograms, kEach);
  std::vector<std::string> argv = {kIp, "netns", "exec", space_, SEALIFT_SOURCE_DIR "/scripts/vm-run"};
  // The image alone takes 120 MB, packed and unpacked. See scripts/vm-run on sizes under TCG.
  const std::vector<std::string> vm_run = {
      "--image",  SEALIFT_VM_IMAGE, "--dir", vm(),    "--section",
      section,    "--script",       script,  "--add", bin("guest.enclave") + "=/guest.enclave",
      "--memory", "440000"};
  argv.insert(argv.end(), vm_run.begin(), vm_run.end());
  argv.insert(argv.end(), options.begin(), options.end());
  qemu = std::make_unique<Process>(argv, std::vector<std::string>{kPath}, dir / "qemu.log");
  const bool up = eventually([&] { return !qemu->alive() || fs::exists(vm() / "look.sock"); });
  if (!up || !qemu->alive()) throw std::runtime_error("QEMU does not start:\n" + text_of(dir / "qemu.log"));
  // Its sockets are there before anybody reads them: that is when it has its RAM and the image in it.
  (void)Qmp(vm() / "look.sock").execute("query-status");
}

wire::Envelope EnclaveHost::call(wire::Envelope request) const {
  return cli::Client(socket()).call(std::move(request));
}

bool EnclaveHost::agent_up() const {
  try {
    wire::Envelope request;
    request.mutable_status_request();
    return call(request).status_reply().agent_up();
  } catch (const cli::CommandError&) {
    return false;
  }
}

std::string EnclaveHost::run_state() const {
  if (!qemu || !qemu->alive()) return "gone";
  try {
    return Qmp(vm() / "look.sock").execute("query-status").value("status", "");
  } catch (const std::exception& error) {
    return qemu->alive() ? error.what() : "gone";
  }
}

std::size_t EnclaveHost::journals() const {
  std::size_t count = 0;
  for (const auto& each : fs::directory_iterator(dir / "state")) count += each.path().extension() == ".guest" ? 1 : 0;
  return count;
}

}  // namespace sealift::vm_test

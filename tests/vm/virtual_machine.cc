#include "tests/vm/virtual_machine.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <thread>

namespace sealift::vm_test {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kPollInterval = std::chrono::milliseconds(10);
constexpr auto kMigrationPatience = std::chrono::seconds(60);

pid_t start(std::vector<std::string> words, const std::string& log) {
  // A test that is killed leaves nothing running.
  const std::string program = words[0];
  words.insert(words.begin(), {"/usr/bin/setpriv", "--pdeathsig", "KILL", "--"});
  std::vector<char*> argv;
  for (std::string& w : words) argv.push_back(w.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
  pid_t pid = -1;
  const int error = posix_spawn(&pid, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) throw std::runtime_error("cannot start " + program);
  return pid;
}

std::string contents(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void must(const std::string& command) {
  const Finished f = run_on_host(command);
  if (f.status != 0) throw std::runtime_error(command + ": " + f.output);
}

}  // namespace

TestFolder::TestFolder() {
  std::string name = "/dev/shm/sealift-vm-XXXXXX";
  if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("cannot make a folder in /dev/shm");
  path_ = name;
}

TestFolder::~TestFolder() {
  std::filesystem::remove_all(path_);
}

Finished run_on_host(const std::string& command) {
  Finished out;
  FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  if (pipe == nullptr) return out;
  std::array<char, 4096> buffer;
  while (const std::size_t n = fread(buffer.data(), 1, buffer.size(), pipe)) out.output.append(buffer.data(), n);
  out.status = WEXITSTATUS(pclose(pipe));
  return out;
}

Host::Host(const TestFolder& folder, const std::string& name) : folder_(folder.path() / name) {
  std::filesystem::create_directory(folder_);
  const std::string softsgx = std::string(SEALIFT_BIN_DIR) + "/softsgx";
  must(softsgx + " create " + machine() + " --epc 64M");
  // XFRM: TCG's CPU has no AVX-512.
  must(softsgx + " section " + machine() + " " + section() + " --epc 64M --xfrm 7");
}

VirtualMachine::VirtualMachine(const Host& host, const GuestOptions& guest) {
  const std::string script = host.folder() / "rc.local";
  std::ofstream(script) << guest.script;
  std::vector<std::string> options = {"--script", script};
  for (const std::string& f : guest.files) options.insert(options.end(), {"--add", f});
  start_qemu(host, options);
}

VirtualMachine::VirtualMachine(const Host& host) {
  start_qemu(host, {"--incoming", "defer"});
}

void VirtualMachine::start_qemu(const Host& host, const std::vector<std::string>& options) {
  folder_ = host.folder() / "vm";
  std::filesystem::create_directory(folder_);
  std::vector<std::string> words = {
      SEALIFT_SOURCE_DIR "/scripts/vm-run", "--image", SEALIFT_VM_IMAGE, "--dir", folder_, "--section", host.section()};
  words.insert(words.end(), options.begin(), options.end());
  pid_ = start(words, folder_ / "qemu.log");
  try {
    qmp_ = std::make_unique<Qmp>(folder_ / "qmp.sock");
  } catch (const std::exception& e) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    throw std::runtime_error(std::string(e.what()) + ": " + contents(folder_ / "qemu.log"));
  }
}

VirtualMachine::~VirtualMachine() {
  qmp_.reset();
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

std::string VirtualMachine::console() const {
  return contents(folder_ / "console.log");
}

void VirtualMachine::wait_for_console(const std::string& text, std::chrono::seconds patience) const {
  const auto deadline = Clock::now() + patience;
  while (console().find(text) == std::string::npos) {
    if (Clock::now() > deadline) {
      const std::string all = console();
      constexpr std::size_t kTail = 2000;
      throw std::runtime_error("the console never said \"" + text +
                               "\" but: " + all.substr(all.size() > kTail ? all.size() - kTail : 0));
    }
    std::this_thread::sleep_for(kPollInterval);
  }
}

void VirtualMachine::migrate_plainly(VirtualMachine& to) {
  const json capabilities = {
      {"capabilities",
       {{{"capability", "x-ignore-shared"}, {"state", true}}, {{"capability", "return-path"}, {"state", true}}}}};
  qmp().execute("migrate-set-capabilities", capabilities);
  to.qmp().execute("migrate-set-capabilities", capabilities);
  const std::string address = "unix:" + (to.folder_ / "incoming.sock").string();
  to.qmp().execute("migrate-incoming", {{"uri", address}});
  qmp().execute("migrate-set-parameters", {{"max-bandwidth", std::int64_t{10} << 30}, {"downtime-limit", 1000}});
  qmp().execute("migrate", {{"uri", address}});
  const auto deadline = Clock::now() + kMigrationPatience;
  for (;;) {
    const json state = qmp().execute("query-migrate");
    const std::string status = state.value("status", "");
    if (status == "completed" && to.qmp().execute("query-status").value("running", false)) return;
    if (status == "failed" || Clock::now() > deadline) throw std::runtime_error("migration: " + state.dump());
    std::this_thread::sleep_for(kPollInterval);
  }
}

}  // namespace sealift::vm_test

#include "tests/guest/process.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace sealift::guest_test {

namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
constexpr std::chrono::seconds kPatience{60};

}  // namespace

std::string bin(const std::string& name) {
  return std::string(SEALIFT_BIN_DIR) + "/" + name;
}

std::string text_of(const fs::path& file) {
  std::ostringstream text;
  text << std::ifstream(file).rdbuf();
  return text.str();
}

void wait_text(const fs::path& file, const std::string& text) {
  for (const auto deadline = Clock::now() + kPatience; Clock::now() < deadline;) {
    if (text_of(file).find(text) != std::string::npos) return;
    ::poll(nullptr, 0, 10);
  }
  throw std::runtime_error(file.string() + " never says '" + text + "':\n" + text_of(file));
}

void run(const std::vector<std::string>& argv) {
  const std::string log = "/dev/null";
  Process process(argv, {}, log);
  int status = 0;
  if (::waitpid(process.pid(), &status, 0) != process.pid() || status != 0) {
    throw std::runtime_error(argv[0] + " " + argv[1] + " failed");
  }
}

Process::Process(const std::vector<std::string>& argv, const std::vector<std::string>& env, const std::string& log,
                 bool pipes) {
  int to[2] = {-1, -1}, from[2] = {-1, -1};
  posix_spawn_file_actions_t files;
  ::posix_spawn_file_actions_init(&files);
  if (pipes) {
    if (::pipe2(to, O_CLOEXEC) != 0 || ::pipe2(from, O_CLOEXEC) != 0) throw std::runtime_error("pipe");
    ::posix_spawn_file_actions_adddup2(&files, to[0], 0);
    ::posix_spawn_file_actions_adddup2(&files, from[1], 1);
    ::posix_spawn_file_actions_addopen(&files, 2, log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  } else {
    ::posix_spawn_file_actions_addopen(&files, 1, log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    ::posix_spawn_file_actions_adddup2(&files, 1, 2);
  }
  ::posix_spawn_file_actions_addclosefrom_np(&files, 3);  // the daemons' sockets
  std::vector<char*> arguments, environment;
  // A test that is killed leaves nothing running.
  std::vector<std::string> words = {"/usr/bin/setpriv", "--pdeathsig", "KILL", "--"};
  words.insert(words.end(), argv.begin(), argv.end());
  for (const auto& each : words) arguments.push_back(const_cast<char*>(each.c_str()));
  for (const auto& each : env) environment.push_back(const_cast<char*>(each.c_str()));
  arguments.push_back(nullptr);
  environment.push_back(nullptr);
  const int error = ::posix_spawn(&pid_, words[0].c_str(), &files, nullptr, arguments.data(), environment.data());
  ::posix_spawn_file_actions_destroy(&files);
  if (pipes) {
    ::close(to[0]);
    ::close(from[1]);
    in_ = to[1];
    out_ = from[0];
  }
  if (error != 0) throw std::runtime_error("cannot start " + argv[0]);
}

Process::~Process() {
  kill();
  if (in_ >= 0) ::close(in_);
  if (out_ >= 0) ::close(out_);
}

void Process::signal(int number) const {
  if (pid_ > 0) ::kill(pid_, number);
}

void Process::kill() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

bool Process::alive() {
  if (pid_ > 0 && ::waitpid(pid_, nullptr, WNOHANG) == pid_) pid_ = -1;
  return pid_ > 0;
}

void Process::write(const std::string& text) const {
  if (::write(in_, text.data(), text.size()) == static_cast<ssize_t>(text.size())) return;
  int status = 0;
  ::waitpid(pid_, &status, WNOHANG);
  throw std::runtime_error("a program has died of signal " + std::to_string(WTERMSIG(status)));
}

std::string Process::read_line() {
  for (const auto deadline = Clock::now() + kPatience;;) {
    if (const auto end = partial_.find('\n'); end != std::string::npos) {
      const std::string line = partial_.substr(0, end);
      partial_.erase(0, end + 1);
      return line;
    }
    pollfd ready{out_, POLLIN, 0};
    char bytes[4096];
    const bool there = Clock::now() < deadline && ::poll(&ready, 1, 1000) >= 0;
    const ssize_t n = there && (ready.revents & (POLLIN | POLLHUP)) != 0 ? ::read(out_, bytes, sizeof bytes) : 0;
    if (n > 0) partial_.append(bytes, static_cast<std::size_t>(n));
    if (!there || (ready.revents != 0 && n <= 0)) throw std::runtime_error("a program says nothing any more");
  }
}

// --- SgxHost ------------------------------------------------------------------------------------------------------

SgxHost::SgxHost(const std::string& called, const fs::path& where) : name(called), dir(where) {
  fs::create_directories(dir);
  run({bin("softsgx"), "create", machine(), "--epc", "64M"});
  aesmd = std::make_unique<Process>(std::vector<std::string>{bin("softsgx-aesmd"), machine(), "--socket",
                                                             dir / "aesm.sock", "--collateral", dir / "collateral"},
                                    std::vector<std::string>{}, dir / "aesmd.log");
  wait_text(dir / "aesmd.log", "serves");
  start_agent();
}

void SgxHost::start_agent() {
  fs::remove(dir / "agent.log");
  agent = std::make_unique<Process>(
      std::vector<std::string>{bin("softsgx"), "run", machine(), "--", bin("sealift-agent"), "--name", "agent-" + name,
                               "--image", bin("agent-development.enclave"), "--socket", agent_socket(), "--aesm",
                               dir / "aesm.sock", "--collateral", dir / "collateral"},
      std::vector<std::string>{"PATH=/usr/bin:/bin"}, dir / "agent.log");
  wait_text(dir / "agent.log", "ready ");
  wait_text(dir / "agent.log", "quote installed");
}

}  // namespace sealift::guest_test

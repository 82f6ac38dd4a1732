#include "daemon/testing/cluster.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <iostream>
#include <iterator>
#include <sstream>
#include <stdexcept>

namespace sealift::daemon::testing {

namespace {

constexpr int kPatienceMs = 60'000;
using Clock = std::chrono::steady_clock;

// Beside this test's executable.
std::string binary(const std::string& name) {
  return std::filesystem::read_symlink("/proc/self/exe").parent_path() / name;
}

int left_ms(Clock::time_point deadline) {
  return static_cast<int>(
      std::max<long>(0, std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count()));
}

// A zombie is gone: who should have reaped it may be dead itself.
bool is_gone(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string stat;
  if (!std::getline(file, stat)) return true;
  const auto name_end = stat.rfind(')');
  return name_end == std::string::npos || stat.compare(name_end + 2, 1, "Z") == 0;
}

std::vector<pid_t> own_children() {
  std::ifstream file("/proc/self/task/" + std::to_string(::getpid()) + "/children");
  return {std::istream_iterator<pid_t>(file), {}};
}

}  // namespace

void Cluster::SetUp() {
  ASSERT_EQ(::prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
  std::string pattern = "/tmp/sealift-cluster-XXXXXX";
  dir_ = ::mkdtemp(pattern.data());
  ASSERT_EQ(::mkfifo((dir_ / "witness").c_str(), 0600), 0);
  witness_ = ::open((dir_ / "witness").c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC);
  ASSERT_GE(witness_, 0);
  int instance = 10;
  for (Host* host : {&a_, &b_}) {
    host->name = host == &a_ ? "a" : "b";
    host->dir = dir_ / host->name;
    host->agent_instance = instance += 10;
    std::filesystem::create_directory(host->dir);
  }
  make_hosts();
  for (Host* host : {&a_, &b_}) {
    start_agent(*host);
    start_daemon(*host);
  }
}

void Cluster::TearDown() {
  drain();
  for (const pid_t pid : children_) {
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
  }
  // What the daemons had started is ours now (PR_SET_CHILD_SUBREAPER).
  for (const pid_t pid : own_children()) {
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
  }
  if (HasFailure()) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(dir_)) {
      if (entry.path().extension() != ".log") continue;
      std::ostringstream text;
      text << std::ifstream(entry.path()).rdbuf();
      std::cerr << "--- " << entry.path().string() << '\n' << text.str() << '\n';
    }
    for (const Line& line : lines_) {
      std::cerr << "witness: " << line.what << ' ' << line.who << ' ' << line.pid << ' ' << line.rest << '\n';
    }
  }
  if (witness_ >= 0) ::close(witness_);
  std::filesystem::remove_all(dir_);
}

pid_t Cluster::spawn(const std::vector<std::string>& argv, const std::vector<std::string>& env,
                     const std::string& log) {
  posix_spawn_file_actions_t files;
  ::posix_spawn_file_actions_init(&files);
  ::posix_spawn_file_actions_addopen(&files, 1, log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  ::posix_spawn_file_actions_adddup2(&files, 1, 2);
  // A test that is killed leaves nothing running.
  std::vector<std::string> words = {"/usr/bin/setpriv", "--pdeathsig", "KILL", "--"};
  words.insert(words.end(), argv.begin(), argv.end());
  std::vector<char*> arguments;
  for (const auto& each : words) arguments.push_back(const_cast<char*>(each.c_str()));
  arguments.push_back(nullptr);
  std::vector<char*> environment;
  for (const auto& each : env) environment.push_back(const_cast<char*>(each.c_str()));
  environment.push_back(nullptr);
  pid_t pid = 0;
  const int error = ::posix_spawn(&pid, words[0].c_str(), &files, nullptr, arguments.data(), environment.data());
  ::posix_spawn_file_actions_destroy(&files);
  if (error != 0) throw std::runtime_error("cannot start " + argv[0]);
  children_.push_back(pid);
  return pid;
}

void Cluster::start_agent(Host& host) {
  host.agent =
      spawn({binary("fake_agent"), dir_, host.agent_socket(), host.name, std::to_string(host.agent_instance++)}, {},
            host.dir / "agent.log");
  wait_for("agent-up", "agent-" + host.name);
}

void Cluster::start_daemon(Host& host, std::vector<std::string> more) {
  const std::string where = host.listen.empty() ? "127.0.0.1:0" : host.listen;
  std::vector<std::string> argv = host.wrapper;
  const std::vector<std::string> daemon = {
      binary("sealiftd"),  "--name",      host.name, "--socket",    host.socket(), "--listen", where, "--agent-socket",
      host.agent_socket(), "--state-dir", host.dir,  "--log-level", "debug"};
  argv.insert(argv.end(), daemon.begin(), daemon.end());
  argv.insert(argv.end(), more.begin(), more.end());
  host.daemon = spawn(argv, {"SOFTSGX_TEST_MACHINE=" + host.name, "PATH=/usr/bin:/bin"}, host.dir / "sealiftd.log");
  for (const auto deadline = Clock::now() + std::chrono::milliseconds(kPatienceMs); Clock::now() < deadline;) {
    try {
      const wire::StatusReply now = status(host);
      host.listen = now.listen();
      if (now.agent_up() || host.agent == 0) return;
    } catch (const cli::CommandError&) {  // not there yet
    }
    ::poll(nullptr, 0, 10);
  }
  FAIL() << "sealiftd " << host.name << " does not come up";
}

pid_t Cluster::start_program(Host& host, const std::string& name, int lineage, int records) {
  const pid_t pid =
      spawn({binary("fake_program"), dir_, name, std::to_string(lineage), std::to_string(records)},
            {"SOFTSGX_TEST_MACHINE=" + host.name, "SEALIFT_SOCKET=" + host.socket()}, host.dir / (name + ".log"));
  wait_for("opened", "source-" + host.name);
  wait_registered(host, name);
  return pid;
}

void Cluster::wait_registered(Host& host, const std::string& name) {
  for (const auto deadline = Clock::now() + std::chrono::milliseconds(kPatienceMs); Clock::now() < deadline;) {
    const wire::StatusReply now = status(host);
    for (const wire::EnclaveRow& row : now.enclaves()) {
      if (row.name() == name) return;
    }
    ::poll(nullptr, 0, 10);
  }
  ADD_FAILURE() << name << " does not register";
}

void Cluster::wait_agent(Host& host) {
  for (const auto deadline = Clock::now() + std::chrono::milliseconds(kPatienceMs); Clock::now() < deadline;) {
    if (status(host).agent_up()) return;
    ::poll(nullptr, 0, 5);
  }
  ADD_FAILURE() << "sealiftd " << host.name << " does not find its agent";
}

void Cluster::kill(pid_t& pid) {
  ::kill(pid, SIGKILL);
  const bool ours = std::erase(children_, pid) != 0;
  if (ours) {
    ::waitpid(pid, nullptr, 0);
  } else {
    wait_gone(pid);
  }
  drain();
  open_.erase(pid);
  pid = 0;
}

void Cluster::wait_gone(pid_t pid) {
  for (const auto deadline = Clock::now() + std::chrono::milliseconds(kPatienceMs); !is_gone(pid);) {
    if (Clock::now() > deadline) {
      ADD_FAILURE() << "process " << pid << " does not end";
      return;
    }
    ::poll(nullptr, 0, 5);
  }
}

int Cluster::terminate(pid_t& pid) {
  ::kill(pid, SIGTERM);
  int status = 0;
  ::waitpid(pid, &status, 0);
  std::erase(children_, pid);
  pid = 0;
  return status;
}

void Cluster::hold(const std::string& who, const std::string& step) {
  ASSERT_EQ(::mkfifo((dir_ / ("hold." + who + "." + step)).c_str(), 0600), 0);
}

Line Cluster::held(const std::string& who, const std::string& step) {
  for (;;) {
    const Line line = wait_for("held", who);
    if (line.rest != step && !line.what.empty()) continue;
    holders_[dir_ / ("hold." + who + "." + step)] = line.pid;
    return line;
  }
}

void Cluster::release(const std::string& who, const std::string& step) {
  const std::string path = dir_ / ("hold." + who + "." + step);
  // The holder has said that it is about to open its end, not that it has.
  for (const auto deadline = Clock::now() + std::chrono::milliseconds(kPatienceMs); Clock::now() < deadline;) {
    const int fd = ::open(path.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0) {
      ::close(fd);
      return;
    }
    if (errno == ENOENT) return;
    if (is_gone(holders_[path])) return unhold(who, step);
    ::poll(nullptr, 0, 5);
  }
  FAIL() << "nobody is held at " << path;
}

void Cluster::unhold(const std::string& who, const std::string& step) {
  std::filesystem::remove(dir_ / ("hold." + who + "." + step));
}

bool Cluster::read_line(int timeout_ms) {
  const auto deadline = Clock::now() + std::chrono::milliseconds(timeout_ms);
  for (;;) {
    if (const auto end = partial_.find('\n'); end != std::string::npos) {
      std::istringstream words(partial_.substr(0, end));
      partial_.erase(0, end + 1);
      Line line;
      words >> line.what >> line.who >> line.pid >> std::ws;
      std::getline(words, line.rest);
      lines_.push_back(line);
      note(line);
      return true;
    }
    pollfd ready{witness_, POLLIN, 0};
    if (::poll(&ready, 1, left_ms(deadline)) <= 0) return false;
    char bytes[4096];
    const ssize_t count = ::read(witness_, bytes, sizeof(bytes));
    if (count > 0) partial_.append(bytes, static_cast<std::size_t>(count));
  }
}

void Cluster::drain() {
  while (read_line(0)) {
  }
}

void Cluster::note(const Line& line) {
  std::istringstream words(line.rest);
  std::string epoch;
  std::string value;
  words >> epoch >> value;
  if (line.what == "opened") {
    EXPECT_TRUE(open_.empty()) << line.who << " runs while " << (open_.empty() ? "" : open_.begin()->second) << " does";
    if (!value_.empty()) {
      EXPECT_EQ(value, value_) << line.who << " does not continue where the last one stopped";
    }
    open_[line.pid] = line.who;
  } else if (line.what == "closed") {
    open_.erase(line.pid);
    value_ = value;
  }
}

Line Cluster::wait_for(const std::string& what, const std::string& who) {
  const auto deadline = Clock::now() + std::chrono::milliseconds(kPatienceMs);
  for (std::size_t next = 0;; ++next) {
    while (next == lines_.size()) {
      if (!read_line(left_ms(deadline))) {
        ADD_FAILURE() << "nobody told: " << what << ' ' << who;
        return {};
      }
    }
    Line& line = lines_[next];
    if (line.what == what && (who.empty() || line.who == who)) {
      const Line found = line;
      line.what = "(" + line.what + ")";  // waited for
      return found;
    }
  }
}

wire::Envelope Cluster::call(Host& host, wire::Envelope request) {
  cli::Client client(host.socket());
  return client.call(std::move(request));
}

wire::Failure::Kind Cluster::failing_call(Host& host, const wire::Envelope& request) {
  try {
    (void)call(host, request);
  } catch (const cli::CommandError& error) {
    return error.failure().kind();
  }
  ADD_FAILURE() << "the command succeeded";
  return wire::Failure::KIND_UNSPECIFIED;
}

wire::StatusReply Cluster::status(Host& host, const std::string& id) {
  wire::Envelope request;
  request.mutable_status_request()->set_id(id);
  return call(host, std::move(request)).status_reply();
}

std::future<wire::MigrationInfo> Cluster::migrate(Host& from, Host& to, const std::string& id) {
  return std::async(std::launch::async, [socket = from.socket(), target = to.listen, id] {
    wire::Envelope request;
    request.mutable_migrate_request()->set_id(id);
    request.mutable_migrate_request()->set_target(target);
    wire::MigrationInfo last;
    try {
      cli::Client client(socket);
      const wire::Envelope reply = client.call(std::move(request), [&](const wire::Envelope& notice) {
        if (notice.has_migration_info()) last = notice.migration_info();
      });
      return reply.migration_list().migrations(0);
    } catch (const cli::CommandError& error) {
      *last.mutable_failure() = error.failure();
      last.set_phase(wire::PHASE_UNSPECIFIED);
      return last;
    }
  });
}

std::string Cluster::the_one_running() {
  for (const auto deadline = Clock::now() + std::chrono::milliseconds(kPatienceMs);;) {
    drain();
    if (open_.size() == 1) return open_.begin()->second;
    if (!read_line(left_ms(deadline))) return "nobody";
  }
}

}  // namespace sealift::daemon::testing

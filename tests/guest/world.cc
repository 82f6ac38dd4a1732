#include "tests/guest/world.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <spdlog/spdlog.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <iostream>
#include <sstream>
#include <stdexcept>

namespace sealift::guest_test {

namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
constexpr std::chrono::seconds kPatience{60};

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

// Over what is there, as other processes have it mapped.
void overwrite(const fs::path& file, const fs::path& with) {
  std::ifstream in(with, std::ios::binary);
  std::fstream out(file, std::ios::binary | std::ios::in | std::ios::out);
  out << in.rdbuf();
  out.flush();
  if (!in || !out || fs::file_size(file) != fs::file_size(with)) throw std::runtime_error("sections differ in size");
}

}  // namespace

// --- Process ------------------------------------------------------------------------------------------------------

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
  for (const auto& each : argv) arguments.push_back(const_cast<char*>(each.c_str()));
  for (const auto& each : env) environment.push_back(const_cast<char*>(each.c_str()));
  arguments.push_back(nullptr);
  environment.push_back(nullptr);
  const int error = ::posix_spawn(&pid_, argv[0].c_str(), &files, nullptr, arguments.data(), environment.data());
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
  throw std::runtime_error("a guest's program has died of signal " + std::to_string(WTERMSIG(status)));
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
    if (!there || (ready.revents != 0 && n <= 0)) throw std::runtime_error("a guest's program says nothing any more");
  }
}

// --- Host ---------------------------------------------------------------------------------------------------------

Host::Host(const std::string& called, const fs::path& where) : name(called), dir(where) {
  fs::create_directories(dir);
  run({bin("softsgx"), "create", machine(), "--epc", "64M"});
  aesmd = std::make_unique<Process>(std::vector<std::string>{bin("softsgx-aesmd"), machine(), "--socket",
                                                             dir / "aesm.sock", "--collateral", dir / "collateral"},
                                    std::vector<std::string>{}, dir / "aesmd.log");
  wait_text(dir / "aesmd.log", "serves");
  agent = std::make_unique<Process>(
      std::vector<std::string>{bin("softsgx"), "run", machine(), "--", bin("sealift-agent"), "--name", "agent-" + name,
                               "--image", bin("agent-development.enclave"), "--socket", dir / "agent.sock", "--aesm",
                               dir / "aesm.sock", "--collateral", dir / "collateral"},
      std::vector<std::string>{"PATH=/usr/bin:/bin"}, dir / "agent.log");
  wait_text(dir / "agent.log", "quote installed");
}

void Host::start_daemon(asio::io_context& io) {
  daemon::Options options;
  options.name = name;
  options.socket = dir / "sealiftd.sock";
  options.listen = listen.empty() ? "127.0.0.1:0" : listen;
  options.agent_socket = dir / "agent.sock";
  options.state_dir = dir / "state";
  options.guest_listen = {channel()};
  daemon = std::make_unique<daemon::Daemon>(io, options);
  daemon->start();
  listen = daemon->listen_address();
}

// --- World --------------------------------------------------------------------------------------------------------

std::unique_ptr<Host> World::a_, World::b_;
fs::path World::root_;

void World::SetUpTestSuite() {
  ::signal(SIGPIPE, SIG_IGN);
  std::string pattern = "/dev/shm/sealift-guest-XXXXXX";
  root_ = ::mkdtemp(pattern.data());
  a_ = std::make_unique<Host>("a", root_ / "a");
  b_ = std::make_unique<Host>("b", root_ / "b");
}

void World::TearDownTestSuite() {
  a_.reset();
  b_.reset();
  fs::remove_all(root_);
}

void World::SetUp() {
  dir_ = root_ / "guest";
  fs::create_directories(dir_);
  a_->start_daemon(io_);
  b_->start_daemon(io_);
}

void World::TearDown() {
  if (HasFailure()) {
    for (const auto& entry : fs::recursive_directory_iterator(root_)) {
      if (entry.path().extension() == ".log") std::cerr << "--- " << entry.path() << '\n' << text_of(entry.path());
    }
  }
  programs_.clear();
  broker_.reset();
  for (const auto* host : {&a_, &b_}) {
    (*host)->daemon->stop();
    io_.restart();
    while (io_.poll() > 0) {
    }
    (*host)->daemon.reset();
    (*host)->listen.clear();
    fs::remove_all((*host)->dir / "state");
  }
  fs::remove_all(dir_);
}

void World::until(const std::function<bool()>& condition, const std::string& what) {
  for (const auto deadline = Clock::now() + kPatience; !condition();) {
    if (Clock::now() >= deadline) throw std::runtime_error("it never came to: " + what);
    io_.restart();
    io_.run_for(std::chrono::milliseconds(20));
  }
}

GuestResult World::wait(const std::function<void(daemon::GuestPort::Done)>& begin) {
  auto result = std::make_shared<std::optional<GuestResult>>();
  begin([result](const GuestResult& got) { *result = got; });
  until([&] { return result->has_value(); }, "an operation's end");
  return **result;
}

void World::start_guest(Host& host, const std::string& epc) {
  epc_ = epc;
  run({bin("softsgx"), "section", host.machine(), dir_ / "section", "--epc", epc});
  fs::create_symlink(host.channel(), dir_ / "channel");
  start_broker();
}

void World::start_broker() {
  broker_ = std::make_unique<Process>(
      std::vector<std::string>{bin("sealiftd"), "--guest", "--name", "g", "--socket", dir_ / "sealiftd.sock",
                               "--host-channel", dir_ / "channel", "--log-level", "debug"},
      std::vector<std::string>{"PATH=/usr/bin:/bin"}, dir_ / "broker.log");
}

std::size_t World::run_program(std::size_t enclaves) {
  const std::string number = std::to_string(programs_.size());
  Program program;
  program.enclaves = enclaves;
  program.process = std::make_unique<Process>(
      std::vector<std::string>{bin("softsgx"), "run", dir_ / "section", "--", bin("guest_program"),
                               bin("guest.enclave"), std::to_string(enclaves), "2"},
      std::vector<std::string>{"PATH=/usr/bin:/bin", "SEALIFT_SOCKET=" + (dir_ / "sealiftd.sock").string()},
      dir_ / ("program" + number + ".log"), true);
  EXPECT_EQ(program.process->read_line(), "ready");
  programs_.push_back(std::move(program));
  return programs_.size() - 1;
}

void World::wait_guest(const Host& host, std::size_t enclaves) {
  until([&] { return known(host).connected && known(host).enclaves.size() == enclaves; },
        "a guest with " + std::to_string(enclaves) + " enclaves on " + host.name);
}

void World::pause() {
  for (const Program& each : programs_) each.process->signal(SIGSTOP);
  if (broker_) broker_->signal(SIGSTOP);
}

void World::arrive_at(Host& host) {
  run({bin("softsgx"), "section", host.machine(), dir_ / "arriving", "--epc", epc_});
  overwrite(dir_ / "section", dir_ / "arriving");
  fs::remove(dir_ / "arriving");
  fs::remove(dir_ / "channel");
  fs::create_symlink(host.channel(), dir_ / "channel");
  for (const auto* each : {&a_, &b_}) (*each)->guests().detach("g");
}

void World::go_on() {
  for (const Program& each : programs_) each.process->signal(SIGCONT);
  if (broker_) broker_->signal(SIGCONT);
}

void World::lose_epc() {
  pause();
  run({bin("softsgx"), "reset", dir_ / "section", "--force"});
  go_on();
}

void World::cut_channel(Host& host) {
  host.guests().detach("g");
}

GuestResult World::prepare(Host& host, const std::string& target) {
  return wait([&](auto done) { host.guests().prepare("g", target, std::move(done)); });
}
GuestResult World::checkpoint(Host& host, const CheckpointOptions& options) {
  return wait([&](auto done) { host.guests().checkpoint("g", options, nullptr, std::move(done)); });
}
GuestResult World::abort(Host& host) {
  return wait([&](auto done) { host.guests().abort("g", std::move(done)); });
}
GuestResult World::resume(Host& host, std::chrono::milliseconds patience) {
  return wait([&](auto done) { host.guests().resume("g", patience, nullptr, std::move(done)); });
}

std::vector<Said> Program::state() const {
  std::vector<Said> out;
  process->write("state\n");
  for (std::string line = process->read_line(); line != "end"; line = process->read_line()) {
    std::istringstream in(line);
    std::string word;
    Said said;
    int consistent = 0;
    std::size_t number = 0;
    in >> word >> number >> word >> said.acked >> word >> said.value >> word >> consistent >> word >> said.epoch >>
        word;
    std::getline(in >> std::ws, said.error);
    said.consistent = consistent != 0;
    out.push_back(said);
  }
  return out;
}

void World::expect_goes_on(const Program& program, std::size_t enclave, std::uint64_t epoch) {
  const Said before = program.state().at(enclave);
  EXPECT_EQ(before.error, "ok");
  EXPECT_TRUE(before.consistent);
  EXPECT_EQ(before.epoch, epoch);
  EXPECT_GE(before.value, before.acked) << "an acknowledged step is gone";
  if (before.error != "ok") return;
  for (const auto deadline = Clock::now() + kPatience; Clock::now() < deadline;) {
    if (program.state().at(enclave).acked > before.acked) return;
  }
  ADD_FAILURE() << "enclave " << enclave << " does not go on";
}

void World::expect_all_run(std::uint64_t epoch) {
  for (const Program& program : programs_) {
    for (std::size_t i = 0; i < program.enclaves; ++i) expect_goes_on(program, i, epoch);
  }
}

}  // namespace sealift::guest_test

#include "tests/guest/world.h"

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

// Over what is there, as other processes have it mapped.
void overwrite(const fs::path& file, const fs::path& with) {
  std::ifstream in(with, std::ios::binary);
  std::fstream out(file, std::ios::binary | std::ios::in | std::ios::out);
  out << in.rdbuf();
  out.flush();
  if (!in || !out || fs::file_size(file) != fs::file_size(with)) throw std::runtime_error("sections differ in size");
}

}  // namespace

// --- Host ---------------------------------------------------------------------------------------------------------

void Host::start_daemon(asio::io_context& io) {
  daemon::Options options;
  options.name = name;
  options.socket = dir / "sealiftd.sock";
  options.listen = listen.empty() ? "127.0.0.1:0" : listen;
  options.agent_socket = agent_socket();
  options.state_dir = dir / "state";
  options.guest_listen = {channel()};
  daemon = std::make_unique<daemon::Daemon>(io, options);
  daemon->start();
  listen = daemon->listen_address();
}

std::size_t Host::journals() const {
  std::size_t count = 0;
  for (const auto& each : fs::directory_iterator(dir / "state")) count += each.path().extension() == ".guest" ? 1 : 0;
  return count;
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
  until([] { return a_->daemon->agent_up() && b_->daemon->agent_up(); }, "both agents");
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

void World::restart(Host& host, const std::function<void()>& meanwhile) {
  host.daemon->stop();
  io_.restart();
  while (io_.poll() > 0) {
  }
  host.daemon.reset();
  if (meanwhile) meanwhile();
  host.start_daemon(io_);
  until([&] { return host.daemon->agent_up(); }, "the agent");
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

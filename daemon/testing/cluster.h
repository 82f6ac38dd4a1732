// Cluster: two hosts on this machine: real sealiftd processes on sockets that the kernel chose, agent processes with
// the real agent's logic, application processes with fake enclaves. Tests hold a process at a step, kill another, let
// go, and look at who runs.
#pragma once

#include <gtest/gtest.h>
#include <sys/types.h>

#include <filesystem>
#include <future>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cli/client.h"
#include "daemon/wire.pb.h"

namespace sealift::daemon::testing {

struct Host {
  std::string name;  // "a" or "b"; also its machine
  std::filesystem::path dir;
  pid_t daemon = 0;
  pid_t agent = 0;
  int agent_instance = 0;
  std::string listen;                // HOST:PORT, once it is known
  std::vector<std::string> wrapper;  // put before its daemon's command line
  [[nodiscard]] std::string socket() const { return dir / "d.sock"; }
  [[nodiscard]] std::string agent_socket() const { return dir / "agent.sock"; }
};

// What a line of the witness says.
struct Line {
  std::string what, who;
  pid_t pid = 0;
  std::string rest;
};

class Cluster : public ::testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;
  // Both hosts have their folders; nothing runs yet.
  virtual void make_hosts() {}

  // Killed by TearDown.
  pid_t spawn(const std::vector<std::string>& argv, const std::vector<std::string>& env, const std::string& log);
  void start_agent(Host& host);
  void start_daemon(Host& host, std::vector<std::string> more = {});
  pid_t start_program(Host& host, const std::string& name = "app", int lineage = 0x77, int records = 20);
  void wait_registered(Host& host, const std::string& name);
  void wait_agent(Host& host);
  // SIGKILL, and gone when it returns.
  void kill(pid_t& pid);
  void wait_gone(pid_t pid);
  // SIGTERM; the exit status.
  int terminate(pid_t& pid);

  // Stops `who` at `step`, the next time it gets there; held() waits until it is there, release() lets it go on.
  void hold(const std::string& who, const std::string& step);
  Line held(const std::string& who, const std::string& step);
  void release(const std::string& who, const std::string& step);
  // Nobody will stop there any more (who was to, is dead).
  void unhold(const std::string& who, const std::string& step);

  // The next line `what who …` after those already waited for; fails the test after a minute.
  Line wait_for(const std::string& what, const std::string& who = "");
  // Reads what is there, without waiting.
  void drain();

  // Commands, by the command line's own client.
  wire::Envelope call(Host& host, wire::Envelope request);
  wire::StatusReply status(Host& host, const std::string& id = "");
  std::future<wire::MigrationInfo> migrate(Host& from, Host& to, const std::string& id = "app");
  wire::Failure::Kind failing_call(Host& host, const wire::Envelope& request);

  // Who is open now, by pid, according to the witness; and the test's main assertion, checked with every line.
  [[nodiscard]] std::map<pid_t, std::string> open_instances() const { return open_; }
  // Waits until exactly one instance runs (and says where).
  std::string the_one_running();

  std::filesystem::path dir_;
  Host a_, b_;

 private:
  bool read_line(int timeout_ms);
  void note(const Line& line);

  int witness_ = -1;
  std::string partial_;
  std::vector<Line> lines_;
  std::map<pid_t, std::string> open_;     // and who
  std::string value_;                     // that the next instance must continue from
  std::map<std::string, pid_t> holders_;  // by the path of what holds them
  std::vector<pid_t> children_;
};

}  // namespace sealift::daemon::testing

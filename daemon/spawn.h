// Starting the programs of incoming migrations, and the agent.
#pragma once

#include <asio/io_context.hpp>
#include <asio/posix/stream_descriptor.hpp>
#include <asio/steady_timer.hpp>
#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "daemon/options.h"
#include "daemon/wire.pb.h"

namespace sealift::daemon {

struct Command {
  std::string exe;
  std::vector<std::string> argv;
  std::string cwd;               // empty: ours
  std::vector<std::string> env;  // NAME=value
  std::filesystem::path log;     // standard output and error are appended
};

// A process in a session of its own, so that it outlives this daemon and its terminal. Not killed by the destructor.
class Child : public std::enable_shared_from_this<Child> {
 public:
  // `on_exit`: once, with waitpid's status. Throws std::system_error (what: the program) if it cannot be started.
  static std::shared_ptr<Child> start(asio::io_context& io, const Command& command, std::function<void(int)> on_exit);
  // SIGTERM, and SIGKILL if that is not enough for `grace`.
  void terminate(std::chrono::milliseconds grace);
  [[nodiscard]] pid_t pid() const noexcept { return pid_; }
  [[nodiscard]] bool running() const noexcept { return running_; }

 private:
  Child(asio::io_context& io, pid_t pid, int pidfd, std::function<void(int)> on_exit);
  void wait();

  pid_t pid_;
  bool running_ = true;
  asio::posix::stream_descriptor pidfd_;
  asio::steady_timer kill_timer_;
  std::function<void(int)> on_exit_;
};

// The environment for a program that another host's daemon wants started: its own variables, but for those that steer
// the loader, glibc, softsgx or Sealift itself. These come from this daemon alone: a path from another host means
// nothing here, and whoever can name LD_PRELOAD runs what he likes.
[[nodiscard]] std::vector<std::string> merge_environment(const std::vector<std::string>& theirs,
                                                         const std::vector<std::string>& ours);
[[nodiscard]] std::vector<std::string> own_environment();

// Whether an incoming migration may start `exe`: it must be, or be below, an allowed path. Without any allowed path,
// only a daemon that listens on loopback starts anything.
[[nodiscard]] bool may_start(const Options& options, const std::string& exe);

}  // namespace sealift::daemon

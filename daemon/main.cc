// sealiftd: the per-host daemon. docs/commands.md documents every option.
#include <signal.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <asio/io_context.hpp>
#include <asio/signal_set.hpp>
#include <cstdlib>
#include <iostream>
#include <iterator>
#include <sstream>
#include <stdexcept>
#include <thread>

#include "daemon/broker.h"
#include "daemon/daemon.h"
#include "daemon/endpoint.h"

namespace {

using sealift::daemon::Options;

constexpr int kExitUsage = 2;
constexpr int kExitStart = 1;

std::string host_name() {
  char name[256] = {};
  return ::gethostname(name, sizeof(name) - 1) == 0 ? name : "host";
}

std::vector<std::string> words(const std::string& text) {
  std::istringstream in(text);
  return {std::istream_iterator<std::string>(in), {}};
}

std::filesystem::path default_state_dir() {
  if (::getuid() == 0) return "/var/lib/sealift";
  if (const char* state = std::getenv("XDG_STATE_HOME"); state != nullptr && *state != '\0') {
    return std::filesystem::path(state) / "sealift";
  }
  const char* home = std::getenv("HOME");
  return std::filesystem::path(home != nullptr ? home : "/tmp") / ".local/state/sealift";
}

struct Arguments {
  Options options;
  bool guest = false;
  std::string host_channel;
  std::vector<std::string> guest_channels;
  std::string agent_command;
  std::string launcher;
  std::string log_level = "info";
};

void declare(CLI::App& app, Arguments& arguments) {
  Options& options = arguments.options;
  app.description("Migrates the SGX enclaves of this host, and takes in those of others.");
  app.footer(
      "Example:\n  sealiftd --name a --listen 127.0.0.1:7419 --agent-command \"sealift-agent\"\n\n"
      "SIGTERM ends it: enclaves that have not committed run on, what was granted here runs on too\n"
      "(unless --stop-children), and committed migrations are finished at the next start.");
  app.add_option("--name", options.name, "How other hosts' logs call this one")->capture_default_str();
  app.add_option("--socket", options.socket, "Unix socket for processes and the sealift command")
      ->capture_default_str();
  app.add_option("--listen", options.listen, "HOST:PORT for other hosts; without it nothing comes in");
  app.add_option("--agent-socket", options.agent_socket, "Unix socket of this machine's agent process");
  app.add_option("--agent-command", arguments.agent_command,
                 "Command that starts the agent when nothing answers on its socket; split at blanks");
  app.add_option("--state-dir", options.state_dir, "Journals, logs of started programs")->capture_default_str();
  app.add_option("--spool-dir", options.spool_dir, "Streams of migrations under way (default: the state folder)");
  app.add_option("--launcher", arguments.launcher,
                 "Command put before programs started for incoming migrations; split at blanks");
  app.add_option("--allow-program", options.allowed_programs,
                 "File or folder that incoming migrations may start programs from; repeatable. Needed unless --listen "
                 "is on loopback");
  app.add_flag("--stop-children", options.stop_children, "At the end, also end granted programs that it started");
  app.add_option("--window", options.window, "Records under way at most")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  app.add_flag("--guest", arguments.guest,
               "Be the broker inside a virtual machine: its programs' enclaves move with it; see --host-channel");
  app.add_option("--host-channel", arguments.host_channel,
                 "With --guest: how the host is reached: a virtio-serial port, a Unix socket, or HOST:PORT");
  app.add_option("--guest-listen", options.guest_listen,
                 "Unix socket or HOST:PORT where brokers of virtual machines come in; repeatable");
  app.add_option("--guest-channel", arguments.guest_channels,
                 "NAME=SOCKET: the host's end of a virtual machine's virtio-serial port; repeatable");
  app.add_option("--log-level", arguments.log_level, "trace, debug, info, warn or error")->capture_default_str();
  app.add_option_function<unsigned>(
      "--grant-timeout-ms",
      [&options](unsigned ms) { options.timeouts.grant = options.timeouts.redial = std::chrono::milliseconds(ms); },
      "How long a target may take to run, or to be reached, after commit, before an instance is restored here");
  app.add_option_function<unsigned>(
      "--stall-timeout-ms",
      [&options](unsigned ms) { options.timeouts.stall = options.timeouts.verify = std::chrono::milliseconds(ms); },
      "How long no record may move before a migration is given up");
}

// Runs until SIGTERM or SIGINT.
template <typename Service>
void serve(asio::io_context& io, Service& service) {
  asio::signal_set signals(io, SIGTERM, SIGINT);
  signals.async_wait([&](const std::error_code& error, int signal) {
    if (error) return;
    spdlog::info("signal {}: ends", signal);
    service.stop();
    io.stop();
  });
  service.start();
  io.run();
  // What stop() has set going: closing, telling children.
  io.restart();
  while (io.poll() > 0) {
  }
}

void run_broker(const Arguments& arguments) {
  if (arguments.host_channel.empty()) throw std::invalid_argument("--guest needs --host-channel");
  asio::io_context io;
  sealift::daemon::Broker broker(io, {arguments.options.name, arguments.options.socket, arguments.host_channel,
                                      std::max(1u, std::thread::hardware_concurrency())});
  serve(io, broker);
}

void run_daemon(Arguments& arguments) {
  Options& options = arguments.options;
  for (const std::string& text : arguments.guest_channels) {
    const auto equals = text.find('=');
    if (equals == std::string::npos || equals == 0) throw std::invalid_argument("not NAME=SOCKET: " + text);
    options.guest_channels.emplace_back(text.substr(0, equals), text.substr(equals + 1));
  }
  asio::io_context io;
  sealift::daemon::Daemon daemon(io, options);
  serve(io, daemon);
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  Options& options = arguments.options;
  options.name = host_name();
  options.socket = sealift::daemon::default_socket();
  options.state_dir = default_state_dir();
  CLI::App app;
  declare(app, arguments);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kExitUsage;
  }
  options.agent_command = words(arguments.agent_command);
  options.launcher = words(arguments.launcher);
  if (options.agent_socket.empty()) {
    options.agent_socket = std::filesystem::path(options.socket).parent_path() / "agent.sock";
  }
  spdlog::set_level(spdlog::level::from_str(arguments.log_level));
  spdlog::flush_on(spdlog::level::info);
  ::signal(SIGPIPE, SIG_IGN);  // a channel that is gone is an error like any other
  try {
    arguments.guest ? run_broker(arguments) : run_daemon(arguments);
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "sealiftd: cannot start: " << error.what() << '\n';
    return kExitStart;
  }
}

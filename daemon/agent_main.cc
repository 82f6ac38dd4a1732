// sealift-agent: the process of a machine's agent enclave. One process, one instance: when it ends, its keys and any
// ticket that it holds are gone (design §7).
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>
#include <asio/io_context.hpp>
#include <asio/signal_set.hpp>
#include <asio/steady_timer.hpp>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <filesystem>

#include "attestation/aesm_client.h"
#include "daemon/agent_server.h"
#include "daemon/enclave_agent.h"

namespace {

using namespace sealift::daemon;

// A verdict on us expires with our collateral; a fresh quote long before that keeps links judgeable.
constexpr std::chrono::hours kRenew{12};
constexpr std::chrono::seconds kRetry{5};

struct Options {
  std::string image;
  std::string socket = "/run/sealift/agent.sock";
  std::string aesm = sealift::attestation::kDefaultAesmSocket;
  std::string collateral;
  std::string name = "agent";
};

std::string default_image() {
  std::error_code unknown;
  return (std::filesystem::read_symlink("/proc/self/exe", unknown).parent_path() / "agent.enclave").string();
}

class Renewal {
 public:
  Renewal(asio::io_context& io, EnclaveAgent& agent, AgentServer& server, const Options& options)
      : timer_(io), agent_(agent), server_(server), options_(options) {}

  void run() {
    std::chrono::seconds next = kRenew;
    try {
      agent_.obtain_quote(options_.aesm, options_.collateral);
      spdlog::info("quote installed");
      server_.pump();
    } catch (const std::runtime_error& e) {
      spdlog::warn("{}: trying again", e.what());
      next = kRetry;
    }
    timer_.expires_after(next);
    timer_.async_wait([this](const std::error_code& cancelled) {
      if (!cancelled) run();
    });
  }
  void stop() { timer_.cancel(); }

 private:
  asio::steady_timer timer_;
  EnclaveAgent& agent_;
  AgentServer& server_;
  const Options& options_;
};

int serve(const Options& options) {
  EnclaveAgent agent(options.image);
  asio::io_context io(1);
  AgentServer server(io, options.socket, agent, options.name);
  Renewal renewal(io, agent, server, options);
  renewal.run();
  asio::signal_set signals(io, SIGTERM, SIGINT);
  signals.async_wait([&](const std::error_code&, int) { io.stop(); });
  std::printf("ready %s\n", options.socket.c_str());
  std::fflush(stdout);
  io.run();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  options.image = default_image();
  CLI::App app{
      "The agent of one machine: an enclave of its own process that attests other machines and arbitrates migrations.\n"
      "Example:\n  sealift-agent --image agent.enclave --socket /run/sealift/agent.sock"};
  app.add_option("--image", options.image, "Signed agent enclave")->capture_default_str();
  app.add_option("--socket", options.socket, "Unix socket on which sealiftd finds it")->capture_default_str();
  app.add_option("--aesm", options.aesm, "Unix socket of the quoting service")->capture_default_str();
  app.add_option("--collateral", options.collateral, "Folder with the collateral that goes with its quotes");
  app.add_option("--name", options.name, "Name in logs")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  spdlog::set_default_logger(spdlog::stderr_color_mt(options.name));
  try {
    return serve(options);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "sealift-agent: %s\n", e.what());
    return 1;
  }
}

// softsgx-aesmd: the quoting service of one software machine.
#include <CLI/CLI.hpp>
#include <asio/io_context.hpp>
#include <asio/signal_set.hpp>
#include <asio/steady_timer.hpp>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <functional>
#include <stdexcept>

#include "softsgx/quoting/aesm_server.h"

namespace {

using namespace softsgx::quoting;

// Renewed long before kCollateralDays are over.
constexpr std::chrono::hours kCollateralRenewal{24};

// Each file appears whole or not at all, so that a reader at the same time sees no half of it.
void write_collateral(const std::string& folder, const DevelopmentPki& pki) {
  std::filesystem::create_directories(folder);
  for (const CollateralFile& file : development_collateral(pki, std::time(nullptr))) {
    const std::string path = folder + "/" + file.name;
    const std::string fresh = path + ".new";
    std::ofstream out(fresh, std::ios::binary | std::ios::trunc);
    out << file.contents;
    out.close();
    if (!out) throw std::runtime_error("cannot write " + fresh + ": check the folder's rights and space");
    std::filesystem::rename(fresh, path);
  }
}

struct Options {
  std::string machine;
  std::string socket;
  std::string collateral;
};

void serve(const Options& options, const DevelopmentPki& pki) {
  std::string error;
  const auto machine = softsgx::Machine::open(options.machine, {}, error);
  if (!machine) throw std::runtime_error(error);
  const QuotingEnclave enclave(*machine, pki);
  const AesmService service(enclave);
  asio::io_context io(1);
  const AesmServer server(io, service, options.socket);

  asio::signal_set stop(io, SIGINT, SIGTERM);
  stop.async_wait([&io](const asio::error_code&, int) { io.stop(); });

  asio::steady_timer renewal(io);
  const std::function<void()> renew = [&] {
    write_collateral(options.collateral, pki);
    renewal.expires_after(kCollateralRenewal);
    renewal.async_wait([&renew](const asio::error_code& waiting) {
      if (!waiting) renew();
    });
  };
  if (!options.collateral.empty()) renew();

  std::printf("softsgx-aesmd: %s serves %s (development root: its quotes prove nothing)\n", options.socket.c_str(),
              options.machine.c_str());
  std::fflush(stdout);
  io.run();
}

int run(int argc, char** argv) {
  CLI::App app(
      "Quoting service of a software SGX machine: speaks the AESM protocol, makes DCAP quotes.\n"
      "Its quotes chain to the public development root and prove nothing.");
  Options options;
  bool collateral_only = false;
  app.add_option("machine", options.machine, "machine file")->check(CLI::ExistingFile);
  app.add_option("--socket", options.socket, "Unix socket to listen on (default: MACHINE.aesm)");
  app.add_option("--collateral", options.collateral,
                 "folder to write TCB info, QE identity and CRLs to, renewed daily");
  app.add_flag("--collateral-only", collateral_only, "write the collateral once and exit; needs no machine");
  CLI11_PARSE(app, argc, argv);
  if (collateral_only && options.collateral.empty())
    throw std::runtime_error("--collateral-only needs --collateral FOLDER");
  if (!collateral_only && options.machine.empty()) throw std::runtime_error("which machine? give its file");

  const DevelopmentPki pki;
  if (collateral_only) {
    write_collateral(options.collateral, pki);
    return 0;
  }
  if (options.socket.empty()) options.socket = options.machine + ".aesm";
  serve(options, pki);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "softsgx-aesmd: %s\n", error.what());
    return 1;
  }
}

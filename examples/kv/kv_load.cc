// kv-load: writes to kv without pause, remembers what was acknowledged, and checks in the end that all of it is there.
// What an operator looks at while enclaves are being moved about.
#include <CLI/CLI.hpp>
#include <iostream>
#include <nlohmann/json.hpp>

#include "examples/kv/load/run.h"
#include "examples/kv/server/address.h"

namespace {

using namespace kv::load;

constexpr int kLost = 1, kUsage = 2;

struct Arguments {
  Options options;
  std::vector<std::string> servers{"127.0.0.1:6379"};
  std::uint32_t keys = 100'000, value_bytes = 64;
  std::string record, verify_only;
  bool json = false, quiet = false;
};

void declare(CLI::App& app, Arguments& a) {
  app.footer(
      "Writes until SIGINT or SIGTERM, or for --seconds; then verifies.\n"
      "Exit status: 0 everything acknowledged is there, 1 something is not, 2 usage.");
  app.add_option("--server", a.servers, "IP:PORT; repeat it for servers to be tried in turn when a connection breaks");
  app.add_option("--keys", a.keys, "Keys to load")->check(CLI::Range(1u, 100'000'000u))->capture_default_str();
  app.add_option("--value-bytes", a.value_bytes, "Size of a value, at least")->capture_default_str();
  app.add_option("--connections", a.options.connections, "Connections that write")
      ->check(CLI::Range(1u, 1000u))
      ->capture_default_str();
  app.add_option("--pipeline", a.options.pipeline, "Writes sent before an answer is waited for")
      ->check(CLI::Range(1u, 10'000u))
      ->capture_default_str();
  app.add_option("--seconds", a.options.seconds, "How long to write (default: until a signal)");
  app.add_option_function<unsigned>(
         "--timeout-ms", [&a](unsigned ms) { a.options.servers.timeout = std::chrono::milliseconds(ms); },
         "How long an answer may take before the connection counts as broken")
      ->default_str("10000");
  app.add_option_function<unsigned>(
         "--patience-ms", [&a](unsigned ms) { a.options.servers.patience = std::chrono::milliseconds(ms); },
         "How long to look for a server before giving up")
      ->default_str("60000");
  app.add_option("--record", a.record, "File to write down in what was acknowledged");
  app.add_option("--verify-only", a.verify_only, "Write nothing: verify what --record has written down");
  app.add_flag("--json", a.json, "Print JSON");
  app.add_flag("--quiet", a.quiet, "No progress on stderr");
}

void print(const Summary& s, const Arguments& a) {
  for (const std::string& text : s.complaints) std::cerr << "kv-load: " << text << '\n';
  if (a.json) {
    std::cout << nlohmann::json{{"acked", s.acknowledged},        {"lost", s.lost},
                                {"refused", s.refused},           {"reconnects", s.reconnects},
                                {"retired_keys", s.retired_keys}, {"longest_stall_ms", s.longest_stall_ms},
                                {"seconds", s.seconds},           {"gave_up", s.gave_up}}
              << std::endl;
    return;
  }
  std::cout << s.acknowledged << " writes acknowledged, " << s.lost << " keys lost, " << s.reconnects
            << " reconnects, longest stall " << s.longest_stall_ms << " ms" << std::endl;
}

int run(Arguments& a) {
  a.options.progress = !a.quiet;
  for (const std::string& server : a.servers) a.options.servers.addresses.push_back(kv::parse_address(server));
  const bool write = a.verify_only.empty();
  Ledger ledger = write ? Ledger(a.keys, a.value_bytes) : Ledger::load(a.verify_only);
  Run run(a.options, ledger);
  if (write) {
    run.load();
    if (run.summary().good()) run.write();
    if (!a.record.empty()) ledger.save(a.record);
  }
  if (!write || run.summary().acknowledged > 0) run.verify();
  print(run.summary(), a);
  return run.summary().good() ? 0 : kLost;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  CLI::App app("kv-load: writes to kv, and verifies every acknowledged write");
  declare(app, arguments);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kUsage;
  }
  try {
    return run(arguments);
  } catch (const std::exception& error) {
    std::cerr << "kv-load: " << error.what() << '\n';
    return kUsage;
  }
}

// sealift run: an enclave that is a program of its own (it has a main). The same command line, started by sealiftd on
// the target, takes the migrated enclave over.
#include <iostream>

#include "cli/commands.h"
#include "sealift/enclave.h"

namespace sealift::cli {
namespace {

// The enclave's main returns the status; gone elsewhere is a success of this command, too.
int run_enclave(const std::string& path, const std::vector<std::string>& arguments) {
  const auto enclave = Enclave::open(path, {.arguments = arguments, .daemon = true});
  const Result<int> status = enclave->run_main();
  if (status.ok()) return *status;
  if (status.error() == Errc::kDestroyed) {
    std::cerr << "sealift: " << path << ": " << enclave->crash_report() << '\n';
    return 0;
  }
  throw std::runtime_error(path + ": " + enclave->crash_report());
}

}  // namespace

void add_run(CLI::App& app, Context& context) {
  struct Arguments {
    std::string path;
    std::vector<std::string> rest;
  };
  const auto arguments = std::make_shared<Arguments>();
  CLI::App* run = add_command(app, context, "run", "Run an enclave's main; its exit status is ours",
                              "sealift run counter.enclave 100");
  run->add_option("enclave", arguments->path, "Signed enclave image")->required();
  run->add_option("arguments", arguments->rest, "Arguments of its main");
  run->prefix_command();
  run->callback([run, arguments, &context] {
    for (const std::string& word : run->remaining()) arguments->rest.push_back(word);
    context.chosen = [arguments] { return run_enclave(arguments->path, arguments->rest); };
  });
}

}  // namespace sealift::cli

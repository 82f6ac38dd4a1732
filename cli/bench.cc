// sealift bench: runs sealift-bench, which lies beside this program.
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <stdexcept>
#include <vector>

#include "cli/commands.h"

namespace sealift::cli {
namespace {

struct Arguments {
  std::string what, only;
};

int run_bench(const Arguments& arguments, bool json) {
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe").parent_path() / "sealift-bench";
  std::vector<std::string> words = {program};
  if (json) words.emplace_back("--json");
  if (!arguments.only.empty()) words.insert(words.end(), {"--only", arguments.only});
  std::vector<char*> argv;
  for (std::string& w : words) argv.push_back(w.data());
  argv.push_back(nullptr);
  execv(program.c_str(), argv.data());
  throw std::runtime_error(program.string() + ": cannot be run: " + std::strerror(errno) +
                           "; build the target sealift-bench");
}

}  // namespace

void add_bench(CLI::App& app, Context& context) {
  const auto arguments = std::make_shared<Arguments>();
  CLI::App* bench = add_command(app, context, "bench", "Measure migration on software machines, as ratios",
                                "sealift bench migrate --json");
  bench->add_option("what", arguments->what, "What to measure")->required()->check(CLI::IsMember({"migrate"}));
  bench->add_option("--only", arguments->only, "Only figures with this in their names (docs/performance.md)");
  bench->callback([arguments, &context] {
    context.chosen = [arguments, &context] { return run_bench(*arguments, context.json); };
  });
}

}  // namespace sealift::cli

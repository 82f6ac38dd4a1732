// sealift bench: runs sealift-bench, which lies beside this program.
#include "cli/commands.h"
#include "cli/companion.h"

namespace sealift::cli {
namespace {

struct Arguments {
  std::string what, only;
};

[[noreturn]] void run_bench(const Arguments& arguments, bool json) {
  std::vector<std::string> words;
  if (json) words.emplace_back("--json");
  if (arguments.what == "vm") run_companion("sealift-bench-vm", std::move(words));
  if (!arguments.only.empty()) words.insert(words.end(), {"--only", arguments.only});
  run_companion("sealift-bench", std::move(words));
}

}  // namespace

void add_bench(CLI::App& app, Context& context) {
  const auto arguments = std::make_shared<Arguments>();
  CLI::App* bench = add_command(app, context, "bench", "Measure migration on software machines, as ratios",
                                "sealift bench migrate --json");
  bench->add_option("what", arguments->what, "What to measure: one enclave's migration, or a VM's (root)")
      ->required()
      ->check(CLI::IsMember({"migrate", "vm"}));
  bench->add_option("--only", arguments->only, "Only figures with this in their names (docs/performance.md)");
  bench->callback([arguments, &context] {
    context.chosen = [arguments, &context]() -> int { run_bench(*arguments, context.json); };
  });
}

}  // namespace sealift::cli

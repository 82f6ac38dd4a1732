// sealift bench: runs sealift-bench or sealift-bench-vm, which lie beside this program.
#include "cli/commands.h"
#include "cli/companion.h"

namespace sealift::cli {
namespace {

struct Arguments {
  std::string what, only, enclaves, bandwidth;
  unsigned pairs = 0, boots = 0, memory = 0;
};

[[noreturn]] void run_bench(const Arguments& arguments, bool json) {
  std::vector<std::string> words;
  if (json) words.emplace_back("--json");
  if (arguments.what == "vm") {
    if (arguments.pairs != 0) words.insert(words.end(), {"--pairs", std::to_string(arguments.pairs)});
    if (arguments.boots != 0) words.insert(words.end(), {"--boots", std::to_string(arguments.boots)});
    if (!arguments.enclaves.empty()) words.insert(words.end(), {"--enclaves", arguments.enclaves});
    if (arguments.memory != 0) words.insert(words.end(), {"--memory", std::to_string(arguments.memory)});
    if (!arguments.bandwidth.empty()) words.insert(words.end(), {"--bandwidth", arguments.bandwidth});
    run_companion("sealift-bench-vm", std::move(words));
  }
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
  bench->add_option("--pairs", arguments->pairs, "vm: moves with enclaves and without (default: 6)")
      ->check(CLI::Range(1u, 1000u));
  bench->add_option("--boots", arguments->boots, "vm: VMs of each kind that share them (default: 3)")
      ->check(CLI::Range(1u, 1000u));
  bench->add_option("--memory", arguments->memory, "vm: MiB of RAM, all but 512 of them in use (default: 2048)")
      ->check(CLI::Range(512u, 3072u));
  bench->add_option("--bandwidth", arguments->bandwidth, "vm: of each move (default: 128M, as QEMU's; 0: no limit)");
  bench->add_option("--enclaves", arguments->enclaves, "vm: how many enclaves, such as 1,8,64 (the default)")
      ->check(CLI::Validator(
          [](const std::string& text) {
            const bool good = !text.empty() && text.find_first_not_of("0123456789,") == std::string::npos;
            return good ? std::string() : "give numbers, such as 1,8,64";
          },
          "N,N"));
  bench->callback([arguments, &context] {
    context.chosen = [arguments, &context]() -> int { run_bench(*arguments, context.json); };
  });
}

}  // namespace sealift::cli

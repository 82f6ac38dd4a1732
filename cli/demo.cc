// sealift demo: runs sealift-demo, which lies beside this program (scripts/demo).
#include "cli/commands.h"
#include "cli/companion.h"

namespace sealift::cli {

void add_demo(CLI::App& app, Context& context) {
  const auto keys = std::make_shared<unsigned>(100'000);
  CLI::App* demo = add_command(app, context, "demo",
                               "Move a key-value store between two software machines on this computer, under load",
                               "sealift demo --keys 10000");
  demo->add_option("--keys", *keys, "How many keys are loaded first")->check(CLI::Range(1u, 1'000'000u));
  demo->callback([keys, &context] {
    context.chosen = [keys]() -> int { run_companion("sealift-demo", {own_folder() / "..", std::to_string(*keys)}); };
  });
}

}  // namespace sealift::cli

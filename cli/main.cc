// sealift: the command for people and scripts. docs/commands.md documents it.
#include <CLI/CLI.hpp>
#include <iostream>
#include <nlohmann/json.hpp>

#include "cli/client.h"
#include "cli/commands.h"
#include "cli/exit_codes.h"
#include "cli/output.h"
#include "daemon/endpoint.h"

namespace sealift::cli {

CLI::App* add_command(CLI::App& app, Context& context, const std::string& name, const std::string& what,
                      const std::string& example) {
  CLI::App* command = app.add_subcommand(name, what);
  command->add_flag("--json", context.json, "Print JSON; errors too");
  command->footer("Example:\n  " + example);
  return command;
}

}  // namespace sealift::cli

namespace {

using namespace sealift;

void report(const cli::Context& context, const wire::Failure& failure, const std::string& line) {
  if (context.json) {
    std::cout << nlohmann::json{{"error", cli::to_json(failure)}}.dump(2) << '\n';
  } else {
    std::cerr << "sealift: " << line << '\n';
  }
}

}  // namespace

int main(int argc, char** argv) {
  cli::Context context;
  context.socket = daemon::default_socket();
  CLI::App app("Live migration of SGX enclaves.");
  app.name("sealift");
  app.require_subcommand(1);
  app.set_version_flag("--version", SEALIFT_VERSION);
  app.add_option("--socket", context.socket, "Unix socket of sealiftd (default: $SEALIFT_SOCKET or the usual places)");
  app.footer(std::string("Example:\n  sealift ps && sealift migrate 3fa9 host-b\n\n") + cli::kExitCodeHelp);
#ifdef SEALIFT_CLI_RUN
  cli::add_run(app, context);
#endif
#ifdef SEALIFT_CLI_SIGN
  cli::add_sign(app, context);
#endif
#ifdef SEALIFT_CLI_INSPECT
  cli::add_inspect(app, context);
#endif
#ifdef SEALIFT_CLI_DEMO
  cli::add_demo(app, context);
#endif
#ifdef SEALIFT_CLI_BENCH
  cli::add_bench(app, context);
#endif
  cli::add_ps(app, context);
  cli::add_migrate(app, context);
  cli::add_cancel(app, context);
  cli::add_resume(app, context);
  cli::add_status(app, context);
  cli::add_vm(app, context);
  cli::add_completion(app, context);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? cli::kExitOk : cli::kExitUsage;
  }
  try {
    return context.chosen();
  } catch (const cli::CommandError& error) {
    report(context, error.failure(), error.what());
    return cli::exit_code(error.failure().kind());
  } catch (const std::exception& error) {
    wire::Failure failure;
    failure.set_what(error.what());
    report(context, failure, error.what());
    return cli::kExitFailed;
  }
}

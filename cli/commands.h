// The subcommands of `sealift`. Each declares itself in the parser; what it does runs when it was chosen, and returns
// the exit code. Errors are thrown: CommandError, or any std::exception for what went wrong on this side.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>

namespace sealift::cli {

struct Context {
  std::string socket;  // of sealiftd
  bool json = false;
  std::function<int()> chosen;  // set by the subcommand that was given
};

// daemon_commands.cc: what sealiftd does.
void add_ps(CLI::App& app, Context& context);
void add_migrate(CLI::App& app, Context& context);
void add_cancel(CLI::App& app, Context& context);
void add_resume(CLI::App& app, Context& context);
void add_status(CLI::App& app, Context& context);

// vm.cc
void add_vm(CLI::App& app, Context& context);

// completion.cc
void add_completion(CLI::App& app, Context& context);

// Commands of other components, each in a file of its name (cli/run.cc …). They are in the program if the file is
// there: cli/CMakeLists.txt then defines SEALIFT_CLI_RUN ….
void add_run(CLI::App& app, Context& context);
void add_inspect(CLI::App& app, Context& context);
void add_sign(CLI::App& app, Context& context);
void add_demo(CLI::App& app, Context& context);
void add_bench(CLI::App& app, Context& context);

// A subcommand with the options that all have.
CLI::App* add_command(CLI::App& app, Context& context, const std::string& name, const std::string& what,
                      const std::string& example);

}  // namespace sealift::cli

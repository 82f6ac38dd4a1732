// The softsgx command: makes, shows and removes software SGX machines, and runs programs on them.
#include <CLI/CLI.hpp>
#include <exception>

#include "softsgx/tool/machine_commands.h"
#include "softsgx/tool/run.h"

namespace {

using namespace softsgx::tool;

void add_create(CLI::App& app, int& status) {
  auto* command = app.add_subcommand("create", "Make a machine: fresh keys and an empty EPC, in one sparse file");
  auto a = std::make_shared<CreateArguments>();
  command->add_option("PATH", a->path, "File to make; /dev/shm is fastest")->required();
  command->add_option("--epc", a->epc_bytes, "Size of the EPC, e.g. 256M")
      ->required()
      ->transform(CLI::AsSizeValue(false));
  command->add_option("--cpusvn", a->cpusvn, "Security version, hexadecimal, one byte for each component");
  command->add_option("--xfrm", a->xfrm, "XSAVE components that enclaves may use (default: the host's)");
  command->callback([a, &status] { status = create_command(*a); });
}

void add_section(CLI::App& app, int& status) {
  auto* command = app.add_subcommand(
      "section", "Make an EPC section of a machine, for a virtual machine: same keys, EPC of its own");
  auto a = std::make_shared<CreateArguments>();
  command->add_option("MACHINE", a->section_of, "The machine of the host")->required();
  command->add_option("PATH", a->path, "File to make, for QEMU's memory-backend-file; /dev/shm is fastest")->required();
  command->add_option("--epc", a->epc_bytes, "Size of the EPC, e.g. 64M; the same on every host that the VM may run on")
      ->required()
      ->transform(CLI::AsSizeValue(false));
  command->add_option("--xfrm", a->xfrm, "XSAVE components that enclaves may use (default: the machine's)");
  command->callback([a, &status] { status = create_command(*a); });
}

void add_info(CLI::App& app, int& status) {
  auto* command = app.add_subcommand("info", "Show a machine; reclaims EPC of processes that are gone");
  auto a = std::make_shared<InfoArguments>();
  command->add_option("PATH", a->path, "Machine file")->required();
  command->add_flag("--json", a->json, "Print JSON");
  command->callback([a, &status] { status = info_command(*a); });
}

void add_removal(CLI::App& app, int& status, const char* name, const char* what, int (*run)(const RemovalArguments&)) {
  auto* command = app.add_subcommand(name, what);
  auto a = std::make_shared<RemovalArguments>();
  command->add_option("PATH", a->path, "Machine file")->required();
  command->add_flag("--force", a->force, "Even if processes use it");
  command->callback([a, run, &status] { status = run(*a); });
}

#ifdef SOFTSGX_HAVE_RUN
void add_run(CLI::App& app, int& status) {
  auto* command =
      app.add_subcommand("run", "Run a program on a machine: softsgx run PATH [OPTIONS] -- PROGRAM [ARGUMENTS]");
  command->prefix_command();  // the rest is run's own business, --help included
  command->set_help_flag();
  command->callback([command, &status] { status = run_command(command->remaining()); });
}
#endif

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("softsgx: a software SGX machine");
  app.require_subcommand(1);
  int status = 0;
  add_create(app, status);
  add_section(app, status);
  add_info(app, status);
  add_removal(app, status, "reset", "Power-cycle a machine: empty its EPC, keep its keys", reset_command);
  add_removal(app, status, "destroy", "Remove a machine and its keys, for ever", destroy_command);
#ifdef SOFTSGX_HAVE_RUN
  add_run(app, status);
#endif
  CLI11_PARSE(app, argc, argv);
  return status;
}

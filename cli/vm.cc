// sealift vm: virtual machines (docs/vm.md).
#include <sys/ioctl.h>
#include <unistd.h>

#include <iostream>
#include <memory>
#include <vector>

#include "cli/client.h"
#include "cli/commands.h"
#include "cli/exit_codes.h"
#include "cli/vm_output.h"

namespace sealift::cli {

namespace {

constexpr const char* kNameHelp = "The VM's name; `sealift vm list` shows them";

unsigned terminal_width() {
  winsize size{};
  return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20 ? size.ws_col : 80;
}

// With --json every change of phase is a line of its own on standard output; the outcome is the last one.
int follow(const Context& context, wire::Envelope request) {
  Client client(context.socket);
  VmProgressPrinter progress(std::cerr, ::isatty(STDERR_FILENO) == 1, terminal_width());
  std::string last;
  const wire::Envelope reply = client.call(std::move(request), [&](const wire::Envelope& notice) {
    if (!notice.has_vm_move_info()) return;
    if (!context.json) return progress.show(notice.vm_move_info());
    if (notice.vm_move_info().detail() == last) return;
    last = notice.vm_move_info().detail();
    std::cout << to_json(notice.vm_move_info()).dump() << std::endl;
  });
  progress.finish();
  const wire::VmMoveInfo& info = reply.vm_move_info();
  const int code = exit_code(info);
  if (context.json) {
    std::cout << to_json(info).dump() << '\n';
  } else {
    print_outcome(code == kExitOk ? std::cout : std::cerr, info);
  }
  return code;
}

void add_vm_add(CLI::App& vm, Context& context) {
  CLI::App* command = add_command(vm, context, "add", "Make a running QEMU known, also one that waits for a VM",
                                  "sealift vm add web --qmp /run/web/qmp.sock --guest-channel /run/web/broker.sock");
  const auto name = std::make_shared<std::string>();
  const auto qmp = std::make_shared<std::string>();
  const auto channel = std::make_shared<std::string>();
  command->add_option("NAME", *name, "Its name, the same on every host that it may move to")->required();
  command->add_option("--qmp", *qmp, "Unix socket of QEMU's monitor (-qmp unix:PATH,server=on,wait=off)")->required();
  command->add_option("--guest-channel", *channel,
                      "Unix socket of the virtio-serial port org.sealift.broker; without it the VM has no enclaves");
  command->callback([&context, name, qmp, channel] {
    context.chosen = [&context, name, qmp, channel] {
      wire::Envelope request;
      request.mutable_vm_add()->set_name(*name);
      request.mutable_vm_add()->set_qmp(*qmp);
      request.mutable_vm_add()->set_guest_channel(*channel);
      const wire::Envelope reply = Client(context.socket).call(std::move(request));
      if (context.json) std::cout << to_json(reply.vm_list().vms(0)).dump(2) << '\n';
      return kExitOk;
    };
  });
}

void add_vm_remove(CLI::App& vm, Context& context) {
  CLI::App* command = add_command(vm, context, "remove", "Forget a VM; it runs on", "sealift vm remove web");
  const auto name = std::make_shared<std::string>();
  command->add_option("NAME", *name, kNameHelp)->required();
  command->callback([&context, name] {
    context.chosen = [&context, name] {
      wire::Envelope request;
      request.mutable_vm_remove()->set_name(*name);
      (void)Client(context.socket).call(std::move(request));
      return kExitOk;
    };
  });
}

void add_vm_list(CLI::App& vm, Context& context) {
  CLI::App* command =
      add_command(vm, context, "list", "List this host's VMs and their moves", "sealift vm list --json");
  command->callback([&context] {
    context.chosen = [&context] {
      wire::Envelope request;
      request.mutable_vm_list_request();
      const wire::VmList list = Client(context.socket).call(std::move(request)).vm_list();
      if (context.json) {
        nlohmann::json out = nlohmann::json::array();
        for (const auto& row : list.vms()) out.push_back(to_json(row));
        std::cout << out.dump(2) << '\n';
      } else {
        print_vms(std::cout, {list.vms().begin(), list.vms().end()});
      }
      return kExitOk;
    };
  });
}

struct MigrateArguments {
  std::string name, target, compress;
  std::uint64_t bandwidth = 0;
  std::uint32_t downtime_ms = 300, timeout_s = 0, multifd = 0;
  bool without_enclaves = false, force = false;
};

wire::Envelope migrate_request(const MigrateArguments& arguments) {
  wire::Envelope out;
  wire::VmMigrate& request = *out.mutable_vm_migrate();
  request.set_name(arguments.name);
  request.set_target(arguments.target);
  wire::VmOptions& options = *request.mutable_options();
  options.set_bandwidth(arguments.bandwidth);
  options.set_downtime_limit_ms(arguments.downtime_ms);
  options.set_timeout_s(arguments.timeout_s);
  options.set_multifd(arguments.multifd);
  options.set_compress(arguments.compress);
  options.set_without_enclaves(arguments.without_enclaves);
  options.set_force(arguments.force);
  return out;
}

void add_vm_migrate(CLI::App& vm, Context& context) {
  CLI::App* command =
      add_command(vm, context, "migrate", "Move a running VM, with the enclaves inside, to another host",
                  "sealift vm migrate web host-b:7419 --bandwidth 100M");
  const auto arguments = std::make_shared<MigrateArguments>();
  MigrateArguments& a = *arguments;
  command->add_option("NAME", a.name, kNameHelp)->required();
  command->add_option("HOST[:PORT]", a.target, "Where its sealiftd listens; a QEMU waits there under the same name")
      ->required();
  command->add_option("--bandwidth", a.bandwidth, "Bytes a second at most; 100M, 1G …; 0: no limit")
      ->transform(CLI::AsSizeValue(false));
  command->add_option("--downtime-limit", a.downtime_ms, "Milliseconds that the VM may stand still")
      ->capture_default_str();
  command->add_option("--timeout", a.timeout_s, "Seconds until it is given up, and the VM runs on here; 0: never");
  command->add_option("--multifd", a.multifd, "Send RAM over that many connections")->check(CLI::Range(1, 255));
  command->add_option("--compress", a.compress, "Compress RAM: zlib or zstd; costs CPU, helps on slow networks")
      ->check(CLI::IsMember({"zlib", "zstd"}));
  command->add_flag("--force", a.force, "Move even if some enclaves cannot; these are lost");
  command->add_flag("--without-enclaves", a.without_enclaves, "Do not ask the guest; what enclaves it has are lost");
  command->callback([&context, arguments] {
    context.chosen = [&context, arguments] { return follow(context, migrate_request(*arguments)); };
  });
}

void add_vm_cancel(CLI::App& vm, Context& context) {
  CLI::App* command = add_command(vm, context, "cancel", "Stop a move; the VM runs on here", "sealift vm cancel web");
  const auto name = std::make_shared<std::string>();
  command->add_option("NAME", *name, kNameHelp)->required();
  command->callback([&context, name] {
    context.chosen = [&context, name] {
      wire::Envelope request;
      request.mutable_vm_cancel()->set_name(*name);
      const int code = follow(context, std::move(request));
      return code == kExitCancelled ? int{kExitOk} : code;
    };
  });
}

}  // namespace

void add_vm(CLI::App& app, Context& context) {
  CLI::App* vm = app.add_subcommand("vm", "Virtual machines with enclaves inside: add, list, migrate, cancel, remove");
  vm->require_subcommand(1);
  vm->footer("Example:\n  sealift vm migrate web host-b");
  add_vm_add(*vm, context);
  add_vm_list(*vm, context);
  add_vm_migrate(*vm, context);
  add_vm_cancel(*vm, context);
  add_vm_remove(*vm, context);
}

}  // namespace sealift::cli

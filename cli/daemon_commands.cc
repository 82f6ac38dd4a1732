#include <sys/ioctl.h>
#include <unistd.h>

#include <iostream>
#include <memory>
#include <vector>

#include "cli/client.h"
#include "cli/commands.h"
#include "cli/exit_codes.h"
#include "cli/output.h"

namespace sealift::cli {

namespace {

constexpr const char* kIdHelp = "The first digits of the lineage, the name, or the pid; `sealift ps` shows them";

template <typename Repeated>
auto vector_of(const Repeated& repeated) {
  return std::vector<typename Repeated::value_type>(repeated.begin(), repeated.end());
}

unsigned terminal_width() {
  winsize size{};
  return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20 ? size.ws_col : 80;
}

// Sends a request that ends when a migration rests; progress goes to standard error, the outcome to standard output.
int follow(const Context& context, wire::Envelope request) {
  Client client(context.socket);
  ProgressPrinter progress(std::cerr, ::isatty(STDERR_FILENO) == 1, terminal_width());
  const wire::Envelope reply = client.call(std::move(request), [&](const wire::Envelope& notice) {
    if (notice.has_migration_info() && !context.json) progress.show(notice.migration_info());
  });
  progress.finish();
  const wire::MigrationInfo& info = reply.migration_list().migrations(0);
  const int code = exit_code(info);
  if (context.json) {
    std::cout << to_json(info).dump(2) << '\n';
  } else {
    print_outcome(code == kExitOk ? std::cout : std::cerr, info);
  }
  return code;
}

}  // namespace

void add_ps(CLI::App& app, Context& context) {
  CLI::App* command = add_command(app, context, "ps", "List the enclaves of this host", "sealift ps --json");
  command->callback([&context] {
    context.chosen = [&context] {
      wire::Envelope request;
      request.mutable_ps_request();
      const wire::PsReply ps = Client(context.socket).call(std::move(request)).ps_reply();
      if (context.json) {
        nlohmann::json out = nlohmann::json::array();
        for (const auto& row : ps.enclaves()) out.push_back(to_json(row));
        std::cout << out.dump(2) << '\n';
      } else {
        print_enclaves(std::cout, vector_of(ps.enclaves()));
      }
      return kExitOk;
    };
  });
}

void add_migrate(CLI::App& app, Context& context) {
  CLI::App* command = add_command(app, context, "migrate", "Move a running enclave to another host",
                                  "sealift migrate 3fa9 host-b:7419");
  auto id = std::make_shared<std::string>();
  auto target = std::make_shared<std::string>();
  command->add_option("ID", *id, kIdHelp)->required();
  command->add_option("HOST[:PORT]", *target, "Where its sealiftd listens")->required();
  command->callback([&context, id, target] {
    context.chosen = [&context, id, target] {
      wire::Envelope request;
      request.mutable_migrate_request()->set_id(*id);
      request.mutable_migrate_request()->set_target(*target);
      return follow(context, std::move(request));
    };
  });
}

void add_cancel(CLI::App& app, Context& context) {
  CLI::App* command = add_command(
      app, context, "cancel", "Stop a migration that has not committed; the enclave runs on", "sealift cancel 3fa9");
  auto id = std::make_shared<std::string>();
  command->add_option("ID", *id, kIdHelp)->required();
  command->callback([&context, id] {
    context.chosen = [&context, id] {
      wire::Envelope request;
      request.mutable_cancel_request()->set_id(*id);
      const int code = follow(context, std::move(request));
      return code == kExitCancelled ? int{kExitOk} : code;
    };
  });
}

void add_resume(CLI::App& app, Context& context) {
  CLI::App* command = add_command(app, context, "resume",
                                  "Bring a stranded enclave back on the source's host, after a failure behind commit",
                                  "sealift resume 3fa9");
  auto id = std::make_shared<std::string>();
  command->add_option("ID", *id, kIdHelp)->required();
  command->callback([&context, id] {
    context.chosen = [&context, id] {
      wire::Envelope request;
      request.mutable_resume_request()->set_id(*id);
      const int code = follow(context, std::move(request));
      return code == kExitResumed ? int{kExitOk} : code;
    };
  });
}

void add_status(CLI::App& app, Context& context) {
  CLI::App* command =
      add_command(app, context, "status", "Show this host's daemon, agent and migrations", "sealift status --json");
  auto id = std::make_shared<std::string>();
  command->add_option("ID", *id, std::string("Only this one. ") + kIdHelp);
  command->callback([&context, id] {
    context.chosen = [&context, id] {
      wire::Envelope request;
      request.mutable_status_request()->set_id(*id);
      const wire::StatusReply status = Client(context.socket).call(std::move(request)).status_reply();
      if (context.json) {
        std::cout << to_json(status).dump(2) << '\n';
        return kExitOk;
      }
      std::cout << "sealiftd " << status.daemon_name() << ", "
                << (status.listen().empty() ? "takes in nothing" : "listens on " + status.listen()) << ", agent "
                << (status.agent_up() ? "up" : "down") << "\n\n";
      print_enclaves(std::cout, vector_of(status.enclaves()));
      if (status.migrations_size() == 0) return kExitOk;
      std::cout << '\n';
      print_migrations(std::cout, vector_of(status.migrations()));
      return kExitOk;
    };
  });
}

}  // namespace sealift::cli

// `sealift completion SHELL`: generated from the parser, so that it never lags behind it.
#include <fmt/format.h>

#include <algorithm>
#include <iostream>
#include <memory>
#include <vector>

#include "cli/commands.h"
#include "cli/exit_codes.h"

namespace sealift::cli {

namespace {

struct Command {
  std::string name, what;
  std::vector<std::string> options;
  bool takes_id = false;
};

std::vector<Command> commands_of(CLI::App& app) {
  std::vector<Command> out;
  for (const CLI::App* sub : app.get_subcommands([](CLI::App*) { return true; })) {
    Command command{sub->get_name(), sub->get_description(), {}, false};
    for (const CLI::Option* option : sub->get_options()) {
      if (option->get_positional() && option->get_name() == "ID") command.takes_id = true;
      for (const std::string& name : option->get_lnames()) command.options.push_back("--" + name);
    }
    out.push_back(std::move(command));
  }
  return out;
}

std::string joined(const std::vector<std::string>& words) {
  return fmt::format("{}", fmt::join(words, " "));
}

// Lineages and names of the enclaves that run here; nothing if there is no daemon.
constexpr const char* kIds = "sealift ps 2>/dev/null | awk 'NR > 1 {print $1; print $3}'";

// Inside fish's double quotes.
constexpr const char* kFishIds = "sealift ps 2>/dev/null | awk 'NR > 1 {print \\$1; print \\$3}'";

void bash(std::ostream& out, const std::vector<Command>& commands) {
  std::vector<std::string> names;
  for (const Command& command : commands) names.push_back(command.name);
  out << "# bash completion of sealift: source it, or put it into ~/.local/share/bash-completion/completions/sealift\n"
         "_sealift() {\n"
         "  local word=${COMP_WORDS[COMP_CWORD]} command=${COMP_WORDS[1]}\n"
         "  if ((COMP_CWORD == 1)); then\n"
      << "    COMPREPLY=($(compgen -W \"" << joined(names) << "\" -- \"$word\"))\n"
      << "    return\n"
         "  fi\n"
         "  case $command in\n";
  for (const Command& command : commands) {
    out << "    " << command.name << ")\n";
    if (command.takes_id) {
      out << "      if [[ $word != -* ]] && ((COMP_CWORD == 2)); then\n"
          << "        COMPREPLY=($(compgen -W \"$(" << kIds << ")\" -- \"$word\"))\n"
          << "        return\n"
             "      fi\n";
    }
    out << "      COMPREPLY=($(compgen -o default -W \"" << joined(command.options) << "\" -- \"$word\"))\n"
        << "      ;;\n";
  }
  out << "  esac\n"
         "}\n"
         "complete -F _sealift sealift\n";
}

void zsh(std::ostream& out, const std::vector<Command>& commands) {
  out << "#compdef sealift\n"
         "# zsh completion of sealift: put it into a folder of $fpath as _sealift\n"
         "_sealift() {\n"
         "  local -a commands ids\n"
         "  commands=(\n";
  for (const Command& command : commands) out << fmt::format("    '{}:{}'\n", command.name, command.what);
  out << "  )\n"
         "  if ((CURRENT == 2)); then\n"
         "    _describe command commands\n"
         "    return\n"
         "  fi\n"
         "  case $words[2] in\n";
  for (const Command& command : commands) {
    out << "    " << command.name << ")\n";
    if (command.takes_id) {
      out << "      if ((CURRENT == 3)); then\n"
          << "        ids=(${(f)\"$(" << kIds << ")\"})\n"
          << "        compadd -a ids\n"
             "      fi\n";
    } else {
      out << "      _files\n";
    }
    out << "      compadd -- " << joined(command.options) << "\n      ;;\n";
  }
  out << "  esac\n"
         "}\n"
         "_sealift \"$@\"\n";
}

void fish(std::ostream& out, const std::vector<Command>& commands) {
  out << "# fish completion of sealift: put it into ~/.config/fish/completions/sealift.fish\n";
  for (const Command& command : commands) {
    out << fmt::format("complete -c sealift -n __fish_use_subcommand -f -a {} -d '{}'\n", command.name, command.what);
    for (const std::string& option : command.options) {
      out << fmt::format("complete -c sealift -n '__fish_seen_subcommand_from {}' -l {}\n", command.name,
                         option.substr(2));
    }
    if (command.takes_id) {
      out << fmt::format("complete -c sealift -n '__fish_seen_subcommand_from {}' -f -a \"({})\"\n", command.name,
                         kFishIds);
    }
  }
}

}  // namespace

void add_completion(CLI::App& app, Context& context) {
  CLI::App* command = add_command(app, context, "completion", "Print a completion script for a shell",
                                  "source <(sealift completion bash)");
  auto shell = std::make_shared<std::string>();
  command->add_option("SHELL", *shell, "bash, zsh or fish")->required()->check(CLI::IsMember({"bash", "zsh", "fish"}));
  command->callback([&app, &context, shell] {
    context.chosen = [&app, shell] {
      const std::vector<Command> commands = commands_of(app);
      if (*shell == "bash") bash(std::cout, commands);
      if (*shell == "zsh") zsh(std::cout, commands);
      if (*shell == "fish") fish(std::cout, commands);
      return kExitOk;
    };
  });
}

}  // namespace sealift::cli

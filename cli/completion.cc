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
  std::string names;  // what lists the values of its first argument; empty: nothing does
  std::vector<Command> subcommands;
};

// Lineages and names of the enclaves that run here, and names of the VMs; nothing if there is no daemon.
constexpr const char* kIds = "sealift ps 2>/dev/null | awk 'NR > 1 {print $1; print $3}'";
constexpr const char* kVms = "sealift vm list 2>/dev/null | awk 'NR > 1 {print $1}'";

std::vector<Command> commands_of(const CLI::App& app) {
  std::vector<Command> out;
  for (const CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; })) {
    Command command{sub->get_name(), sub->get_description(), {}, "", commands_of(*sub)};
    for (const CLI::Option* option : sub->get_options()) {
      if (option->get_positional() && option->get_name() == "ID") command.names = kIds;
      if (option->get_positional() && option->get_name() == "NAME" && sub->get_name() != "add") command.names = kVms;
      for (const std::string& name : option->get_lnames()) command.options.push_back("--" + name);
    }
    out.push_back(std::move(command));
  }
  return out;
}

std::string joined(const std::vector<std::string>& words) {
  return fmt::format("{}", fmt::join(words, " "));
}

std::string names_of(const std::vector<Command>& commands) {
  std::vector<std::string> names;
  for (const Command& command : commands) names.push_back(command.name);
  return joined(names);
}

// The word at `place` is one of `commands`; what comes after it depends on which.
void bash_level(std::ostream& out, const std::vector<Command>& commands, int place) {
  out << "  if ((COMP_CWORD == " << place << ")); then\n"
      << "    COMPREPLY=($(compgen -W \"" << names_of(commands) << "\" -- \"$word\"))\n"
      << "    return\n"
         "  fi\n"
         "  case ${COMP_WORDS["
      << place << "]} in\n";
  for (const Command& command : commands) {
    out << "    " << command.name << ")\n";
    if (!command.subcommands.empty()) {
      bash_level(out, command.subcommands, place + 1);
      out << "      ;;\n";
      continue;
    }
    if (!command.names.empty()) {
      out << "      if [[ $word != -* ]] && ((COMP_CWORD == " << place + 1 << ")); then\n"
          << "        COMPREPLY=($(compgen -W \"$(" << command.names << ")\" -- \"$word\"))\n"
          << "        return\n"
             "      fi\n";
    }
    out << "      COMPREPLY=($(compgen -o default -W \"" << joined(command.options) << "\" -- \"$word\"))\n"
        << "      ;;\n";
  }
  out << "  esac\n";
}

void bash(std::ostream& out, const std::vector<Command>& commands) {
  out << "# bash completion of sealift: source it, or put it into ~/.local/share/bash-completion/completions/sealift\n"
         "_sealift() {\n"
         "  local word=${COMP_WORDS[COMP_CWORD]}\n";
  bash_level(out, commands, 1);
  out << "}\n"
         "complete -F _sealift sealift\n";
}

void zsh_level(std::ostream& out, const std::vector<Command>& commands, int place) {
  out << "  commands=(\n";
  for (const Command& command : commands) out << fmt::format("    '{}:{}'\n", command.name, command.what);
  out << "  )\n"
         "  if ((CURRENT == "
      << place
      << ")); then\n"
         "    _describe command commands\n"
         "    return\n"
         "  fi\n"
         "  case $words["
      << place << "] in\n";
  for (const Command& command : commands) {
    out << "    " << command.name << ")\n";
    if (!command.subcommands.empty()) {
      zsh_level(out, command.subcommands, place + 1);
      out << "      ;;\n";
      continue;
    }
    if (!command.names.empty()) {
      out << "      if ((CURRENT == " << place + 1 << ")); then\n"
          << "        ids=(${(f)\"$(" << command.names << ")\"})\n"
          << "        compadd -a ids\n"
             "      fi\n";
    } else {
      out << "      _files\n";
    }
    out << "      compadd -- " << joined(command.options) << "\n      ;;\n";
  }
  out << "  esac\n";
}

void zsh(std::ostream& out, const std::vector<Command>& commands) {
  out << "#compdef sealift\n"
         "# zsh completion of sealift: put it into a folder of $fpath as _sealift\n"
         "_sealift() {\n"
         "  local -a commands ids\n";
  zsh_level(out, commands, 2);
  out << "}\n"
         "_sealift \"$@\"\n";
}

// Inside fish's double quotes.
std::string in_fish(std::string command) {
  for (std::size_t at = command.find('$'); at != std::string::npos; at = command.find('$', at + 2)) {
    command.insert(at, "\\");
  }
  return command;
}

// `when`: fish's condition that the words before are those that lead here.
void fish_level(std::ostream& out, const std::vector<Command>& commands, const std::string& when) {
  for (const Command& command : commands) {
    const bool top = when.empty();
    const std::string before =
        top ? "__fish_use_subcommand" : when + "; and not __fish_seen_subcommand_from " + names_of(commands);
    const std::string after = (top ? "" : when + "; and ") + "__fish_seen_subcommand_from " + command.name;
    out << fmt::format("complete -c sealift -n '{}' -f -a {} -d '{}'\n", before, command.name, command.what);
    fish_level(out, command.subcommands, after);
    if (!command.subcommands.empty()) continue;
    for (const std::string& option : command.options) {
      out << fmt::format("complete -c sealift -n '{}' -l {}\n", after, option.substr(2));
    }
    if (!command.names.empty()) {
      out << fmt::format("complete -c sealift -n '{}' -f -a \"({})\"\n", after, in_fish(command.names));
    }
  }
}

void fish(std::ostream& out, const std::vector<Command>& commands) {
  out << "# fish completion of sealift: put it into ~/.config/fish/completions/sealift.fish\n";
  fish_level(out, commands, "");
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

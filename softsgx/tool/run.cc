// softsgx run: sets the environment that the preload library reads, and becomes the program.
#include "softsgx/tool/run.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "softsgx/isa/machine_name.h"
#include "softsgx/tool/elf_file.h"

namespace softsgx::tool {
namespace {

constexpr int kUsage = 2, kCannotRun = 126, kNotFound = 127;

struct RunArguments {
  std::string machine;
  unsigned aex_hz = 0;
  std::uint64_t seed = 0;
  std::string single_step;
  bool stepping = false;
  bool patch_cpuid = false;
  bool trap_enclu = false;
  bool no_fsgsbase = false;
  std::vector<std::string> program;
};

int complain(int status, const std::string& text) {
  fmt::print(stderr, "softsgx run: {}\n", text);
  return status;
}

// One end of a window: hexadecimal, +hexadecimal (an offset in ELRANGE), or a symbol of `file`, which becomes the
// latter.
std::optional<std::string> window_end(const std::string& file, const std::string& text, std::string& error) {
  const std::size_t digits = text.starts_with("+0x") ? 3 : text.starts_with("0x") ? 2 : text.starts_with('+') ? 1 : 0;
  const bool number = digits != 0 && text.size() > digits &&
                      text.find_first_not_of("0123456789abcdefABCDEF", digits) == std::string::npos;
  if (number) return text;
  if (file.empty()) {
    error = fmt::format("--single-step: \"{}\" is no address; for a symbol write FILE:BEGIN-END", text);
    return std::nullopt;
  }
  const auto symbol = find_symbol(file, text);
  if (!symbol) {
    error = fmt::format("--single-step: {} has no symbol \"{}\"", file, text);
    return std::nullopt;
  }
  return fmt::format("+{:#x}", symbol->value);
}

// [FILE:]BEGIN-END, or FILE:SYMBOL for the whole of a function, with @+TCS behind it or not, as the preload library
// reads it.
std::optional<std::string> step_window(const std::string& text, std::string& error) {
  if (const std::size_t at = text.rfind("@+"); at != std::string::npos) {
    const auto window = step_window(text.substr(0, at), error);
    if (!window) return std::nullopt;
    return *window + text.substr(at);
  }
  if (text == "all") return text;
  const std::size_t colon = text.rfind(':');
  const std::string file = colon == std::string::npos ? "" : text.substr(0, colon);
  const std::string window = colon == std::string::npos ? text : text.substr(colon + 1);
  const std::size_t dash = window.find('-');
  if (dash == std::string::npos) {
    const auto symbol = file.empty() ? std::nullopt : find_symbol(file, window);
    if (!symbol || symbol->size == 0) {
      error = fmt::format("--single-step: \"{}\" is neither BEGIN-END nor FILE:FUNCTION", text);
      return std::nullopt;
    }
    return fmt::format("+{:#x}-+{:#x}", symbol->value, symbol->value + symbol->size);
  }
  const auto begin = window_end(file, window.substr(0, dash), error);
  if (!begin) return std::nullopt;
  const auto end = window_end(file, window.substr(dash + 1), error);
  if (!end) return std::nullopt;
  if (begin->starts_with('+') != end->starts_with('+')) {
    error = "--single-step: both ends must be addresses, or both offsets";
    return std::nullopt;
  }
  return *begin + "-" + *end;
}

// Where execvp would find the program; the name itself if nowhere.
std::string find_program(const std::string& name) {
  if (name.find('/') != std::string::npos) return name;
  const char* path = std::getenv("PATH");
  std::stringstream directories(path ? path : "/bin:/usr/bin");
  for (std::string d; std::getline(directories, d, ':');) {
    std::string candidate = (d.empty() ? "." : d) + "/" + name;
    if (access(candidate.c_str(), X_OK) == 0) return candidate;
  }
  return name;
}

std::optional<std::string> preload_library(std::string& error) {
  std::error_code code;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", code);
  const auto library = self.parent_path().parent_path() / "lib" / "libsoftsgx.so";
  if (!code && std::filesystem::exists(library, code)) return library.string();
  error = fmt::format("{} is missing; softsgx and its library must be installed together", library.string());
  return std::nullopt;
}

// AddressSanitizer insists on being the first library, and on its handlers being installed through ours.
std::string preload_list(const std::string& program, const std::string& library) {
  std::string list;
  for (const std::string& name : needed_libraries(program)) {
    if (name.starts_with("libasan.so") || name.starts_with("libtsan.so") || name.starts_with("libclang_rt.asan")) {
      list += name + " ";
    }
  }
  list += library;
  if (const char* others = std::getenv("LD_PRELOAD"); others && *others) list += std::string(" ") + others;
  return list;
}

void set(const char* name, const std::string& value) {
  if (value.empty()) {
    unsetenv(name);
  } else {
    setenv(name, value.c_str(), 1);
  }
}

// The machine's path is the last of our arguments; what follows it is the program's.
int parse(const std::vector<std::string>& arguments, RunArguments& a) {
  CLI::App app("Run a program on a machine", "softsgx run");
  app.add_option("--aex-hz", a.aex_hz, "Interrupt threads in enclaves so many times a second, at random")
      ->check(CLI::Range(1u, 1'000'000u));
  app.add_option("--seed", a.seed, "Of that randomness");
  auto* step = app.add_option("--single-step", a.single_step,
                              "Interrupt enclaves after every instruction: everywhere, in [FILE:]BEGIN-END (addresses, "
                              "+offsets in ELRANGE, or symbols of the enclave's FILE), or in FILE:FUNCTION; with "
                              "@+OFFSET behind it, only on the TCS at that offset in ELRANGE")
                   ->expected(1);
  app.add_flag("--patch-cpuid", a.patch_cpuid, "Show SGX in CPUID by patching the program, where CPUID cannot fault");
  app.add_flag("--trap-enclu", a.trap_enclu, "Take an exception at every ENCLU, also at those that may be patched");
  app.add_flag("--no-fsgsbase", a.no_fsgsbase, "As on a kernel without FSGSBASE: both bases by system calls");
  app.add_option("PATH", a.machine, "Machine file; FILE@0xOFFSET; or auto, a virtual machine's EPC section")
      ->required();
  app.add_option("PROGRAM", a.program, "Program and its arguments, after --")->required();

  // CLI11 reads vectors from the back. `--single-step`'s value is optional, so only `=` may give it one.
  std::vector<std::string> own;
  auto rest = arguments.begin();
  for (; rest != arguments.end() && *rest != "--"; ++rest) {
    own.push_back(*rest == "--single-step" ? "--single-step=all" : *rest);
    const bool value_follows = *rest == "--aex-hz" || *rest == "--seed";
    if (value_follows && rest + 1 != arguments.end()) {
      own.push_back(*++rest);
    } else if (!rest->starts_with('-')) {
      ++rest;
      break;
    }
  }
  if (rest != arguments.end() && *rest == "--") ++rest;
  own.push_back("--");
  own.insert(own.end(), rest, arguments.end());
  std::reverse(own.begin(), own.end());
  try {
    app.parse(own);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? -1 : kUsage;
  }
  a.stepping = step->count() != 0;
  return 0;
}

}  // namespace

int run_command(const std::vector<std::string>& arguments) {
  RunArguments a;
  if (const int status = parse(arguments, a); status != 0) return status < 0 ? 0 : status;
  std::string error, window;
  if (a.stepping) {
    const auto w = step_window(a.single_step, error);
    if (!w) return complain(kUsage, error);
    window = *w;
  }
  const std::string machine = resolve_machine_name(a.machine, error);
  if (machine.empty()) return complain(kUsage, error);
  const auto library = preload_library(error);
  if (!library) return complain(kCannotRun, error);

  const std::string program = find_program(a.program.front());
  set("LD_PRELOAD", preload_list(program, *library));
  set("SOFTSGX_MACHINE", machine);
  set("SOFTSGX_AEX_HZ", a.aex_hz ? std::to_string(a.aex_hz) : "");
  set("SOFTSGX_SEED", std::to_string(a.seed));
  set("SOFTSGX_SINGLE_STEP", window);
  set("SOFTSGX_PATCH_CPUID", a.patch_cpuid ? "1" : "");
  set("SOFTSGX_TRAP_ENCLU", a.trap_enclu ? "1" : "");
  set("SOFTSGX_NO_FSGSBASE", a.no_fsgsbase ? "1" : "");
  std::vector<char*> argv;
  for (std::string& s : a.program) argv.push_back(s.data());
  argv.push_back(nullptr);
  execv(program.c_str(), argv.data());
  const int why = errno;
  return complain(why == ENOENT ? kNotFound : kCannotRun,
                  fmt::format("cannot run {}: {}", a.program.front(), strerror(why)));
}

}  // namespace softsgx::tool

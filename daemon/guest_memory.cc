#include "daemon/guest_memory.h"

#include <sys/sysinfo.h>

#include <fstream>
#include <iterator>
#include <string>

namespace sealift::daemon {

// The last one counts; values as the kernel's kstrtobool takes them.
bool clears_freed_memory(std::string_view command_line) {
  constexpr std::string_view kName = "init_on_free=";
  bool clears = false;
  while (!command_line.empty()) {
    const std::size_t end = std::min(command_line.find_first_of(" \t\n"), command_line.size());
    std::string_view word = command_line.substr(0, end);
    command_line.remove_prefix(std::min(end + 1, command_line.size()));
    if (word == "--") break;  // the rest is init's
    if (word.substr(0, kName.size()) != kName) continue;
    word.remove_prefix(kName.size());
    const bool on = word.size() > 1 && (word[0] == 'o' || word[0] == 'O') && (word[1] == 'n' || word[1] == 'N');
    clears = on || (!word.empty() && (word[0] == '1' || word[0] == 'y' || word[0] == 'Y'));
  }
  return clears;
}

GuestMemory GuestMemory::of_this_kernel() {
  std::ifstream file("/proc/cmdline");
  return GuestMemory(clears_freed_memory(std::string(std::istreambuf_iterator<char>(file), {})));
}

void GuestMemory::look() {
  struct sysinfo info {};
  saw(::sysinfo(&info) == 0 ? std::uint64_t{info.freeram} * info.mem_unit : 0);
}

}  // namespace sealift::daemon

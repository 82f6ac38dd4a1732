#include "daemon/guest_memory.h"

#include <sys/sysinfo.h>

#include <algorithm>
#include <cstddef>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>

namespace sealift::daemon {

namespace {

std::string text_of(const char* path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

// As the kernel's kstrtobool.
bool is_true(std::string_view value) {
  if (value.empty()) return false;
  const bool on = value.size() > 1 && (value[0] == 'o' || value[0] == 'O') && (value[1] == 'n' || value[1] == 'N');
  return on || value[0] == '1' || value[0] == 'y' || value[0] == 'Y';
}

}  // namespace

// The last one of a name counts; dashes are as good as underscores.
bool clears_freed_memory(std::string_view command_line) {
  std::istringstream words{std::string(command_line)};
  bool clears = false, poisons = false;
  for (std::string word; words >> word && word != "--";) {  // what follows is init's
    const std::size_t equals = word.find('=');
    if (equals == std::string::npos) continue;
    std::replace(word.begin(), word.begin() + static_cast<std::ptrdiff_t>(equals), '-', '_');
    const std::string_view name = std::string_view(word).substr(0, equals);
    const std::string_view value = std::string_view(word).substr(equals + 1);
    if (name == "init_on_free") clears = is_true(value);
    if (name == "page_poison") poisons = is_true(value);
  }
  return clears && !poisons;  // the kernel does one of them; poison is no zeros
}

// A line a zone: "Node 0, zone    DMA32      5      3 …", the number of free blocks of each order, a page and up.
std::uint64_t free_in_large_blocks(std::string_view buddyinfo) {
  constexpr unsigned kPageShift = 12, kLarge = 21 - kPageShift, kMostOrders = 32;
  std::istringstream lines{std::string(buddyinfo)};
  std::uint64_t bytes = 0;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string skip;
    for (int i = 0; i < 4; ++i) words >> skip;
    std::uint64_t blocks = 0;
    for (unsigned order = 0; order < kMostOrders && words >> blocks; ++order) {
      if (order >= kLarge) bytes += blocks << (order + kPageShift);
    }
  }
  return bytes;
}

GuestMemory GuestMemory::of_this_kernel() {
  return GuestMemory(clears_freed_memory(text_of("/proc/cmdline")));
}

void GuestMemory::look() {
  if (cleared_) return saw(free_in_large_blocks(text_of("/proc/buddyinfo")));
  struct sysinfo info {};
  saw(::sysinfo(&info) == 0 ? std::uint64_t{info.freeram} * info.mem_unit : 0);
}

}  // namespace sealift::daemon

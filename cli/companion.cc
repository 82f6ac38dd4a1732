#include "cli/companion.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>

namespace sealift::cli {

std::filesystem::path own_folder() {
  return std::filesystem::read_symlink("/proc/self/exe").parent_path();
}

void run_companion(const std::string& name, std::vector<std::string> arguments) {
  const std::string program = own_folder() / name;
  std::vector<char*> argv = {const_cast<char*>(program.c_str())};
  for (std::string& each : arguments) argv.push_back(each.data());
  argv.push_back(nullptr);
  execv(program.c_str(), argv.data());
  throw std::runtime_error(program + ": cannot be run: " + std::strerror(errno) + "; `make build` makes it");
}

}  // namespace sealift::cli

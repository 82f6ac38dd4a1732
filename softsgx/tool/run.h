// `softsgx run`, which belongs to the CPU layer.
#pragma once

#include <string>
#include <vector>

namespace softsgx::tool {

// `arguments` is everything after the word `run`, options included. The process's exit status; on success it does not
// return, as it becomes the program.
int run_command(const std::vector<std::string>& arguments);

}  // namespace softsgx::tool

// Programs of the project that lie beside `sealift` and are run in its place: sealift-bench, sealift-demo.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace sealift::cli {

// The folder that this program lies in.
[[nodiscard]] std::filesystem::path own_folder();

// Replaces this process by `name` of the same folder. Returns only by throwing: std::runtime_error, one line, if there
// is no such program or it cannot be run.
[[noreturn]] void run_companion(const std::string& name, std::vector<std::string> arguments);

}  // namespace sealift::cli

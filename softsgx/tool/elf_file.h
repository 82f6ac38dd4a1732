// The few facts about an ELF file that `softsgx run` needs.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace softsgx::tool {

// The libraries that a program asks for (DT_NEEDED). Empty for what is no 64-bit ELF file, such as a script.
[[nodiscard]] std::vector<std::string> needed_libraries(const std::string& path);

struct Symbol {
  std::uint64_t value = 0, size = 0;
};
// A symbol of .symtab or .dynsym.
[[nodiscard]] std::optional<Symbol> find_symbol(const std::string& path, const std::string& name);

}  // namespace softsgx::tool

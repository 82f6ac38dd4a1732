// `softsgx create`, `info` and `destroy`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace softsgx::tool {

struct CreateArguments {
  std::string path;
  std::uint64_t epc_bytes = 0;
  std::string cpusvn;      // up to 32 hexadecimal digits, or empty
  std::string section_of;  // a machine file, or empty
  std::optional<std::uint64_t> xfrm;
};

struct InfoArguments {
  std::string path;
  bool json = false;
};

struct DestroyArguments {
  std::string path;
  bool force = false;
};

// Exit statuses; what went wrong is on stderr, in one line.
int create_command(const CreateArguments& arguments);
int info_command(const InfoArguments& arguments);
int destroy_command(const DestroyArguments& arguments);

}  // namespace softsgx::tool

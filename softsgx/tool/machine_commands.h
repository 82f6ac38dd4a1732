// `softsgx create`, `info`, `reset` and `destroy`.
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

// Of `reset` and `destroy`.
struct RemovalArguments {
  std::string path;
  bool force = false;
};

// Exit statuses; what went wrong is on stderr, in one line.
int create_command(const CreateArguments& arguments);
int info_command(const InfoArguments& arguments);
int reset_command(const RemovalArguments& arguments);
int destroy_command(const RemovalArguments& arguments);

}  // namespace softsgx::tool

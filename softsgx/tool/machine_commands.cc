#include "softsgx/tool/machine_commands.h"

#include <fmt/format.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>

#include "softsgx/isa/machine.h"
#include "softsgx/isa/machine_name.h"

namespace softsgx::tool {
namespace {

constexpr int kFailure = 1;
constexpr int kUsage = 2;
constexpr std::size_t kCpusvnBytes = 16;

int fail(const std::string& why) {
  fmt::print(stderr, "softsgx: {}\n", why);
  return kFailure;
}

std::optional<std::array<std::uint8_t, kCpusvnBytes>> parse_cpusvn(const std::string& text) {
  std::array<std::uint8_t, kCpusvnBytes> out{};
  if (text.size() % 2 != 0 || text.size() > 2 * kCpusvnBytes ||
      text.find_first_not_of("0123456789abcdefABCDEF") != std::string::npos) {
    return std::nullopt;
  }
  for (std::size_t i = 0; i < text.size(); i += 2) {
    out[i / 2] = static_cast<std::uint8_t>(std::stoul(text.substr(i, 2), nullptr, 16));
  }
  return out;
}

std::string hex(std::span<const std::uint8_t> bytes) {
  return fmt::format("{:02x}", fmt::join(bytes, ""));
}

// A sparse file may be larger than what its file system can hold; the first enclave that touches the rest would die of
// SIGBUS, long after this command.
void warn_if_full(const CreateArguments& a) {
  struct statvfs fs {};
  const auto directory = std::filesystem::absolute(a.path).parent_path();
  if (statvfs(directory.c_str(), &fs) != 0) return;
  const std::uint64_t available = std::uint64_t{fs.f_bavail} * fs.f_frsize;
  if (available < a.epc_bytes) {
    fmt::print(stderr, "softsgx: warning: {} has only {} MiB free for an EPC of {} MiB\n", directory.string(),
               available >> 20, a.epc_bytes >> 20);
  }
}

nlohmann::ordered_json describe(Machine& m) {
  const Machine::Usage u = m.usage();
  return {{"path", m.path()},
          {"platform_id", hex(m.fuses().platform_id)},
          {"cpusvn", hex(m.cpusvn())},
          {"xfrm", fmt::format("{:#x}", m.xfrm_allowed())},
          {"generation", fmt::format("{:016x}", m.generation())},
          {"section", m.is_section()},
          {"epc_bytes", std::uint64_t{u.total} * sgx::kPageSize},
          {"epc_free_bytes", std::uint64_t{u.free} * sgx::kPageSize},
          {"enclaves", u.enclaves},
          {"processes", u.processes},
          {"threads_inside", u.threads_inside}};
}

// The machine, if nobody uses it or --force is given; otherwise null, and the reason is on stderr.
std::unique_ptr<Machine> open_unused(const RemovalArguments& a) {
  std::string error;
  auto machine = open_machine(a.path, error);
  if (machine == nullptr) {
    fail(error);
    return nullptr;
  }
  machine->reclaim_dead();
  const EpcIndex processes = machine->usage().processes;
  if (processes == 0 || a.force) return machine;
  fail(fmt::format("{} is in use by {} process(es); end them, or use --force", a.path, processes));
  return nullptr;
}

}  // namespace

int create_command(const CreateArguments& a) {
  CreateOptions options{.epc_bytes = a.epc_bytes,
                        .cpusvn = {},
                        .xfrm_allowed = a.xfrm,
                        .section_of = a.section_of,
                        .section = !a.section_of.empty()};
  if (!a.cpusvn.empty()) {
    options.cpusvn = parse_cpusvn(a.cpusvn);
    if (!options.cpusvn) {
      fmt::print(stderr, "softsgx: --cpusvn {}: give up to 32 hexadecimal digits, two for each component\n", a.cpusvn);
      return kUsage;
    }
  }
  warn_if_full(a);
  std::string error;
  return Machine::create(a.path, options, error) == nullptr ? fail(error) : 0;
}

int info_command(const InfoArguments& a) {
  std::string error;
  const auto machine = open_machine(a.path, error);
  if (machine == nullptr) return fail(error);
  const EpcIndex reclaimed = machine->reclaim_dead();
  auto info = describe(*machine);
  info["reclaimed_pages"] = reclaimed;
  if (a.json) {
    fmt::print("{}\n", info.dump(2));
    return 0;
  }
  for (const auto& [name, value] : info.items()) {
    fmt::print("{:<16} {}\n", name, value.is_string() ? value.get<std::string>() : value.dump());
  }
  return 0;
}

int reset_command(const RemovalArguments& a) {
  const auto machine = open_unused(a);
  if (machine == nullptr) return kFailure;
  machine->power_cycle();
  return 0;
}

int destroy_command(const RemovalArguments& a) {
  if (open_unused(a) == nullptr) return kFailure;  // so nothing but a machine is ever deleted
  if (unlink(a.path.c_str()) != 0) return fail(fmt::format("cannot remove {}: {}", a.path, std::strerror(errno)));
  return 0;
}

}  // namespace softsgx::tool

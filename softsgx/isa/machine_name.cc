#include "softsgx/isa/machine_name.h"

#include <fcntl.h>

#include <charconv>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <sstream>
#include <vector>

namespace softsgx {
namespace {

constexpr char kTable[] = "/sys/firmware/acpi/tables/NFIT";
constexpr char kMemory[] = "/dev/mem";

template <typename T>
T read(std::span<const char> bytes, std::size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof(value));
  return value;
}

std::string at(const std::string& path, std::uint64_t offset) {
  std::ostringstream out;
  out << path << "@0x" << std::hex << offset;
  return out.str();
}

struct Place {
  std::string path;
  std::uint64_t offset = 0;
};

// A file whose name has an '@' is that file.
std::optional<Place> parse(const std::string& name) {
  std::error_code code;
  const std::size_t sign = name.rfind("@0x");
  if (sign == std::string::npos || std::filesystem::exists(name, code)) return Place{name, 0};
  Place place{name.substr(0, sign), 0};
  const char* end = name.data() + name.size();
  const auto [stop, bad] = std::from_chars(name.data() + sign + 3, end, place.offset, 16);
  return bad == std::errc{} && stop == end ? std::optional(place) : std::nullopt;
}

std::string find_section(std::string& error) {
  std::ifstream in(kTable, std::ios::binary);
  const std::vector<char> table(std::istreambuf_iterator<char>(in), {});
  const std::vector<std::uint64_t> addresses = nvdimm_addresses(table);
  if (addresses.empty()) {
    error =
        "no EPC section here: this computer shows no NVDIMM; start the virtual machine with one (docs/softsgx.md), "
        "or name a machine file";
    return {};
  }
  for (const std::uint64_t address : addresses) {
    if (Machine::open(kMemory, {.file_offset = address, .first = 0, .count = kNotEpc}, error))
      return at(kMemory, address);
  }
  return {};
}

}  // namespace

// The System Physical Address ranges (ACPI 6.5, section 5.2.25).
std::vector<std::uint64_t> nvdimm_addresses(std::span<const char> nfit) {
  constexpr std::size_t kHeaderBytes = 40, kStructureHeader = 4, kSpaBytes = 56, kSpaBase = 32;
  constexpr std::uint16_t kSpaRange = 0;
  std::vector<std::uint64_t> out;
  for (std::size_t at = kHeaderBytes; at + kStructureHeader <= nfit.size();) {
    const auto type = read<std::uint16_t>(nfit, at), length = read<std::uint16_t>(nfit, at + 2);
    if (length < kStructureHeader || length > nfit.size() - at) break;
    if (type == kSpaRange && length >= kSpaBytes) out.push_back(read<std::uint64_t>(nfit, at + kSpaBase));
    at += length;
  }
  return out;
}

std::string resolve_machine_name(const std::string& name, std::string& error) {
  if (name == "auto") return find_section(error);
  const auto place = parse(name);
  std::error_code code;
  if (!place || !std::filesystem::exists(place->path, code)) {
    error = "no machine " + name + "; make one with: softsgx create " + name + " --epc 256M";
    return {};
  }
  const std::string path = std::filesystem::absolute(place->path, code);
  return place->offset == 0 ? path : at(path, place->offset);
}

std::unique_ptr<Machine> open_machine(const std::string& name, std::string& error) {
  const std::string resolved = name == "auto" ? find_section(error) : name;
  if (resolved.empty()) return nullptr;
  const auto place = parse(resolved);
  if (!place) {
    error = "\"" + name + "\" is no machine: after @ a hexadecimal number is expected";
    return nullptr;
  }
  return Machine::open(place->path, {.file_offset = place->offset, .first = 0, .count = kNotEpc}, error);
}

}  // namespace softsgx

// How commands and environment variables name a machine.
//
//   PATH            a machine file
//   PATH@OFFSET     a machine that begins inside a file or device; OFFSET is a hexadecimal number, e.g. 0x100000000
//   auto            in a virtual machine: the EPC section that its hypervisor shows it as an NVDIMM
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "softsgx/isa/machine.h"

namespace softsgx {

// The same name with an absolute path and without `auto`. Empty, and one line in `error`, if there is no such thing.
[[nodiscard]] std::string resolve_machine_name(const std::string& name, std::string& error);
// Opens what resolve_machine_name answered, or a name for it. Null and one line in `error` on failure.
[[nodiscard]] std::unique_ptr<Machine> open_machine(const std::string& name, std::string& error);

// Where the NVDIMMs are that the ACPI table NFIT tells of; what it cannot make sense of it leaves out.
[[nodiscard]] std::vector<std::uint64_t> nvdimm_addresses(std::span<const char> nfit);

}  // namespace softsgx

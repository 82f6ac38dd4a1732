// What `softsgx run` tells the preload library, in environment variables.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "softsgx/cpu/single_step.h"

namespace softsgx::preload {

struct Options {
  std::string machine;       // SOFTSGX_MACHINE: see isa/machine_name.h; empty: the library does nothing
  unsigned aex_hz = 0;       // SOFTSGX_AEX_HZ
  std::uint64_t seed = 0;    // SOFTSGX_SEED
  StepWindow step;           // SOFTSGX_SINGLE_STEP: "all", "BEGIN-END" or "+BEGIN-+END", hexadecimal, and "@+TCS"
  bool patch_cpuid = false;  // SOFTSGX_PATCH_CPUID: "1"
  bool trap_enclu = false;   // SOFTSGX_TRAP_ENCLU: "1"
  bool no_fsgsbase = false;  // SOFTSGX_NO_FSGSBASE: "1"
};

// nullopt and one line in `error` if a variable makes no sense.
[[nodiscard]] std::optional<Options> read_options(std::string& error);
// SOFTSGX_SINGLE_STEP's syntax.
[[nodiscard]] std::optional<StepWindow> parse_step_window(const std::string& text);

}  // namespace softsgx::preload

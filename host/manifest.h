// The owner's manifest (TOML; docs/manifest.md): what the enclave may use, who may speak to it, where it may go.
#pragma once

#include <cstdint>
#include <string>

#include "host/error.h"
#include "migration/config.h"
#include "sgx/arch.h"

namespace sealift::host {

struct Manifest {
  EnclaveConfig config{};  // layout fields still zero: they depend on the image
  sgx::Attributes attributes{};
  sgx::Attributes attribute_mask{};
  std::uint32_t miscselect = 0;
  std::uint16_t isvprodid = 0;
  std::uint16_t isvsvn = 0;
};

// Throws Error with the path, the line where TOML gives one, and what is wrong. Unknown keys are errors: a misspelt
// policy must not silently be no policy.
[[nodiscard]] Manifest load_manifest(const std::string& path);
[[nodiscard]] Manifest parse_manifest(const std::string& text, const std::string& name);

}  // namespace sealift::host

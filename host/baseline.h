// CPU baselines: the x86-64 levels an enclave may be held to, as CPUID answers that are measured into it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "migration/config.h"

namespace sealift::host {

struct Baseline {
  std::uint64_t xfrm;
  std::vector<CpuidEntry> cpuid;
};

// `level` is x86-64-v2, -v3 or -v4; `features` are extra ones by their usual names (vaes, sha, …). AES, PCLMULQDQ and
// RDRAND are always part of it: core needs them. Throws std::invalid_argument that names the unknown word.
[[nodiscard]] Baseline make_baseline(const std::string& level, const std::vector<std::string>& features);

// Empty: this CPU has all that the baseline promises. Else the names of what it lacks, for a person.
[[nodiscard]] std::string missing_on_this_cpu(const EnclaveConfig& config);

}  // namespace sealift::host

// Compute kernels: each a pure function of its size, returning a checksum so that nothing is optimised away.
#pragma once

#include <cstdint>

#include "bench/enclaves/calls.h"

namespace workload {

[[nodiscard]] std::uint64_t run_kernel(Kernel which, std::uint32_t size);

}  // namespace workload

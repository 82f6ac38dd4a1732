// The groups of figures. Each prints its own as they are ready.
#pragma once

#include <string>

#include "bench/session.h"

namespace sealift::bench {

// True when `options.only` is empty or part of one of the names.
[[nodiscard]] bool wanted(const Options& options, std::initializer_list<const char*> names);

void measure_memory(const Options& options);   // memory.cc: dump and restore against AES-GCM and memcpy
void measure_threads(const Options& options);  // threads.cc: quiescence; parked against spinning
void measure_compute(const Options& options);  // compute.cc: steady state
void measure_entries(const Options& options);  // entries.cc: ENCLU patched against trapped
void measure_stages(const Options& options);   // stages.cc: downtime and total time by phase

}  // namespace sealift::bench

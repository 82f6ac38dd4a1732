// sealift-bench: the figures of docs/performance.md. `sealift bench migrate` runs it.
#include <cstring>
#include <iostream>

#include "bench/suite.h"

namespace sealift::bench {

bool wanted(const Options& options, std::initializer_list<const char*> names) {
  if (options.only.empty()) return true;
  for (const char* name : names) {
    if (std::strstr(name, options.only.c_str()) != nullptr) return true;
  }
  return false;
}

}  // namespace sealift::bench

int main(int argc, char** argv) {
  using namespace sealift::bench;
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--json") {
      options.json = true;
    } else if (word == "--smoke") {
      options.smoke = true;
    } else if (word == "--only" && i + 1 < argc) {
      options.only = argv[++i];
    } else {
      std::cerr << "sealift-bench: unknown argument '" << word << "'; usage: sealift-bench [--json] [--smoke] "
                << "[--only NAME]\n";
      return 2;
    }
  }
  try {
    measure_memory(options);
    measure_threads(options);
    measure_compute(options);
    measure_entries(options);
    measure_stages(options);
  } catch (const std::exception& error) {
    std::cerr << "sealift-bench: " << error.what() << '\n';
    return 1;
  }
  return 0;
}

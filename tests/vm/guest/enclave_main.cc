// vm-enclave IMAGE: counts in an enclave until the enclave is gone, says why, and starts again with a new one: an
// application that knows how to begin anew, in a VM that somebody moves without Sealift.
#include <unistd.h>

#include <iostream>

#include "sealift/enclave.h"
#include "tests/enclaves/counter_calls.h"

namespace {

// How far the enclave counted.
std::uint64_t count(sealift::Enclave& enclave, std::uint64_t enough) {
  std::uint64_t n = 0;
  while (n < enough) {
    const auto stepped = enclave.call(counter::kStep);
    if (!stepped.ok()) {
      std::cout << "vm-enclave: " << sealift::errc_name(stepped.error()) << ": " << enclave.crash_report() << std::endl;
      return n;
    }
    if (++n == 100) std::cout << "vm-enclave: counting" << std::endl;
  }
  return n;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: vm-enclave IMAGE\n";
    return 2;
  }
  constexpr std::uint64_t kForEver = ~std::uint64_t{0}, kEnough = 1000;
  try {
    const auto enclave = sealift::Enclave::open(argv[1], {.arguments = {}, .daemon = false});
    const std::uint64_t reached = count(*enclave, kForEver);
    std::cout << "vm-enclave: pid " << getpid() << " goes on; the enclave had counted to " << reached << std::endl;
  } catch (const std::exception& e) {
    std::cout << "vm-enclave: " << e.what() << std::endl;
    return 1;
  }
  try {
    const auto enclave = sealift::Enclave::open(argv[1], {.arguments = {}, .daemon = false});
    const std::uint64_t reached = count(*enclave, kEnough);
    const auto state = enclave->call(counter::kState);
    if (reached == kEnough && state.ok() && state->value == kEnough) {
      std::cout << "vm-enclave: a new enclave counted to " << kEnough << std::endl;
      return 0;
    }
  } catch (const std::exception& e) {
    std::cout << "vm-enclave: " << e.what() << std::endl;
  }
  return 1;
}

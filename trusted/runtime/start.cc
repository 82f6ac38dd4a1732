// Start-up of an ordinary program inside: the linker turns references to `main` into __wrap_main (--wrap=main), which
// glibc's start-up code calls once constructors have run. It makes the ecall threads, tells the host that the
// enclave is up, and continues into the program's own main, if it has one, when the host asks for it.
#include <pthread.h>

#include <cstdlib>

#include "trusted/core/area.h"
#include "trusted/core/core.h"
#include "trusted/runtime/calls.h"
#include "trusted/runtime/syscall.h"

extern "C" {
[[gnu::weak]] int __real_main(int argc, char** argv, char** envp);  // NOLINT: the linker's name
int __wrap_main(int argc, char** argv, char** envp);                // NOLINT: the linker's name
}

namespace sealift::runtime {
namespace {

void* ecall_thread(void* /*unused*/) {
  serve_calls();
  return nullptr;
}

// Their stacks are the measured per-thread areas: guard pages on both sides.
void make_ecall_threads() {
  making_ecall_threads = true;
  const EnclaveConfig& c = core::config();
  for (std::uint32_t i = 0; i < c.ecall_threads; ++i) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstack(&attributes, core::at(stack_offset(c, abi::kFirstEcallTcs + i)), c.stack_size);
    pthread_t thread{};
    if (pthread_create(&thread, &attributes, &ecall_thread, nullptr) != 0) std::abort();
    pthread_attr_destroy(&attributes);
  }
  making_ecall_threads = false;
}

}  // namespace
}  // namespace sealift::runtime

int __wrap_main(int argc, char** argv, char** envp) {
  using namespace sealift;
  runtime::make_ecall_threads();
  // Returned to only by a host that wants main to run; a migration in between asks again.
  while (core::ocall(abi::OcallOp::kStarted, 0).migrated) {
  }
  return __real_main != nullptr ? __real_main(argc, argv, envp) : 0;
}

// A runtime's signal handlers: notes what the kernel reports about a fault at the AEP, and continues at the AEP.
#pragma once

#include <ucontext.h>

#include <csignal>
#include <cstdint>

namespace third_party {

struct Caught {
  int count = 0;
  int signal = 0, code = 0;
  std::uint64_t address = 0;
  std::uint64_t rip = 0, rax = 0, rbx = 0, rcx = 0, rsp = 0;
  std::uint64_t trap = 0, error = 0, flags = 0;
};

// Installs handlers for the fault signals while it lives. With `skip_to_fixup`, faults at the host's own ENCLU continue
// at abi_call_fixup; at the AEP execution continues there.
class FaultCatcher {
 public:
  FaultCatcher();
  ~FaultCatcher();
  FaultCatcher(const FaultCatcher&) = delete;
  FaultCatcher& operator=(const FaultCatcher&) = delete;
  // The calling thread's.
  static Caught& caught();

 private:
  struct sigaction old_[6];
};

}  // namespace third_party

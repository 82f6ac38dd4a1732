// One stay inside the enclave: EENTER, then as many AEX/ERESUME pairs as it takes, until EEXIT or something final.
//
// The whole stay happens in one frame of sealift_enclu: the enclave's exit context points into it, so ERESUME must be
// executed with the same RSP as the EENTER before it. What to do at an AEX is decided in ordinary context
// (sealift_at_aex), never in a signal handler.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sealift::host {

enum class StayEnd : std::uint64_t {
  kExit = 0,     // EEXIT: rdi … r8 are the answer
  kAbandon = 1,  // sealift_at_aex said so: the TCS is left interrupted for ever
  kFault = 2,    // ENCLU itself faulted: no such enclave (any more), TCS busy, or CSSA = NSSA
};

enum class AfterAex : std::uint64_t {
  kResume = 0,   // ERESUME
  kAbandon = 1,  // leave the TCS interrupted for ever
  kEnter = 2,    // EENTER: the enclave was rebuilt meanwhile, and in it this thread is parked at CSSA = 0
};

struct Exception {
  std::uint64_t pending;  // 1: a signal handler saw an exception of the enclave at our AEP
  std::uint64_t signal, trap, error, address;
};

// Shared with enclu.S and the signal handler, which finds it through RSP.
struct Stay {
  std::uint64_t tcs;
  std::uint64_t rdi, rsi, rdx, r8;  // in: request and arguments; out: the answer
  StayEnd end;
  Exception exception;
  std::uint64_t nested;  // 1: this is an entry at CSSA = 1; an AEX of it is answered with ERESUME alone
  void* context;         // for sealift_at_aex
  bool raised = false;   // a nested entry has had an exception, and was resumed once
};
static_assert(offsetof(Stay, end) == 40 && offsetof(Stay, exception) == 48);

extern "C" {
void sealift_enclu(Stay* stay);
// At the AEP, in ordinary context. What to do next: AfterAex.
std::uint64_t sealift_at_aex(Stay* stay);
extern const char sealift_aep[], sealift_enclu_insn[], sealift_enclu_fault[];
}

}  // namespace sealift::host

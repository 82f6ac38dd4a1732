// Entering the test enclave with the program's own ENCLU and AEP.
#pragma once

#include <cstdint>

#include "sgx/arch.h"

struct CallState {
  std::uint64_t leaf, tcs, rdi, rsi, rdx;
  std::uint64_t out_rdi, out_rax, out_rbx, out_rcx, out_flags;
};
extern "C" {
int abi_call(CallState* state);
extern const char abi_call_enclu[], abi_call_aep[], abi_call_fixup[];
}

namespace third_party {

enum Outcome { kExited = 0, kAtAep = 1, kFixedUp = 2 };

// One ENCLU; `state` tells what came back.
inline Outcome enclu(CallState& state, sgx::Enclu leaf, std::uint64_t tcs, std::uint64_t rdi = 0, std::uint64_t rsi = 0,
                     std::uint64_t rdx = 0) {
  state = {static_cast<std::uint64_t>(leaf), tcs, rdi, rsi, rdx, 0, 0, 0, 0, 0};
  return static_cast<Outcome>(abi_call(&state));
}

inline Outcome enter(CallState& s, std::uint64_t tcs, std::uint64_t function, std::uint64_t a = 0,
                     std::uint64_t b = 0) {
  return enclu(s, sgx::Enclu::kEenter, tcs, function, a, b);
}

inline Outcome resume(CallState& s, std::uint64_t tcs) {
  return enclu(s, sgx::Enclu::kEresume, tcs);
}

// Enters and resumes after interrupts until EEXIT; the function's result.
inline std::uint64_t run(std::uint64_t tcs, std::uint64_t function, std::uint64_t a = 0, std::uint64_t b = 0) {
  CallState s;
  Outcome o = enter(s, tcs, function, a, b);
  while (o == kAtAep) o = resume(s, tcs);
  return s.out_rdi;
}

}  // namespace third_party

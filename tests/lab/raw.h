// ENCLU as a hostile kernel has it: one leaf at a time, on any TCS, with an AEX wherever it likes.
//
// One thread plays every host thread: a TCS that was interrupted simply stays so until somebody resumes it. Interrupts
// at an exact instruction or at a write to an exact address are made by the CPU's own breakpoints (perf_event_open),
// which the enclave sees as interrupts: EXITINFO is not valid.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace sealift::lab {

// Where to interrupt. At most four at a time.
struct Breakpoint {
  std::uint64_t address;
  bool on_write;  // after a write to this byte; else before this instruction
};

inline constexpr std::uint64_t kException = 0x100;

enum class RawOutcome : std::uint64_t { kExit = 0, kAex = 1, kFault = 2 };

struct RawCall {
  std::uint64_t leaf, tcs;
  std::uint64_t rdi, rsi, rdx;
  std::uint64_t outcome;  // RawOutcome
  std::uint64_t out_rdi, out_rsi, out_rdx, out_r8;
  std::uint64_t exception;  // kException and the vector that the kernel told of at the AEP; 0: an interrupt
  std::uint64_t hit;        // 1: a breakpoint made the AEX
  // After an EEXIT: whatever else the enclave has left.
  std::uint64_t out_rax, out_r9, out_r10, out_r11, out_r12, out_r13, out_r14, out_r15, out_rflags;
  // 1: ENCLU is executed with DF and AC set, and with x87 and SSE exceptions unmasked and rounding towards zero.
  std::uint64_t dirty;
};
static_assert(offsetof(RawCall, out_rax) == 96 && offsetof(RawCall, dirty) == 168);

// The vector and x87 registers as the last EEXIT left them: an XSAVE image in this CPU's layout, zeroes where a
// component is in its initial state.
inline constexpr std::size_t kXsaveImage = 4096;
extern "C" std::uint8_t lab_xsave[kXsaveImage];
static_assert(offsetof(RawCall, outcome) == 40 && offsetof(RawCall, out_r8) == 72);

// Before the enclave's own runtime installs its handlers: ours are then asked for what is not the runtime's.
void raw_install();
// `kick_us`: an interrupt after so many microseconds, again and again until the call is over; 0: none. False with a
// reason in `why`: this machine offers no breakpoints.
[[nodiscard]] bool raw_enclu(RawCall& call, const std::vector<Breakpoint>& breakpoints, std::uint32_t kick_us,
                             std::string& why);

}  // namespace sealift::lab

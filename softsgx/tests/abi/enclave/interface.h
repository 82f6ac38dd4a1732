/* What the test enclave does, by function number; shared with the program that loads it. C and C++. */
#pragma once

#include <stdint.h>

enum Function {
  kAdd, /* a + b */
  kUd2, /* faults; an exception handler may skip them */
  kSyscall,
  kDivide,
  kInt3,
  kRead,       /* *a */
  kWrite,      /* *a = b */
  kEnclu,      /* leaf a with the operands of struct EncluCall at b; RAX */
  kBases,      /* FS base; GS base at *a */
  kHold,       /* hold_registers(pattern a, store to b->out, until b->stop) */
  kCount,      /* count until *a != 0, and report the count */
  kPushOnHost, /* writes b below the host's stack pointer and moves it: see user handler */
  kSetBases,   /* FS base = a, GS base unchanged; then spins until *b != 0; FS base */
  kExecute,    /* calls a */
  kRflags,     /* leaves with RFLAGS.AC and DF set */
  kPageLeaf,   /* EACCEPT, EMODPE or EACCEPTCOPY as in struct PageCall at a; RAX */
  kSum,        /* runs ~1000 instructions and sums */
};

struct EncluCall {
  uint64_t rbx, rcx, rdx;
};

struct PageCall {
  uint64_t leaf;
  uint64_t secinfo_flags;
  uint64_t page;
  uint64_t source; /* EACCEPTCOPY */
};

struct HoldCall {
  uint64_t out;
  uint64_t stop;
};

/* Registers of hold_registers: zmm0-31, k0-7, rbx rcx rsi rdi rbp r8-r15, mxcsr. */
struct RegisterPattern {
  uint8_t zmm[32][64];
  uint64_t mask[8];
  uint64_t gpr[13];
  uint32_t mxcsr;
  uint32_t pad;
};

/* At GS base; filled by the loader. Offsets are known to entry.S. */
struct ThreadBlock {
  uint64_t stack0, stack1;
  uint64_t level[2][3];
  uint64_t ssa; /* address of SSA[0] */
  uint64_t ssa_frame_bytes;
};

/* What enclave_exception (CSSA 1) is asked to do with SSA[0]. */
enum ExceptionRequest {
  kSkip,    /* RIP += a */
  kInspect, /* copy GPRSGX (184 bytes) to a */
};

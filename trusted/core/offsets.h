// Offsets and numbers that assembly shares with C++. thread.h asserts every one of them.
#pragma once

#define TB_STATE 0
#define TB_PREV_STATE 4
#define TB_INDEX 8
#define TB_MIGRATED 12
#define TB_RESUME_RSP 16
#define TB_FSBASE 24
#define TB_EXIT0_RIP 32
#define TB_EXIT0_RSP 40
#define TB_EXIT0_RBP 48
#define TB_EXIT1_RIP 56
#define TB_EXIT1_RSP 64
#define TB_EXIT1_RBP 72
#define TB_CLEAR_TID 80
#define TB_ANSWER_REASON 88
#define TB_ANSWER_A 96
#define TB_ANSWER_B 104
#define TB_ANSWER_C 112
#define TB_SCRATCH_TOP 512  /* a few words of stack for entry and thread exit */
#define TB_STAGE1_TOP 16384 /* = the stride: stage 1's stack grows down from the block's end */

#define STATE_UNBOUND 0
#define STATE_FREE 1
#define STATE_STARTING 2
#define STATE_RUNNING 3
#define STATE_INOCALL 4
#define STATE_PARKED 5

#define GATE_OPEN 1

#define REQUEST_CONTROL 1
#define REQUEST_CALL 2
#define REQUEST_OCALL_RETURN 3
#define REQUEST_THREAD_START 4
#define REQUEST_HANDLE 5
#define REQUEST_OCALL_ANSWERED 6

#define EXIT_DONE 1
#define EXIT_OCALL 2
#define EXIT_REFUSED 3
#define EXIT_THREAD_EXIT 7

#define ERRC_GATE_CLOSED 1
#define ERRC_WRONG_STATE 2
#define ERRC_BAD_REQUEST 3

/* A syscall frame on the interrupted thread's own stack: 64-aligned, vector state first, vendor-neutral. */
#define FRAME_FXSAVE 0
#define FRAME_VECTORS 512 /* ymm0-15, or zmm0-31 */
#define FRAME_OPMASK 2560
#define FRAME_GPRS 2624 /* sgx::GprSgx order: rax rcx rdx rbx rsp rbp rsi rdi r8 … r15 rflags rip */
#define FRAME_SIZE 2816
#define GPR_RAX 0
#define GPR_RCX 8
#define GPR_RDX 16
#define GPR_RBX 24
#define GPR_RSP 32
#define GPR_RBP 40
#define GPR_RSI 48
#define GPR_RDI 56
#define GPR_R8 64
#define GPR_R9 72
#define GPR_R10 80
#define GPR_R11 88
#define GPR_R12 96
#define GPR_R13 104
#define GPR_R14 112
#define GPR_R15 120
#define GPR_RFLAGS 128
#define GPR_RIP 136

#define CONFIG_XFRM 96 /* EnclaveConfig::xfrm */

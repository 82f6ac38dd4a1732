// Thread blocks: what core knows of the thread that each TCS carries. GS base points to it inside the enclave.
//
// All of it lies in the core area: it never enters a checkpoint and is never restored over (design §6.2). What must
// travel of it is written into `record::ThreadEntry` explicitly.
//
// Who writes what:
//  - `state`: the thread itself at entry, exit and parking; clone3 moves another TCS from Unbound to Starting by
//    compare-and-swap; restore writes all of them under the closed gate. Sequentially consistent, see gate.h.
//  - exit contexts: the entry code, from the host's registers, at every EENTER of that level. Hostile values; they are
//    only ever handed back to the host at EEXIT.
//  - everything else: the thread itself, or restore.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "migration/abi.h"
#include "migration/record.h"
#include "sgx/arch.h"
#include "trusted/core/offsets.h"

namespace sealift::core {

using abi::ThreadState;

struct alignas(sgx::kPageSize) ThreadBlock {
  std::atomic<std::uint32_t> state;  // ThreadState
  std::uint32_t prev_state;          // what Running was published over; an entry that is sent out takes it back
  std::uint32_t index;               // of the TCS
  std::uint32_t migrated;            // 1: this thread was restored inside an ocall whose host side no longer exists
  std::uint64_t resume_rsp;          // where the thread's saved context is, on its own stack
  std::uint64_t fsbase;              // the bound thread's TLS
  std::uint64_t exit0_rip, exit0_rsp, exit0_rbp;
  std::uint64_t exit1_rip, exit1_rsp, exit1_rbp;
  std::uint64_t clear_tid;                                    // address that thread exit clears and wakes; 0: none
  std::uint64_t answer_reason, answer_a, answer_b, answer_c;  // stage 1's answer, picked up by the exit code
  std::uint8_t scratch[TB_SCRATCH_TOP - 120];
  std::uint8_t gap[4096 - TB_SCRATCH_TOP];
  record::Stash stash;
  std::uint8_t stage1_stack[TB_STAGE1_TOP - 8192];
};

static_assert(sizeof(ThreadBlock) == TB_STAGE1_TOP);
static_assert(offsetof(ThreadBlock, state) == TB_STATE && offsetof(ThreadBlock, prev_state) == TB_PREV_STATE);
static_assert(offsetof(ThreadBlock, index) == TB_INDEX && offsetof(ThreadBlock, migrated) == TB_MIGRATED);
static_assert(offsetof(ThreadBlock, resume_rsp) == TB_RESUME_RSP && offsetof(ThreadBlock, fsbase) == TB_FSBASE);
static_assert(offsetof(ThreadBlock, exit0_rip) == TB_EXIT0_RIP && offsetof(ThreadBlock, exit0_rbp) == TB_EXIT0_RBP);
static_assert(offsetof(ThreadBlock, exit1_rip) == TB_EXIT1_RIP && offsetof(ThreadBlock, exit1_rbp) == TB_EXIT1_RBP);
static_assert(offsetof(ThreadBlock, clear_tid) == TB_CLEAR_TID);
static_assert(offsetof(ThreadBlock, answer_reason) == TB_ANSWER_REASON);
static_assert(offsetof(ThreadBlock, answer_c) == TB_ANSWER_C && offsetof(ThreadBlock, stash) == 4096);

static_assert(STATE_UNBOUND == static_cast<int>(ThreadState::kUnbound));
static_assert(STATE_FREE == static_cast<int>(ThreadState::kFree));
static_assert(STATE_STARTING == static_cast<int>(ThreadState::kStarting));
static_assert(STATE_RUNNING == static_cast<int>(ThreadState::kRunning));
static_assert(STATE_INOCALL == static_cast<int>(ThreadState::kInOcall));
static_assert(STATE_PARKED == static_cast<int>(ThreadState::kParked));
static_assert(GATE_OPEN == static_cast<int>(abi::GateState::kOpen));
static_assert(REQUEST_CONTROL == static_cast<int>(abi::Request::kControl));
static_assert(REQUEST_CALL == static_cast<int>(abi::Request::kCall));
static_assert(REQUEST_OCALL_RETURN == static_cast<int>(abi::Request::kOcallReturn));
static_assert(REQUEST_THREAD_START == static_cast<int>(abi::Request::kThreadStart));
static_assert(REQUEST_HANDLE == static_cast<int>(abi::Request::kHandle));
static_assert(REQUEST_OCALL_ANSWERED == static_cast<int>(abi::Request::kOcallAnswered));
static_assert(EXIT_DONE == static_cast<int>(abi::Exit::kDone) && EXIT_OCALL == static_cast<int>(abi::Exit::kOcall));
static_assert(EXIT_REFUSED == static_cast<int>(abi::Exit::kRefused));
static_assert(EXIT_THREAD_EXIT == static_cast<int>(abi::Exit::kThreadExit));
static_assert(FRAME_GPRS + sizeof(sgx::GprSgx) <= FRAME_SIZE && FRAME_SIZE % 64 == 0);
static_assert(offsetof(sgx::GprSgx, rip) == GPR_RIP && offsetof(sgx::GprSgx, r15) == GPR_R15);

// The registers of a thread that `syscall` interrupted, at FRAME_GPRS of its frame.
using SyscallRegs = sgx::GprSgx;

extern "C" {
// Those from config().tcs_count on have no pages: nothing may touch them.
extern ThreadBlock sealift_thread_blocks[abi::kMaxTcs];
}

[[nodiscard]] inline ThreadBlock& current_block() noexcept {
  ThreadBlock* tb;
  asm volatile("rdgsbase %0" : "=r"(tb));
  return *tb;
}

[[nodiscard]] inline ThreadState state_of(const ThreadBlock& tb) noexcept {
  return static_cast<ThreadState>(tb.state.load(std::memory_order_seq_cst));
}

inline void publish(ThreadBlock& tb, ThreadState s) noexcept {
  tb.state.store(static_cast<std::uint32_t>(s), std::memory_order_seq_cst);
}

}  // namespace sealift::core

#include "trusted/core/thread.h"

#include "trusted/core/area.h"
#include "trusted/core/core.h"
#include "trusted/core/instance.h"
#include "trusted/core/memory.h"

SEALIFT_CORE_DATA sealift::core::ThreadBlock sealift_thread_blocks[sealift::abi::kMaxTcs];
SEALIFT_CORE_DATA std::atomic<std::uint32_t> sealift_gate;

extern "C" {
std::uint64_t sealift_leave(std::uint64_t reason, std::uint64_t a, std::uint64_t b, std::uint32_t new_state);
[[noreturn]] void sealift_thread_exit(std::uint32_t* clear_tid, std::uint64_t futex_word, std::uint32_t* outside);
}

namespace sealift::core {
namespace {

struct Returned {
  std::uint64_t rsi, rdx;
};

// `sealift_leave` returns two registers; the compiler knows only RAX.
Returned leave(abi::Exit reason, std::uint64_t a, std::uint64_t b, ThreadState state) noexcept {
  Returned r;
  auto rdi = static_cast<std::uint64_t>(reason);
  auto rcx = static_cast<std::uint64_t>(state);
  asm volatile("call sealift_leave"
               : "=a"(r.rsi), "=d"(r.rdx), "+D"(rdi), "+S"(a), "+c"(rcx)
               : "d"(b)
               : "memory", "cc", "r8", "r9", "r10", "r11", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6",
                 "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
  return r;
}

std::uint64_t clamp(std::uint64_t bytes) noexcept {
  return bytes < slot_bytes() ? bytes : slot_bytes();
}

}  // namespace

bool gate_move(abi::GateState from, abi::GateState to) noexcept {
  using G = abi::GateState;
  const bool listed = (from == G::kUnborn && (to == G::kOpen || to == G::kRestoring)) ||
                      (from == G::kOpen && to == G::kQuiescing) ||
                      (from == G::kQuiescing && (to == G::kOpen || to == G::kDestroyed)) ||
                      (from == G::kRestoring && (to == G::kOpen || to == G::kDestroyed));
  if (!listed) return false;
  auto expected = static_cast<std::uint32_t>(from);
  return sealift_gate.compare_exchange_strong(expected, static_cast<std::uint32_t>(to), std::memory_order_seq_cst);
}

std::uint8_t* slot() noexcept {
  return control_slot() + abi::slot_offset(current_block().index, slot_bytes());
}
std::uint64_t slot_bytes() noexcept {
  return config().slot_bytes;
}
std::uint8_t* futex_words() noexcept {
  return control_slot() + abi::futex_offset(config().tcs_count, slot_bytes());
}

OcallResult ocall(abi::OcallOp op, std::uint64_t bytes) noexcept {
  const Returned r = leave(abi::Exit::kOcall, static_cast<std::uint64_t>(op), bytes, ThreadState::kInOcall);
  ThreadBlock& tb = current_block();
  if (tb.migrated != 0) {
    tb.migrated = 0;
    return {true, 0, 0};
  }
  return {false, r.rsi, clamp(r.rdx)};
}

std::uint64_t finish_call(Errc errc, std::uint64_t bytes) noexcept {
  return clamp(leave(abi::Exit::kDone, static_cast<std::uint64_t>(errc), bytes, ThreadState::kFree).rsi);
}

std::uint64_t idle() noexcept {
  return clamp(leave(abi::Exit::kOcall, static_cast<std::uint64_t>(abi::OcallOp::kIdle), 0, ThreadState::kFree).rsi);
}

Errc claim_thread(std::uint32_t first, std::uint32_t last, void* frame, std::uint64_t tls, std::uint64_t clear_tid,
                  std::uint32_t& tcs) noexcept {
  for (std::uint32_t i = first; i < last && i < config().tcs_count; ++i) {
    ThreadBlock& tb = sealift_thread_blocks[i];
    // `resume_rsp` is the claim (0 while unbound). A checkpoint between claim and start carries it (checkpoint.cc).
    std::uint64_t unclaimed = 0;
    if (state_of(tb) != ThreadState::kUnbound) continue;
    if (!__atomic_compare_exchange_n(&tb.resume_rsp, &unclaimed, reinterpret_cast<std::uint64_t>(frame), false,
                                     __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
      continue;
    }
    tb.fsbase = tls;
    tb.clear_tid = clear_tid;
    tb.migrated = 0;
    tcs = i;
    return Errc::kOk;
  }
  return Errc::kNoFreeTcs;
}

void start_thread(std::uint32_t tcs) noexcept {
  publish(sealift_thread_blocks[tcs], ThreadState::kStarting);
}

void exit_thread(std::uint64_t futex_word) noexcept {
  auto* words = reinterpret_cast<std::uint32_t*>(futex_words());
  sealift_thread_exit(reinterpret_cast<std::uint32_t*>(current_block().clear_tid), futex_word,
                      words + futex_word % abi::kFutexWords);
}

void set_tls(std::uint64_t fsbase) noexcept {
  current_block().fsbase = fsbase;
  asm volatile("wrfsbase %0" : : "r"(fsbase));
}

void set_clear_tid(std::uint64_t address) noexcept {
  current_block().clear_tid = address;
}
std::uint32_t thread_index() noexcept {
  return current_block().index;
}

std::uint64_t enosys(std::uint64_t number) noexcept {
  instance().enosys.fetch_add(1, std::memory_order_relaxed);
  instance().last_enosys.store(static_cast<std::uint32_t>(number), std::memory_order_relaxed);
  return static_cast<std::uint64_t>(-38);
}

std::uint64_t epoch() noexcept {
  return instance().epoch;
}
void lineage(std::uint8_t (&out)[16]) noexcept {
  copy(out, instance().lineage, sizeof out);
}

}  // namespace sealift::core

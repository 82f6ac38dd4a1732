// What core offers to the runtime, and what it asks of it. Freestanding on both sides: these functions are called from
// system calls, which may interrupt anything (malloc with its lock held, code before TLS exists).
#pragma once

#include <cstddef>
#include <cstdint>

#include "migration/abi.h"
#include "migration/errc.h"
#include "trusted/core/thread.h"

namespace sealift::core {

// --- For the runtime -----------------------------------------------------------------------------------------------

// This thread's slot of the arena: untrusted memory. Copy once, then validate.
[[nodiscard]] std::uint8_t* slot() noexcept;
[[nodiscard]] std::uint64_t slot_bytes() noexcept;
// The u32 words that host threads wait on.
[[nodiscard]] std::uint8_t* futex_words() noexcept;

struct OcallResult {
  bool migrated;        // the host side of this ocall is on another machine: issue it again, or report Errc::kMigrated
  std::uint64_t value;  // hostile
  std::uint64_t bytes;  // hostile; clamped to the slot
};
// Leaves with kOcall. The thread is InOcall until the host enters with kOcallReturn.
[[nodiscard]] OcallResult ocall(abi::OcallOp op, std::uint64_t bytes) noexcept;

// Ends the current ecall with `errc` and `bytes` of result in the slot; returns the byte count of the next call.
[[nodiscard]] std::uint64_t finish_call(Errc errc, std::uint64_t bytes) noexcept;
// First idle of a freshly started ecall thread.
[[nodiscard]] std::uint64_t idle() noexcept;

// Claims a free TCS in [first, last) for a new thread that continues at `frame` (FRAME_* layout) with FS base `tls`.
// No entry finds it before start_thread: the caller can finish what the thread expects to find.
[[nodiscard]] Errc claim_thread(std::uint32_t first, std::uint32_t last, void* frame, std::uint64_t tls,
                                std::uint64_t clear_tid, std::uint32_t& tcs) noexcept;
void start_thread(std::uint32_t tcs) noexcept;
[[noreturn]] void exit_thread(std::uint64_t futex_word) noexcept;

void set_tls(std::uint64_t fsbase) noexcept;
void set_clear_tid(std::uint64_t address) noexcept;
[[nodiscard]] std::uint32_t thread_index() noexcept;
[[nodiscard]] std::uint64_t enosys(std::uint64_t number) noexcept;  // counts; returns -ENOSYS

// Epoch and lineage, for the application.
[[nodiscard]] std::uint64_t epoch() noexcept;
void lineage(std::uint8_t (&out)[16]) noexcept;

// --- From the runtime ----------------------------------------------------------------------------------------------

extern "C" {
// One `syscall` of application code: sets regs.rax.
void sealift_syscall(SyscallRegs& regs);
// Builds the main thread's stack; returns RSP for `_start`. `argv` is core's copy of `len` bytes of zero-terminated
// strings.
std::uint64_t sealift_boot(std::uint64_t stack_top, const char* argv, std::uint64_t len);
// Bit i: heap page i is in use. In ordinary memory, so that it travels with the pages.
extern std::uint64_t sealift_heap_map[];
void _start();  // glibc's
}

}  // namespace sealift::core

// pthread_create inside: clone3 binds a free TCS to the new thread and asks the host for a thread to enter it.
#include <linux/sched.h>

#include "migration/ocalls.h"
#include "trusted/core/area.h"
#include "trusted/core/memory.h"
#include "trusted/runtime/syscall.h"

namespace sealift::runtime {

bool making_ecall_threads = false;

namespace {

constexpr std::uint64_t kThreadFlags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
                                       CLONE_SYSVSEM | CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;

// The child continues with its parent's registers, so its frame is a copy of the parent's, on the child's stack.
void* child_frame(const SyscallRegs& r, std::uint64_t stack_top) noexcept {
  const std::uint64_t frame = (stack_top - 128 - FRAME_SIZE) & ~std::uint64_t{63};
  const auto* parent = reinterpret_cast<const std::uint8_t*>(&r) - FRAME_GPRS;
  core::copy(reinterpret_cast<void*>(frame), parent, FRAME_SIZE);
  auto& regs = *reinterpret_cast<SyscallRegs*>(frame + FRAME_GPRS);
  regs.rax = 0;
  regs.rsp = stack_top;
  return reinterpret_cast<void*>(frame);
}

}  // namespace

std::uint64_t clone3(const SyscallRegs& r) noexcept {
  clone_args args{};
  if (r.rsi < CLONE_ARGS_SIZE_VER0) return kEinval;
  core::copy(&args, reinterpret_cast<const void*>(r.rdi), CLONE_ARGS_SIZE_VER0);
  if (args.flags != kThreadFlags) return kEinval;
  const std::uint32_t pool = abi::kFirstEcallTcs + core::config().ecall_threads;
  const std::uint32_t first = making_ecall_threads ? abi::kFirstEcallTcs : pool;
  const std::uint32_t last = making_ecall_threads ? pool : core::config().tcs_count;
  std::uint32_t tcs = 0;
  if (core::claim_thread(first, last, child_frame(r, args.stack + args.stack_size), args.tls, args.child_tid, tcs) !=
      Errc::kOk) {
    return kEagain;
  }
  // Both sides expect to find it (CLONE_PARENT_SETTID), the child at its first instruction.
  const std::uint32_t tid = thread_id(tcs);
  *reinterpret_cast<std::uint32_t*>(args.parent_tid) = tid;
  core::start_thread(tcs);
  const abi::SpawnArgs spawn{tcs, 0};
  core::copy(core::slot(), &spawn, sizeof spawn);
  // If this migrates, the target's host enters every Starting TCS of its own accord: never ask twice.
  [[maybe_unused]] const core::OcallResult done = core::ocall(abi::OcallOp::kSpawn, sizeof spawn);
  return tid;
}

void thread_exit() noexcept {
  core::exit_thread(futex_word(core::current_block().clear_tid));
}

void process_exit(std::uint64_t status) noexcept {
  for (;;) {
    const auto code = static_cast<std::uint32_t>(status);
    core::copy(core::slot(), &code, sizeof code);
    [[maybe_unused]] const core::OcallResult done = core::ocall(abi::OcallOp::kMainDone, sizeof code);
  }
}

}  // namespace sealift::runtime

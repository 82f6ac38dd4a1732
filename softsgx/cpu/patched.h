// ENCLU without an exception, for sites that are laid out for it (include/sgx/enclu_site.h).
//
// The first EENTER or EEXIT at a site traps as ever, and then patches it: from then on the thread jumps to patched.S,
// blocks its signals, performs the same leaf function as the trap handler does and goes where the leaf says. Any other
// leaf there, and one that faults, traps. An interrupt never sees a thread in between: it finds it at the site, or
// behind the leaf.
#pragma once

#include <ucontext.h>

#include <cstdint>

#include "softsgx/cpu/thread_record.h"

namespace softsgx {

class PatchedEnclu {
 public:
  // Off by default. Before the program has threads.
  static void enable() noexcept;

  // What stands at `enclu`, where ENCLU is about to execute, may be patched once it has succeeded. Not in a debug
  // enclave, whose owner reads its code (EDBGRD). In the trap handler, before the leaf.
  [[nodiscard]] static bool may_patch(std::uint64_t enclu, const ThreadRecord& record) noexcept;
  static void patch(std::uint64_t enclu) noexcept;

  // The thread is inside now, with this GS base, by which patched.S finds its record at EEXIT.
  static void entered(ThreadRecord& record, std::uint64_t gsbase) noexcept;

  // First thing in every signal handler: a thread on its way between a site and where its leaf leads is put at the
  // site's ENCLU, or at the end of the way. `synchronous`: raised by an instruction at RIP.
  static void settle(ucontext_t& context, ThreadRecord& record, bool synchronous) noexcept;
};

}  // namespace softsgx

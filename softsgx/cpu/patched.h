// ENCLU without an exception, for sites that are laid out for it (include/sgx/enclu_site.h).
//
// The first EENTER or EEXIT at a site traps, and patches it: from then on the thread jumps to patched.S,
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

  // EENTER or EEXIT is about to execute at `enclu`: patches it if it is a site's. Not in a debug enclave, whose owner
  // reads its code (EDBGRD), nor in a writable page, which a checkpoint may hold. In the trap handler: an enclave's
  // pages stay while the thread is inside.
  static void patch(std::uint64_t enclu, const ThreadRecord& record) noexcept;

  // The thread is inside now: patched.S finds its record at EEXIT by the GS base that its TCS names.
  static void entered(ThreadRecord& record) noexcept;

  // First thing in every signal handler: a thread on its way between a site and where its leaf leads is put at the
  // site's ENCLU, or at the end of the way. True if it was at patched.S's own ENCLU.
  static bool settle(ucontext_t& context, ThreadRecord& record) noexcept;

  static void after_fork() noexcept;
};

}  // namespace softsgx

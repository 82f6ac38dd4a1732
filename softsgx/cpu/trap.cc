#include "softsgx/cpu/trap.h"

#include <cstring>

#include "softsgx/cpu/bases.h"
#include "softsgx/cpu/context.h"
#include "softsgx/cpu/cpuid.h"
#include "softsgx/cpu/deliver.h"
#include "softsgx/cpu/enclave_mode.h"
#include "softsgx/cpu/interrupt.h"
#include "softsgx/cpu/patched.h"
#include "softsgx/cpu/signal_table.h"
#include "softsgx/cpu/single_step.h"
#include "softsgx/cpu/thread_arena.h"
#include "softsgx/isa/raw_syscall.h"

// SYS_USER_DISPATCH of <asm-generic/siginfo.h>; glibc 2.36 does not name it.
#ifndef SYS_USER_DISPATCH
#define SYS_USER_DISPATCH 2
#endif

namespace softsgx {
namespace {

constexpr std::uint64_t kSyscallLength = 2;  // 0f 05
constexpr std::uint64_t kInt3Length = 1;
constexpr std::uint32_t kMaxRepeats = 10000;

// A trap on its way through the layers; `info` is what the program will be told.
struct Trap {
  siginfo_t& info;
  ucontext_t& context;
  ThreadRecord& record;
  bool at_own_enclu;  // raised by ENCLU, in softsgx's stead for that at RIP
};

[[noreturn]] void die(const char* message) noexcept {
  raw::call(SYS_write, 2, raw::arg(message), std::strlen(message));
  raw::call(SYS_exit_group, 134);
  __builtin_trap();
}

// Raised by the thread's own instruction, as opposed to sent.
bool synchronous(const siginfo_t& i) noexcept {
  if (i.si_code <= 0) return false;
  switch (i.si_signo) {
    case SIGILL:
    case SIGSEGV:
    case SIGFPE:
      return true;
    case SIGBUS:
      return i.si_code != BUS_MCEERR_AO;
    case SIGTRAP:
      return i.si_code != 6;  // TRAP_PERF
    default:
      return false;
  }
}

bool inside(const ThreadRecord& r) noexcept {
  return r.lp.enclave_mode;
}

std::uint64_t page_of(std::uint64_t address) noexcept {
  return address & ~std::uint64_t{sgx::kPageSize - 1};
}

void leave_by_interrupt(const Trap& t) noexcept {
  asynchronous_exit(t.context, t.record, enclu::AexEvent{});
}

// An exception becomes the program's signal: at the vDSO's ENCLU the kernel's fix-up takes its place.
void raise(const Trap& t, unsigned vector, std::uint32_t error_code, std::uint64_t address) noexcept {
  set_trap(t.context, vector, error_code);
  const bool debug = vector == sgx::vector::kDb || vector == sgx::vector::kBp;
  if (rip(t.context) == g_processor.vdso_enclu && !debug) {
    greg_t* g = t.context.uc_mcontext.gregs;
    g[REG_RIP] = static_cast<greg_t>(g_processor.vdso_exception);
    g[REG_RDI] = vector;
    g[REG_RSI] = error_code;
    g[REG_RDX] = static_cast<greg_t>(address);
    return;
  }
  deliver_to_program(t.info, t.context, t.record);
}

void set_info(siginfo_t& info, int signal, int code, std::uint64_t address) noexcept {
  std::memset(&info, 0, sizeof info);
  info.si_signo = signal;
  info.si_code = code;
  info.si_addr = reinterpret_cast<void*>(address);
}

// What Linux tells the program about an exception (arch/x86/kernel/traps.c, mm/fault.c). si_addr of #UD, #DE, #MF and
// #XM is RIP, which after an AEX is the AEP.
void describe(const Trap& t, unsigned vector, std::uint64_t address, int segv_code) noexcept {
  switch (vector) {
    case sgx::vector::kUd:
      set_info(t.info, SIGILL, ILL_ILLOPN, rip(t.context));
      break;
    case sgx::vector::kGp:
      set_info(t.info, SIGSEGV, SI_KERNEL, 0);
      break;
    case sgx::vector::kPf:
      if (segv_code == BUS_ADRERR && t.info.si_signo == SIGBUS) {
        set_info(t.info, SIGBUS, BUS_ADRERR, address);
      } else {
        set_info(t.info, SIGSEGV, segv_code, address);
      }
      break;
    default:
      if (t.info.si_signo == SIGFPE) t.info.si_addr = reinterpret_cast<void*>(rip(t.context));
  }
}

// An exception of the enclave's own instruction, or of ENCLU outside: AEX first if inside, then the program.
void exception(const Trap& t, unsigned vector, std::uint32_t error_code, std::uint64_t address,
               int segv_code) noexcept {
  std::uint64_t reported = address;
  if (inside(t.record)) {
    asynchronous_exit(t.context, t.record,
                      enclu::AexEvent{.exception = true,
                                      .vector = static_cast<std::uint8_t>(vector),
                                      .error_code = error_code,
                                      .address = address});
    reported = page_of(reported);  // SDM 3D, section 35.3: the offset within the page is not told
  }
  describe(t, vector, reported, segv_code);
  raise(t, vector, error_code, reported);
}

// A fault that is "resolved" again and again without progress is a bug of ours: better a message than a hang.
void count_retry(ThreadRecord& r, std::uint64_t address) noexcept {
  r.fault_repeats = r.last_fault == address ? r.fault_repeats + 1 : 0;
  r.last_fault = address;
  if (r.fault_repeats > kMaxRepeats) die("softsgx: a page fault repeats without end; please report this\n");
}

void page_fault(const Trap& t, std::uint64_t address, std::uint32_t access, std::uint32_t native_error) noexcept {
  switch (g_processor.platform->page_fault(address, access)) {
    case FaultAnswer::kRetry:
      count_retry(t.record, address);
      return;
    case FaultAnswer::kEpcm:
      exception(t, sgx::vector::kPf, pfec::kPresent | pfec::kUser | pfec::kSgx | access, address, SEGV_ACCERR);
      return;
    case FaultAnswer::kAccess:
      exception(t, sgx::vector::kPf, pfec::kPresent | pfec::kUser | access, address, SEGV_ACCERR);
      return;
    case FaultAnswer::kBus:
      t.info.si_signo = SIGBUS;
      exception(t, sgx::vector::kPf, pfec::kUser | access, address, BUS_ADRERR);
      return;
    case FaultAnswer::kNotOurs:
      // The program's own fault: what the kernel said stands. (A leaf's operand has no kernel's word for it.)
      if (!inside(t.record) && trap_number(t.context) == sgx::vector::kPf) {
        return deliver_to_program(t.info, t.context, t.record);
      }
      exception(t, sgx::vector::kPf, native_error, address, t.info.si_signo == SIGBUS ? BUS_ADRERR : t.info.si_code);
      return;
  }
}

std::uint32_t access_of(std::uint32_t error_code) noexcept {
  return error_code & (pfec::kWrite | pfec::kFetch);
}

void enclu_fault(const Trap& t, const Fault& fault) noexcept {
  switch (fault.kind) {
    case Fault::Kind::kGp:
      return exception(t, sgx::vector::kGp, 0, 0, 0);
    case Fault::Kind::kUd:
      return exception(t, sgx::vector::kUd, 0, 0, 0);
    case Fault::Kind::kPf:
      // Page tables come before the EPCM: a page that is not mapped is the driver's to answer first.
      if (g_processor.platform->address_space().epc_page(fault.address) == kNotEpc) {
        t.info.si_code = SEGV_MAPERR;
        t.info.si_signo = SIGSEGV;
        return page_fault(t, fault.address, access_of(fault.error_code),
                          fault.error_code & ~(pfec::kPresent | pfec::kSgx));
      }
      return exception(t, sgx::vector::kPf, fault.error_code, fault.address, SEGV_ACCERR);
    case Fault::Kind::kNone:
      return;
  }
}

bool changes_rights(std::uint32_t leaf) noexcept {
  return leaf == static_cast<std::uint32_t>(sgx::Enclu::kEaccept) ||
         leaf == static_cast<std::uint32_t>(sgx::Enclu::kEmodpe) ||
         leaf == static_cast<std::uint32_t>(sgx::Enclu::kEacceptcopy);
}

bool transfers(std::uint32_t leaf) noexcept {
  return leaf == static_cast<std::uint32_t>(sgx::Enclu::kEenter) ||
         leaf == static_cast<std::uint32_t>(sgx::Enclu::kEexit);
}

bool canonical(std::uint64_t address) noexcept {
  return static_cast<std::uint64_t>(static_cast<std::int64_t>(address << 16) >> 16) == address;
}

// Silicon would have faulted at the next fetch. Here the thread found other bytes under its RIP (0xff in free EPC is
// #UD), or somebody has unmapped them by now; whatever it raised, this is what happened.
bool on_epc_loss(const Trap& t) noexcept {
  if (!t.record.lp.lost(*g_processor.machine)) return false;
  g_processor.platform->epc_lost();
  t.info.si_signo = SIGSEGV;
  constexpr std::uint32_t kError = pfec::kPresent | pfec::kUser | pfec::kSgx | pfec::kFetch;
  exception(t, sgx::vector::kPf, kError, rip(t.context), SEGV_ACCERR);
  return true;
}

void on_enclu(const Trap& t) noexcept {
  if (!ThreadArena::arm_dispatch(t.record)) {
    die("softsgx: this kernel refuses Syscall User Dispatch (Linux 5.11 with CONFIG_GENERIC_ENTRY is needed)\n");
  }
  const bool was_inside = inside(t.record);
  const auto leaf_number = static_cast<std::uint32_t>(t.context.uc_mcontext.gregs[REG_RAX]);
  const auto operand = static_cast<std::uint64_t>(t.context.uc_mcontext.gregs[REG_RCX]);
  if (transfers(leaf_number)) PatchedEnclu::patch(rip(t.context), t.record);
  const auto tcs = static_cast<std::uint64_t>(t.context.uc_mcontext.gregs[REG_RBX]);  // EENTER's and ERESUME's
  const std::uint64_t generation = g_processor.machine->generation();
  const Leaf leaf = execute_enclu(t.context, t.record);
  if (leaf.faulted()) {
    // Or the leaf read some of what it goes by before EPC was exchanged and some after, and found that it does not fit.
    if (was_inside && on_epc_loss(t)) return;
    const bool exchanged = !was_inside && generation != g_processor.machine->generation();
    if (exchanged) g_processor.platform->epc_lost();
    return enclu_fault(t, exchanged ? Leaf::pf(tcs).fault : leaf.fault);
  }
  if (was_inside) {
    if (changes_rights(leaf_number)) g_processor.platform->rights_changed(operand);
    return;
  }
  // The kernel kills a process whose signal frame has a non-canonical RIP; a CPU raises #GP there.
  if (!canonical(rip(t.context))) return exception(t, sgx::vector::kGp, 0, 0, 0);
  // The trap flag only traps after the first instruction: --single-step also wants the AEX before it.
  if (leaf_number == static_cast<std::uint32_t>(sgx::Enclu::kEenter) && SingleStep::hits(t.record, rip(t.context))) {
    leave_by_interrupt(t);
  }
}

void on_trap_inside(const Trap& t) noexcept {
  if (trap_number(t.context) == sgx::vector::kDb && SingleStep::enabled()) {
    if (SingleStep::hits(t.record, rip(t.context))) leave_by_interrupt(t);
    return;
  }
  // INT3 in an enclave entered without debug opt-in is fault-class: RIP is INT3's own (SDM 3D, section 39.3).
  if (trap_number(t.context) == sgx::vector::kBp && !t.record.lp.dbgoptin) {
    set_rip(t.context, rip(t.context) - kInt3Length);
  }
  exception(t, trap_number(t.context), 0, 0, 0);
}

// A page fault where EENTER or ERESUME, if that is what the thread executes, would have its TCS.
bool on_tcs_of_entry(const Trap& t) noexcept {
  const greg_t* g = t.context.uc_mcontext.gregs;
  const auto leaf = static_cast<std::uint32_t>(g[REG_RAX]);
  const bool enters = leaf == static_cast<std::uint32_t>(sgx::Enclu::kEenter) ||
                      leaf == static_cast<std::uint32_t>(sgx::Enclu::kEresume);
  return enters && (trap_error(t.context) & pfec::kFetch) == 0 &&
         page_of(reinterpret_cast<std::uint64_t>(t.info.si_addr)) == page_of(static_cast<std::uint64_t>(g[REG_RBX]));
}

// What the CPU makes of ENCLU is #UD if it has no SGX. One that has it executes ENCLU whatever CPUID says (a hypervisor
// cannot keep a guest from it), and knows no enclave of softsgx's: #GP, or #PF on an aligned TCS that lies in no EPC
// (SDM 3D, section 40.4, EENTER and ERESUME).
bool raised_by_enclu(const Trap& t) noexcept {
  switch (trap_number(t.context)) {
    case sgx::vector::kUd:
    case sgx::vector::kGp:
      break;
    case sgx::vector::kPf:
      if (!on_tcs_of_entry(t)) return false;
      break;
    default:
      return false;
  }
  return t.at_own_enclu || (canonical(rip(t.context)) && at_enclu(t.context, t.record));
}

// Not an exit: silicon would have executed the instruction.
bool on_base_access(const Trap& t) noexcept {
  if (!inside(t.record) || !Bases::emulate(t.context, t.record)) return false;
  if (SingleStep::hits(t.record, rip(t.context))) leave_by_interrupt(t);
  return true;
}

// A synchronous fault; true if it has been dealt with.
bool on_fault(const Trap& t) noexcept {
  if (on_epc_loss(t)) return true;
  const int signal = t.info.si_signo;
  const unsigned vector = trap_number(t.context);
  if (raised_by_enclu(t)) {
    set_trap(t.context, sgx::vector::kUd, 0);  // on every CPU from here on
    set_info(t.info, SIGILL, ILL_ILLOPN, rip(t.context));
    return on_enclu(t), true;
  }
  if (signal == SIGILL && on_base_access(t)) return true;
  if (signal == SIGILL && !inside(t.record) && CpuidPresentation::emulate_patched(t.context)) return true;
  if (signal == SIGSEGV && vector == sgx::vector::kGp && CpuidPresentation::faulting() &&
      at_cpuid(t.context, t.record)) {
    if (inside(t.record)) return on_epc_loss(t) || (exception(t, sgx::vector::kUd, 0, 0, 0), true);
    return CpuidPresentation::emulate(t.context), true;
  }
  if ((signal == SIGSEGV || signal == SIGBUS) && vector == sgx::vector::kPf) {
    const auto address = reinterpret_cast<std::uint64_t>(t.info.si_addr);
    const std::uint32_t error = trap_error(t.context);
    return page_fault(t, address, access_of(error), error), true;
  }
  if (!inside(t.record)) return false;
  if (on_epc_loss(t)) return true;  // since the first look: the bytes that were not ours may have been 0xff
  if (signal == SIGTRAP) return on_trap_inside(t), true;
  exception(t, vector, trap_error(t.context), 0, 0);
  return true;
}

void dispatch(const Trap& t) noexcept {
  if (Interrupts::tells_of_loss(t.info)) {
    g_processor.platform->epc_lost();
    if (t.record.lp.lost(*g_processor.machine)) leave_by_interrupt(t);
    return;
  }
  if (Interrupts::is_interrupt(t.info)) {
    if (inside(t.record)) leave_by_interrupt(t);
    return;
  }
  if (t.info.si_signo == SIGSYS && t.info.si_code == SYS_USER_DISPATCH && inside(t.record)) {
    // SYSCALL is #UD in an enclave. The kernel reports RIP past it; RCX and R11 are already lost.
    set_rip(t.context, rip(t.context) - kSyscallLength);
    return exception(t, sgx::vector::kUd, 0, 0, 0);
  }
  if (synchronous(t.info)) {
    if (on_fault(t)) return;
  } else if (inside(t.record)) {
    leave_by_interrupt(t);
  }
  deliver_to_program(t.info, t.context, t.record);
}

}  // namespace
}  // namespace softsgx

void softsgx_on_signal(int signal, siginfo_t* info, void* raw_context, softsgx::ThreadRecord* record) {
  using namespace softsgx;
  auto& context = *static_cast<ucontext_t*>(raw_context);
  if (!record) {
    // First signal of a thread that pthread_create did not make. Once this frame is left, its alternate stack is ours,
    // and the instruction (or the signal) comes again.
    if (!ThreadArena::arm(&context)) die("softsgx: more threads than this process can have records for\n");
    if (!synchronous(*info) || signal == SIGTRAP) queue_again(*info);
    return;
  }
  siginfo_t told = *info;
  const bool at_own_enclu = PatchedEnclu::settle(context, *record);
  dispatch(Trap{told, context, *record, at_own_enclu});
  SingleStep::arm(context, *record);
  record->active_secs.store(record->lp.secs, std::memory_order_relaxed);
  record->in_enclave.store(record->lp.enclave_mode, std::memory_order_seq_cst);
}

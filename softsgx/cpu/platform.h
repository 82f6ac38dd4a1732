// What the CPU layer needs from the operating system's side: page tables and page faults. The driver implements it.
#pragma once

#include <atomic>
#include <cstdint>

#include "softsgx/cpu/xsave_layout.h"
#include "softsgx/isa/leaf.h"
#include "softsgx/isa/machine.h"

namespace softsgx {

// How the kernel would answer a page fault.
enum class FaultAnswer {
  kNotOurs,  // no enclave there: an ordinary fault of the program
  kRetry,    // resolved: execute the instruction again
  kEpcm,     // refused by the EPCM: SIGSEGV, SEGV_ACCERR, error code with bit 15 (SGX)
  kAccess,   // refused by the mapping's rights: SIGSEGV, SEGV_ACCERR
  kBus,      // no page to be had: SIGBUS, BUS_ADRERR
};

// All members are called in signal handlers, in host FS, with all signals blocked.
class Platform {
 public:
  virtual ~Platform() = default;
  [[nodiscard]] virtual const AddressSpace& address_space() const noexcept = 0;
  // `access`: pfec::kWrite, pfec::kFetch or 0 (a read).
  virtual FaultAnswer page_fault(std::uint64_t address, std::uint32_t access) noexcept = 0;
  // The EPCM rights of the page at `address` changed (EACCEPT, EMODPE, EACCEPTCOPY): mapping follows.
  virtual void rights_changed(std::uint64_t address) noexcept = 0;
  // The EPC page that a thread inside has fetched an instruction from, also if its mapping has gone since then; kNotEpc
  // if EPC is lost. Lock-free.
  [[nodiscard]] virtual EpcIndex fetched_page(std::uint64_t linaddr) const noexcept = 0;
  // A thread found its enclave's EPC lost (LogicalProcessor::lost): mappings of such enclaves go.
  virtual void epc_lost() noexcept = 0;
};

// The process's machine. Set once by the preload library, before any thread can execute ENCLU.
struct Processor {
  Machine* machine = nullptr;
  Platform* platform = nullptr;
  std::uint64_t xcr0 = 0;            // the host's, and …
  XsaveLayout xsave;                 // … where its XSAVE puts what: a handler cannot ask, as CPUID may fault
  std::uint64_t vdso_enclu = 0;      // address of __vdso_sgx_enter_enclave's ENCLU, and …
  std::uint64_t vdso_exception = 0;  // … where an exception there continues (arch/x86's exception fix-up)
};
extern Processor g_processor;

}  // namespace softsgx

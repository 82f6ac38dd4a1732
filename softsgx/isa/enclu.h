// The user leaves, ENCLU[*] (SDM 3D, chapter 36.4), and asynchronous exit (chapter 35.3).
//
// All are async-signal-safe: they take no lock; memory operands inside the enclave are reached through the machine's
// own mapping, after the EPCM checks, and so cannot fault the handler. On a fault nothing has changed and registers are
// as they were. Otherwise `regs` holds what the instruction leaves behind, with rip past it (or at the transfer's
// target); RAX and ZF are set where the leaf returns a code.
//
// What the CPU layer does afterwards: load `regs`, including FS and GS base. EENTER and EEXIT leave extended state
// alone; AEX and ERESUME load the XSAVE image that they return.
#pragma once

#include "softsgx/isa/leaf.h"
#include "softsgx/isa/machine.h"

namespace softsgx::enclu {

// RBX: TCS, RCX: AEP.
Leaf eenter(Machine& m, const AddressSpace& as, LogicalProcessor& lp, Registers& regs) noexcept;
// RBX: target address outside.
Leaf eexit(Machine& m, LogicalProcessor& lp, Registers& regs) noexcept;
// RBX: TCS, RCX: AEP. `xsave` receives the frame's state, masked by XFRM; a frame that XRSTOR would refuse is #GP(0).
Leaf eresume(Machine& m, const AddressSpace& as, LogicalProcessor& lp, Registers& regs, XsaveImage& xsave) noexcept;

// Why an AEX happens. Interrupts have no vector to report.
struct AexEvent {
  bool exception = false;        // an exception raised by the enclave's own instruction
  std::uint8_t vector = 0;       // sgx::vector, if `exception`
  std::uint32_t error_code = 0;  // #GP, #PF: goes to EXINFO.ERRCD if MISCSELECT allows
  std::uint64_t address = 0;     // #PF: goes to EXINFO.MADDR, if MISCSELECT allows
};

// Leaves enclave mode asynchronously. In: `regs` and `xsave` as the enclave had them. Out: synthetic state, rip = AEP,
// RAX = 3 (ERESUME), RBX = TCS, RCX = AEP, RSP and RBP as at the last EENTER (or as the enclave set them), FS and GS
// the host's, `xsave` clean. If the EPC is lost nothing is saved. lp must be in enclave mode. Cannot fail. regs.rip is
// the address of the faulting instruction for faults, of the next for interrupts and traps.
void aex(Machine& m, LogicalProcessor& lp, Registers& regs, XsaveImage& xsave, const AexEvent& event) noexcept;

// RBX: TARGETINFO, RCX: REPORTDATA, RDX: where the REPORT goes. RAX is left alone.
Leaf ereport(Machine& m, const AddressSpace& as, LogicalProcessor& lp, Registers& regs) noexcept;
// RBX: KEYREQUEST, RCX: where the 16-byte key goes.
Leaf egetkey(Machine& m, const AddressSpace& as, LogicalProcessor& lp, Registers& regs) noexcept;
// RBX: SECINFO, RCX: page.
Leaf eaccept(Machine& m, const AddressSpace& as, LogicalProcessor& lp, Registers& regs) noexcept;
// RBX: SECINFO, RCX: page. The driver must widen its mapping's rights afterwards (page_rights).
Leaf emodpe(Machine& m, const AddressSpace& as, LogicalProcessor& lp, Registers& regs) noexcept;
// RBX: SECINFO, RCX: destination, RDX: source.
Leaf eacceptcopy(Machine& m, const AddressSpace& as, LogicalProcessor& lp, Registers& regs) noexcept;

// Executes the ENCLU at regs.rip: dispatches on EAX; a leaf that does not exist, or is not allowed in the present mode
// (EENTER inside, EEXIT outside), is #GP(0). `xsave` is written by ERESUME only.
Leaf execute(Machine& m, const AddressSpace& as, LogicalProcessor& lp, Registers& regs, XsaveImage& xsave) noexcept;

// Size in bytes of the XSAVE area for `xfrm` in Intel's layout; and the pages that a frame needs at least, given
// MISCSELECT.
[[nodiscard]] std::size_t xsave_size(std::uint64_t xfrm) noexcept;
[[nodiscard]] std::uint32_t min_ssaframesize(std::uint64_t xfrm, std::uint32_t miscselect) noexcept;

}  // namespace softsgx::enclu

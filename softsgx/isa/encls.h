// The supervisor leaves, ENCLS[*] (SDM 3D, chapter 36.3), as the driver calls them.
//
// EPC pages are named by index instead of by a kernel address; other operands are ordinary memory of the caller, read
// once. Any thread of any process may call any of them; conflicting concurrent use of a page is #GP(0), as in the SDM.
// A driver that serialises its own ioctls per enclave never sees that. Nothing here takes the machine's lock.
#pragma once

#include "sgx/arch.h"
#include "softsgx/isa/leaf.h"
#include "softsgx/isa/machine.h"

namespace softsgx::encls {

// Makes the allocated page `epc` a SECS from `source`. `flags` of `secinfo` must be those of PT_SECS (0).
Leaf ecreate(Machine& m, EpcIndex epc, const sgx::Secs& source, const sgx::Secinfo& secinfo) noexcept;

// Adds `source` (4096 bytes) as a PT_REG or PT_TCS page at `linaddr`. Measures the page's address and SECINFO, not yet
// its contents.
Leaf eadd(Machine& m, EpcIndex epc, EpcIndex secs, std::uint64_t linaddr, const void* source,
          const sgx::Secinfo& secinfo) noexcept;

// Measures 256 bytes of a page; `chunk` is 0..15.
Leaf eextend(Machine& m, EpcIndex epc, EpcIndex secs, unsigned chunk) noexcept;

// The 16 EEXTENDs of a page, in order.
Leaf eextend_page(Machine& m, EpcIndex epc, EpcIndex secs) noexcept;

// Verifies SIGSTRUCT, fixes MRENCLAVE and MRSIGNER and makes the enclave enterable. No EINITTOKEN: as with flexible
// launch control and Linux. (Whether ATTRIBUTES.PROVISIONKEY may be set is the driver's decision, before this.)
// Allocates memory (RSA); not for signal handlers.
Leaf einit(Machine& m, EpcIndex secs, const sgx::Sigstruct& sigstruct) noexcept;

Leaf eremove(Machine& m, EpcIndex epc) noexcept;

// SGX2. EAUG adds a zeroed PENDING page, R|W, to an initialised enclave.
Leaf eaug(Machine& m, EpcIndex epc, EpcIndex secs, std::uint64_t linaddr) noexcept;
// Intersects rights with SECINFO's and sets PR; EACCEPT follows.
Leaf emodpr(Machine& m, EpcIndex epc, const sgx::Secinfo& secinfo) noexcept;
// Changes the type to PT_TCS or PT_TRIM and sets MODIFIED; EACCEPT follows.
Leaf emodt(Machine& m, EpcIndex epc, const sgx::Secinfo& secinfo) noexcept;
Leaf eblock(Machine& m, EpcIndex epc) noexcept;
// Starts a tracking cycle: SGX_PREV_TRK_INCMPL while a thread that entered before the previous one is still inside.
// An EACCEPT after EMODPR/EMODT answers SGX_NOT_TRACKED until every thread that was inside at the ETRACK has left.
Leaf etrack(Machine& m, EpcIndex secs) noexcept;

// Debug enclaves only. `offset` is a multiple of 8 within the page.
Leaf edbgrd(Machine& m, EpcIndex epc, std::uint32_t offset, std::uint64_t& value) noexcept;
Leaf edbgwr(Machine& m, EpcIndex epc, std::uint32_t offset, std::uint64_t value) noexcept;

}  // namespace softsgx::encls

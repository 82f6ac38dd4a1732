// What a leaf function takes and answers: registers, the logical processor's SGX state, faults.
//
// Everything here is plain data. Nothing allocates, throws or locks, so that signal handlers can use it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "sgx/arch.h"
#include "softsgx/isa/machine.h"

namespace softsgx {

// Bits of a page-fault error code (SDM 3A, section 4.7; bit 15: SDM 3D, section 34.3).
namespace pfec {
inline constexpr std::uint32_t kPresent = 1u << 0;
inline constexpr std::uint32_t kWrite = 1u << 1;
inline constexpr std::uint32_t kUser = 1u << 2;
inline constexpr std::uint32_t kFetch = 1u << 4;
inline constexpr std::uint32_t kSgx = 1u << 15;
}  // namespace pfec

// RFLAGS bits that leaves read or write.
namespace rflags {
inline constexpr std::uint64_t kCf = 1u << 0, kPf = 1u << 2, kAf = 1u << 4, kZf = 1u << 6, kSf = 1u << 7;
inline constexpr std::uint64_t kTf = 1u << 8, kDf = 1u << 10, kOf = 1u << 11, kRf = 1u << 16, kAc = 1u << 18;
inline constexpr std::uint64_t kStatus = kCf | kPf | kAf | kZf | kSf | kOf;
}  // namespace rflags

// An exception that a leaf raises instead of completing. The faulting leaf has changed nothing.
struct Fault {
  enum class Kind : std::uint8_t { kNone, kGp, kPf, kUd };
  Kind kind = Kind::kNone;
  std::uint32_t error_code = 0;  // #PF: PFEC including kSgx; #GP: 0
  std::uint64_t address = 0;     // #PF: what CR2 would hold
};

// What a leaf answers. If `fault` is set, `error` and `zf` mean nothing and no register was changed.
// `error` is what the SDM returns in RAX for leaves that return a code; `zf` is RFLAGS.ZF.
struct [[nodiscard]] Leaf {
  Fault fault;
  sgx::Error error = sgx::Error::kSuccess;
  bool zf = false;
  [[nodiscard]] bool faulted() const noexcept { return fault.kind != Fault::Kind::kNone; }
  [[nodiscard]] bool ok() const noexcept { return !faulted() && error == sgx::Error::kSuccess; }

  static Leaf gp() noexcept { return Leaf{.fault = {.kind = Fault::Kind::kGp}}; }
  static Leaf ud() noexcept { return Leaf{.fault = {.kind = Fault::Kind::kUd}}; }
  static Leaf pf(std::uint64_t address, std::uint32_t access = 0) noexcept {
    return Leaf{.fault = {.kind = Fault::Kind::kPf,
                          .error_code = pfec::kPresent | pfec::kUser | pfec::kSgx | access,
                          .address = address}};
  }
  static Leaf fail(sgx::Error e) noexcept { return Leaf{.fault = {}, .error = e, .zf = true}; }
};

// The registers that ENCLU leaves and AEX read and write. `rip` is the address of the ENCLU instruction itself when a
// leaf is called, and of the next instruction to execute when it returns without a fault.
struct Registers {
  std::uint64_t rax = 0, rcx = 0, rdx = 0, rbx = 0, rsp = 0, rbp = 0, rsi = 0, rdi = 0;
  std::uint64_t r8 = 0, r9 = 0, r10 = 0, r11 = 0, r12 = 0, r13 = 0, r14 = 0, r15 = 0;
  std::uint64_t rip = 0, rflags = 0;
  std::uint64_t fsbase = 0, gsbase = 0;
  std::uint64_t xcr0 = 0;  // what CPUID and XGETBV would answer; the CPU layer fills it with the host's before EENTER
};

inline constexpr std::size_t kEncluLength = 3;  // 0f 01 d7

// The SGX state of one logical processor, that is, of one host thread (SDM 3D, table "Internal state").
// Zero-initialised means: not in enclave mode. Owned by the CPU layer, one per thread, used by that thread only.
struct LogicalProcessor {
  bool enclave_mode = false;                         // CR_ENCLAVE_MODE
  bool dbgoptin = false;                             // CR_DBGOPTIN: entered by a TCS with FLAGS.DBGOPTIN
  bool saved_tf = false;                             // CR_SAVE_TF, for opt-out entries
  EpcIndex secs = kNotEpc;                           // CR_ACTIVE_SECS
  EpcIndex tcs = kNotEpc;                            // CR_TCS_PA
  EpcIndex ssa_xsave = kNotEpc;                      // CR_XSAVE_PAGE: first page of the current SSA frame
  EpcIndex ssa_gpr = kNotEpc;                        // CR_GPR_PA: last page of the current SSA frame
  std::uint32_t track_epoch = 0;                     // tracking epoch of this entry (ETRACK)
  std::uint64_t generation = 0;                      // Machine::generation at entry; see lost()
  std::uint64_t xfrm = 0;                            // the enclave's
  std::uint64_t ursp = 0, urbp = 0;                  // the host's at entry, should the SSA be lost
  std::uint64_t tcs_linaddr = 0;                     // CR_TCS_LA
  std::uint64_t aep = 0;                             // TCS.AEP
  std::uint64_t elrange_base = 0, elrange_size = 0;  // CR_ELRANGE
  std::uint64_t saved_fsbase = 0, saved_gsbase = 0;  // CR_SAVE_FS, CR_SAVE_GS
  std::uint64_t saved_xcr0 = 0;                      // CR_SAVE_XCR0

  // Inside an enclave whose EPC is no more.
  [[nodiscard]] bool lost(const Machine& m) const noexcept { return enclave_mode && generation != m.generation(); }
  [[nodiscard]] bool in_elrange(std::uint64_t linaddr) const noexcept { return linaddr - elrange_base < elrange_size; }
};

// Largest SSA XSAVE area that a machine produces, in Intel's non-compacted layout (sgx::xsave).
inline constexpr std::size_t kXsaveImageSize = 2752;

// An XSAVE image in Intel's layout. The CPU layer translates from and to the signal frame's.
struct alignas(64) XsaveImage {
  std::array<std::byte, kXsaveImageSize> bytes{};
};

// What the page tables are to a CPU. One per process, implemented by the driver; must be lock-free and
// async-signal-safe, and stay valid as long as any thread can execute a leaf.
class AddressSpace {
 public:
  virtual ~AddressSpace() = default;
  // The EPC page that `linaddr` (any byte of the page) is mapped to in this process, or kNotEpc.
  [[nodiscard]] virtual EpcIndex epc_page(std::uint64_t linaddr) const noexcept = 0;
};

}  // namespace softsgx

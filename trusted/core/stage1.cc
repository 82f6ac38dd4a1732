// Stage 1: the exception handler at CSSA = 1. Short, never makes an ocall, touches only the core area, SSA[0] and, when
// it redirects a Running thread into stage 2, that thread's own stack. See thread.h for who writes what.
#include "trusted/core/area.h"
#include "trusted/core/core.h"
#include "trusted/core/memory.h"
#include "trusted/core/thread.h"

extern "C" {
extern const std::uint8_t sealift_entry[], sealift_entry_window_end[];
extern const std::uint8_t sealift_entry_bail[], sealift_entry_bail_end[];
extern const std::uint8_t sealift_park[], sealift_stage2[];
void sealift_stage1(sealift::core::ThreadBlock& tb, std::uint64_t request);
}

namespace sealift::core {
namespace {

std::uint64_t address(const std::uint8_t* label) noexcept {
  return reinterpret_cast<std::uint64_t>(label);
}

// SSA[0] of this thread's TCS. Not the host's to choose: OSSA is measured.
struct Frame {
  std::uint8_t* xsave;
  sgx::GprSgx& gpr;
};

Frame frame_of(const ThreadBlock& tb) noexcept {
  const EnclaveConfig& c = config();
  auto* ssa = static_cast<std::uint8_t*>(at(ssa_offset(c, tb.index)));
  const std::uint64_t size = std::uint64_t{c.ssa_frame_pages} * sgx::kPageSize;
  return {ssa, *reinterpret_cast<sgx::GprSgx*>(ssa + size - sizeof(sgx::GprSgx))};
}

void answer(ThreadBlock& tb, abi::Exit reason, std::uint64_t a = 0, std::uint64_t b = 0, std::uint64_t c = 0) noexcept {
  tb.answer_reason = static_cast<std::uint64_t>(reason);
  tb.answer_a = a;
  tb.answer_b = b;
  tb.answer_c = c;
}

void refuse(ThreadBlock& tb, Errc e) noexcept {
  answer(tb, abi::Exit::kRefused, static_cast<std::uint64_t>(e));
}

void park(ThreadBlock& tb, const Frame& f) noexcept {
  f.gpr.exitinfo = 0;  // EXITINFO is evidence only once
  copy(tb.stash.xsave, f.xsave, sizeof tb.stash.xsave);
  tb.stash.gpr = f.gpr;
  f.gpr.rip = address(sealift_park);
  publish(tb, ThreadState::kParked);
  answer(tb, abi::Exit::kParked);
}

// URSP, URBP and GS base stay this entry's; everything else is the stash's.
void unpark(ThreadBlock& tb, const Frame& f) noexcept {
  if (gate() != abi::GateState::kOpen) return refuse(tb, Errc::kGateClosed);
  publish(tb, ThreadState::kRunning);
  if (gate() != abi::GateState::kOpen) {
    publish(tb, ThreadState::kParked);
    return refuse(tb, Errc::kGateClosed);
  }
  const std::uint64_t ursp = f.gpr.ursp, urbp = f.gpr.urbp, gsbase = f.gpr.gsbase;
  copy(f.xsave, tb.stash.xsave, sizeof tb.stash.xsave);
  f.gpr = tb.stash.gpr;
  f.gpr.ursp = ursp;
  f.gpr.urbp = urbp;
  f.gpr.gsbase = gsbase;
  f.gpr.exitinfo = 0;
  answer(tb, abi::Exit::kResume);
}

bool inside_application(std::uint64_t address, std::uint64_t size) noexcept {
  const std::uint64_t offset = address - base();
  return offset < config().elrange_size && size <= config().elrange_size - offset;
}

bool is_cpuid_site(std::uint64_t rip) noexcept {
  const EnclaveConfig& c = config();
  std::uint32_t low = 0, high = c.cpuid_site_count < kMaxCpuidSites ? c.cpuid_site_count : kMaxCpuidSites;
  const std::uint64_t offset = rip - base();
  while (low < high) {
    const std::uint32_t middle = low + (high - low) / 2;
    if (c.cpuid_sites[middle] == offset) return true;
    if (c.cpuid_sites[middle] < offset) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return false;
}

// Answers from the measured baseline: the host's CPU is never asked (design §6.4). Leaves that ignore ECX match any.
void emulate_cpuid(sgx::GprSgx& g) noexcept {
  const auto leaf = static_cast<std::uint32_t>(g.rax), subleaf = static_cast<std::uint32_t>(g.rcx);
  const bool has_subleaves = leaf == 4 || leaf == 7 || leaf == 0xb || leaf == 0xd || leaf == 0x12 || leaf == 0x14;
  g.rax = g.rbx = g.rcx = g.rdx = 0;
  const EnclaveConfig& c = config();
  for (std::uint32_t i = 0; i < c.cpuid_count && i < kMaxCpuid; ++i) {
    const CpuidEntry& e = c.cpuid[i];
    if (e.leaf != leaf || (has_subleaves && e.subleaf != subleaf)) continue;
    g.rax = e.eax;
    g.rbx = e.ebx;
    g.rcx = e.ecx;
    g.rdx = e.edx;
    break;
  }
  g.rip += 2;
}

// Sends the thread into stage 2 with its registers in a frame below its red zone.
bool redirect_syscall(sgx::GprSgx& g) noexcept {
  constexpr std::uint64_t kRedZone = 128;
  const std::uint64_t frame = (g.rsp - kRedZone - FRAME_SIZE) & ~std::uint64_t{63};
  if (!inside_application(frame - 4 * sgx::kPageSize, FRAME_SIZE + 4 * sgx::kPageSize)) return false;
  auto* regs = reinterpret_cast<sgx::GprSgx*>(frame + FRAME_GPRS);
  *regs = g;
  regs->rip = g.rip + 2;
  g.rip = address(sealift_stage2);
  g.rdi = frame;
  g.rsp = frame;
  g.rflags &= ~std::uint64_t{0x40400};  // DF and AC off, as the ABI wants at a call
  return true;
}

void crash(ThreadBlock& tb, const Frame& f, std::uint32_t info) noexcept {
  const auto& exinfo =
      *reinterpret_cast<const sgx::Exinfo*>(reinterpret_cast<const std::uint8_t*>(&f.gpr) - sizeof(sgx::Exinfo));
  const std::uint32_t vector = info & sgx::exitinfo::kVectorMask;
  const bool address = vector == sgx::vector::kPf || vector == sgx::vector::kGp;
  answer(tb, abi::Exit::kCrash, info, f.gpr.rip - base(), address ? exinfo.maddr : 0);
}

void handle_exception(ThreadBlock& tb, const Frame& f) noexcept {
  const std::uint32_t info = f.gpr.exitinfo;
  f.gpr.exitinfo = 0;
  if ((info & sgx::exitinfo::kValid) == 0) return answer(tb, abi::Exit::kResume);
  if ((info & sgx::exitinfo::kVectorMask) != sgx::vector::kUd || !inside_application(f.gpr.rip, 2)) {
    return crash(tb, f, info);
  }
  const auto* code = reinterpret_cast<const std::uint8_t*>(f.gpr.rip);
  if (code[0] == 0x0f && code[1] == 0x05 && redirect_syscall(f.gpr)) return answer(tb, abi::Exit::kResume);
  if (code[0] == 0x0f && (code[1] == 0xa2 || (code[1] == 0x0b && is_cpuid_site(f.gpr.rip)))) {
    emulate_cpuid(f.gpr);
    return answer(tb, abi::Exit::kResume);
  }
  crash(tb, f, info);
}

void handle(ThreadBlock& tb) noexcept {
  const Frame f = frame_of(tb);
  const ThreadState state = state_of(tb);
  if (state == ThreadState::kParked) return unpark(tb, f);
  if (state != ThreadState::kRunning || tb.index == abi::kControlTcs) {
    // Interrupted in the entry code before Running, or in the exit code after it: both go on by themselves and
    // write nothing that a checkpoint contains. An exception there has no handler.
    const std::uint32_t info = f.gpr.exitinfo;
    f.gpr.exitinfo = 0;
    return (info & sgx::exitinfo::kValid) != 0 ? crash(tb, f, info) : answer(tb, abi::Exit::kResume);
  }
  const bool open = gate() == abi::GateState::kOpen;
  const bool entering = f.gpr.rip >= address(sealift_entry) && f.gpr.rip < address(sealift_entry_window_end);
  const bool bailing = f.gpr.rip >= address(sealift_entry_bail) && f.gpr.rip < address(sealift_entry_bail_end);
  if (entering || bailing) {
    // Running is published, but RSP may still be core's, and `prev_state` does not travel: never park, never redirect;
    // send it out.
    f.gpr.exitinfo = 0;
    if (!open || bailing) f.gpr.rip = address(sealift_entry_bail);
    return answer(tb, abi::Exit::kResume);
  }
  if (!open) return park(tb, f);
  handle_exception(tb, f);
}

}  // namespace
}  // namespace sealift::core

void sealift_stage1(sealift::core::ThreadBlock& tb, std::uint64_t request) {
  using namespace sealift;
  using namespace sealift::core;
  if (gate() == abi::GateState::kUnborn) return refuse(tb, Errc::kGateClosed);
  if (request != static_cast<std::uint64_t>(abi::Request::kHandle)) return refuse(tb, Errc::kBadRequest);
  handle(tb);
}

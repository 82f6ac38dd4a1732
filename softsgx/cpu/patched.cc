#include "softsgx/cpu/patched.h"

#include <cpuid.h>
#include <sys/mman.h>

#include <array>
#include <atomic>
#include <cstring>

#include "sgx/enclu_site.h"
#include "softsgx/cpu/context.h"
#include "softsgx/cpu/enclave_mode.h"
#include "softsgx/cpu/platform.h"
#include "softsgx/isa/epcm_ops.h"
#include "softsgx/isa/raw_syscall.h"

extern "C" {
extern const char softsgx_patched_enter[], softsgx_patched_exit[], softsgx_patched_lookup[], softsgx_patched_found[],
    softsgx_patched_saved[], softsgx_patched_blocked[], softsgx_patched_window[], softsgx_patched_end[],
    softsgx_patched_trap[];
// By a hash of GS base, for patched.S; a collision costs the older one a trap.
[[gnu::visibility("hidden")]] std::atomic<softsgx::ThreadRecord*> softsgx_records_inside[4096];
[[gnu::visibility("hidden")]] void softsgx_patched_leaf(softsgx::ThreadRecord* record) noexcept;
}

namespace softsgx {
namespace {

constexpr std::uint64_t kSite = SGX_ENCLU_SITE_BYTES, kInsn = SGX_ENCLU_SITE_INSN, kRoom = SGX_ENCLU_SITE_ROOM;
using SiteBytes = std::array<std::uint8_t, kSite>;

// ENCLU_SITE as it is laid out.
constexpr SiteBytes kPristine = {0x66, 0x90, 0x0f, 0x01, 0xd7, 0xeb, 0x19, 0x0f, 0x0b, 0x49, 0xbb,
                                 'p',  'a',  't',  'c',  'h',  ' ',  'E',  'N',  0x49, 0xba, 'C',
                                 'L',  'U',  ' ',  'h',  'e',  'r',  'e',  0x0f, 0x1f, 0x00};

bool g_enabled = false;
// Held while a site is patched. Who finds it held goes on without: the next trap there tries again.
std::atomic_flag g_patching;

std::uint64_t address(const char* label) noexcept {
  return reinterpret_cast<std::uint64_t>(label);
}

bool between(std::uint64_t rip, const char* begin, const char* end) noexcept {
  return rip >= address(begin) && rip < address(end);
}

// The bytes of a site inside, through the machine's own mapping; null if no EPC page is there. A site lies in one page.
std::uint8_t* bytes_inside(std::uint64_t site) noexcept {
  const EpcIndex page = g_processor.platform->address_space().epc_page(site);
  if (page == kNotEpc || !g_processor.machine->is_epc(page)) return nullptr;
  return reinterpret_cast<std::uint8_t*>(g_processor.machine->page(page)) + site % sgx::kPageSize;
}

// movabs $site, %r11; movabs $target, %r10; jmp *%r10; ud2. No load: RFLAGS.AC may be set.
void fill_room(std::uint8_t* room, std::uint64_t site, std::uint64_t target) noexcept {
  constexpr std::uint8_t kToR11[] = {0x49, 0xbb}, kToR10[] = {0x49, 0xba}, kJump[] = {0x41, 0xff, 0xe2, 0x0f, 0x0b};
  std::memcpy(room, kToR11, sizeof kToR11);
  std::memcpy(room + 2, &site, sizeof site);
  std::memcpy(room + 10, kToR10, sizeof kToR10);
  std::memcpy(room + 12, &target, sizeof target);
  std::memcpy(room + 20, kJump, sizeof kJump);
}
static_assert(kRoom + 20 + 5 == kSite);

// Whether RIP is in the room of a patched site of the thread's enclave. (In the program's own code it may stay there.)
bool in_room(std::uint64_t at, const ThreadRecord& r) noexcept {
  if (!r.lp.enclave_mode || at % kSite < kRoom || r.lp.lost(*g_processor.machine)) return false;
  const std::uint64_t site = at - at % kSite;
  const std::uint8_t* bytes = bytes_inside(site);
  return bytes && bytes[0] == 0xeb && std::memcmp(bytes + kRoom + 2, &site, sizeof site) == 0;
}

// Code of the program: private, and readable and executable like any text.
bool set_rights(std::uint64_t site, int rights) noexcept {
  const std::uint64_t page = site & ~std::uint64_t{sgx::kPageSize - 1};
  return raw::call(SYS_mprotect, page, sgx::kPageSize, static_cast<std::uint64_t>(rights)) == 0;
}

bool is_pristine(const std::uint8_t* bytes) noexcept {
  return std::memcmp(bytes, kPristine.data(), kSite) == 0;
}

void write_patch(std::uint8_t* bytes, std::uint64_t site, std::uint64_t target) noexcept {
  fill_room(bytes + kRoom, site, target);
  // Last, and in one store: a jump over ENCLU into the room.
  constexpr std::uint16_t kJumpToRoom = 0xeb | (kRoom - 2) << 8;
  std::atomic_ref(*reinterpret_cast<std::uint16_t*>(bytes)).store(kJumpToRoom, std::memory_order_release);
}

void patch_inside(std::uint64_t site, const ThreadRecord& r) noexcept {
  const EpcIndex page = g_processor.platform->address_space().epc_page(site);
  std::uint8_t* bytes = bytes_inside(site);
  if (!bytes || (g_processor.machine->epcm(page).state & epcm::kW) != 0) return;
  if ((g_processor.machine->secs(r.lp.secs).attributes.flags & sgx::attribute::kDebug) != 0) return;
  if (is_pristine(bytes)) write_patch(bytes, site, address(softsgx_patched_exit));
}

void patch_outside(std::uint64_t site) noexcept {
  if (g_processor.platform->address_space().epc_page(site) != kNotEpc) return;
  auto* bytes = reinterpret_cast<std::uint8_t*>(site);
  if (!is_pristine(bytes) || !set_rights(site, PROT_READ | PROT_WRITE | PROT_EXEC)) return;
  write_patch(bytes, site, address(softsgx_patched_enter));
  set_rights(site, PROT_READ | PROT_EXEC);
}

// Registers as in the record, flags as they are.
void from_record(ucontext_t& context, ThreadRecord& r) noexcept {
  r.patched.rflags = static_cast<std::uint64_t>(context.uc_mcontext.gregs[REG_EFL]);
  write_registers(r.patched, context);
}

void back_to(std::uint64_t site, ucontext_t& context) noexcept {
  set_rip(context, site + kInsn);
}

void end_window(ucontext_t& context, ThreadRecord& r) noexcept {
  from_record(context, r);
  if (r.patched.rip == address(softsgx_patched_trap)) back_to(r.patched.r11, context);
  if (!r.lp.enclave_mode) return;
  // Which of them were loaded already nobody knows.
  r.enclave_fsbase = r.patched.fsbase;
  r.enclave_gsbase = r.patched.gsbase;
}

void settle_in_stub(ucontext_t& context, ThreadRecord& r) noexcept {
  greg_t* g = context.uc_mcontext.gregs;
  const std::uint64_t at = rip(context);
  if (between(at, softsgx_patched_window, softsgx_patched_end)) return end_window(context, r);
  if (between(at, softsgx_patched_saved, softsgx_patched_blocked)) {
    from_record(context, r);
    return back_to(r.patched.rip, context);
  }
  if (between(at, softsgx_patched_lookup, softsgx_patched_found)) {
    g[REG_RAX] = static_cast<greg_t>(sgx::Enclu::kEexit);
  }
  back_to(static_cast<std::uint64_t>(g[REG_R11]), context);
}

}  // namespace

void PatchedEnclu::enable() noexcept {
  unsigned a = 0, xsave_bytes = 0, c = 0, d = 0;
  __cpuid_count(0xd, 0, a, xsave_bytes, c, d);
  g_enabled = xsave_bytes <= XSAVE_BYTES;
}

void PatchedEnclu::patch(std::uint64_t enclu, const ThreadRecord& record) noexcept {
  if (!g_enabled || enclu % kSite != kInsn || g_patching.test_and_set()) return;
  if (record.lp.enclave_mode) {
    patch_inside(enclu - kInsn, record);
  } else {
    patch_outside(enclu - kInsn);
  }
  g_patching.clear();
}

// The TCS's, not the present one: what a thread leaves in its GS base between must not be taken for another thread's.
void PatchedEnclu::entered(ThreadRecord& record) noexcept {
  const std::uint64_t gsbase = g_processor.machine->tcs(record.lp.tcs).ogsbase + record.lp.elrange_base;
  record.entry_gsbase = gsbase;
  softsgx_records_inside[(gsbase >> 12 ^ gsbase >> 28) % std::size(softsgx_records_inside)] = &record;
}

bool PatchedEnclu::settle(ucontext_t& context, ThreadRecord& record) noexcept {
  const std::uint64_t at = rip(context);
  if (between(at, softsgx_patched_enter, softsgx_patched_trap + 1)) {
    settle_in_stub(context, record);
    return at == address(softsgx_patched_trap);
  }
  if (in_room(at, record)) back_to(at - at % kSite, context);
  return false;
}

void PatchedEnclu::after_fork() noexcept {
  g_patching.clear();
}

}  // namespace softsgx

// On the thread's alternate stack, in host FS and GS, with all signals blocked.
void softsgx_patched_leaf(softsgx::ThreadRecord* record) noexcept {
  using namespace softsgx;
  ThreadRecord& r = *record;
  const std::uint64_t site = r.patched.rip;
  r.patched.rip = site + kInsn;
  if (execute_patched(r).faulted()) {
    r.patched.rip = address(softsgx_patched_trap);
    r.patched.r11 = site;
  }
  r.active_secs.store(r.lp.secs, std::memory_order_relaxed);
  r.in_enclave.store(r.lp.enclave_mode, std::memory_order_seq_cst);
}

// EENTER, EEXIT, ERESUME (SDM 3D, section 38.4) and AEX (section 35.3).
//
// Async-signal-safe and lock-free. A TCS is taken in two steps: count the thread in at the SECS, then set the TCS's
// kBusy. EREMOVE does it the other way about (lock the entry, then look at the count), so one of the two always sees
// the other.
#include <immintrin.h>

#include <atomic>
#include <cstring>

#include "softsgx/isa/enclu.h"
#include "softsgx/isa/epcm_ops.h"
#include "softsgx/isa/xstate.h"

namespace softsgx::enclu {
namespace {

using sgx::PageType;

constexpr std::uint64_t kUnusable = epcm::kBlocked | epcm::kPending | epcm::kModified;

// Holds a TCS for the checks of EENTER and ERESUME, and lets it go again unless the leaf succeeds.
class TcsClaim {
 public:
  explicit TcsClaim(Machine& m) noexcept : m_(m), generation_(m.generation()) {}
  ~TcsClaim() {
    if (!counted_ || m_.generation() != generation_) return;
    if (busy_) m_.epcm(tcs_).state.fetch_and(~epcm::kBusy);
    active::leave(m_.epcm(secs_), epoch_);
  }
  TcsClaim(const TcsClaim&) = delete;
  TcsClaim& operator=(const TcsClaim&) = delete;

  // The checks of the TCS page itself; claims it.
  [[nodiscard]] Leaf claim(EpcIndex tcs, std::uint64_t linaddr) noexcept {
    tcs_ = tcs;
    EpcmEntry& entry = m_.epcm(tcs);
    std::uint64_t state = entry.state.load();
    if ((state & epcm::kLocked) != 0) return Leaf::gp();
    if ((state & epcm::kValid) == 0 || (state & kUnusable) != 0 || epcm::type(state) != PageType::kTcs ||
        entry.enclave_address.load() != linaddr) {
      return Leaf::pf(linaddr);
    }
    if ((state & epcm::kBusy) != 0) return Leaf::gp();
    secs_ = epcm::secs(state);
    counted_ = active::enter(m_.epcm(secs_), epoch_);
    busy_ = counted_ && entry.state.compare_exchange_strong(state, state | epcm::kBusy);
    return busy_ ? Leaf{} : Leaf::gp();
  }

  [[nodiscard]] EpcIndex tcs() const noexcept { return tcs_; }
  [[nodiscard]] EpcIndex secs() const noexcept { return secs_; }
  // The leaf succeeded: the thread is inside.
  void keep(LogicalProcessor& lp) noexcept {
    lp.tcs = tcs_;
    lp.secs = secs_;
    lp.track_epoch = epoch_;
    lp.generation = generation_;
    counted_ = false;
  }

 private:
  Machine& m_;
  const std::uint64_t generation_;
  EpcIndex tcs_ = kNotEpc, secs_ = kNotEpc;
  std::uint32_t epoch_ = 0;
  bool counted_ = false, busy_ = false;
};

// An SSA page's entry, when no leaf is working on it. A leaf takes a few instructions; if the entry stays locked, its
// holder is this very thread, interrupted in the driver, and waiting would be for ever.
std::uint64_t settled_state(const EpcmEntry& entry) noexcept {
  constexpr int kTries = 4096;
  std::uint64_t state = entry.state.load();
  for (int i = 0; i < kTries && (state & epcm::kLocked) != 0; ++i) {
    _mm_pause();
    state = entry.state.load();
  }
  return state;
}

Leaf check_ssa_page(Machine& m, const AddressSpace& as, EpcIndex secs, std::uint64_t linaddr,
                    EpcIndex& found) noexcept {
  const EpcIndex page = as.epc_page(linaddr);
  if (page == kNotEpc || !m.is_epc(page)) return Leaf::pf(linaddr, pfec::kWrite);
  const EpcmEntry& entry = m.epcm(page);
  const std::uint64_t state = settled_state(entry);
  if ((state & epcm::kLocked) != 0) return Leaf::gp();
  constexpr std::uint64_t kReadWrite = epcm::kR | epcm::kW;
  if ((state & epcm::kValid) == 0 || (state & kUnusable) != 0 || epcm::type(state) != PageType::kReg ||
      epcm::secs(state) != secs || (state & kReadWrite) != kReadWrite || entry.enclave_address.load() != linaddr) {
    return Leaf::pf(linaddr, pfec::kWrite);
  }
  found = page;
  return {};
}

// Finds the pages of SSA frame `frame`. The XSAVE area always fits the first page (see the assertion), MISC and GPRSGX
// the last.
static_assert(kXsaveImageSize <= sgx::kPageSize);
Leaf find_ssa(Machine& m, const AddressSpace& as, const TcsClaim& claim, std::uint32_t frame,
              LogicalProcessor& lp) noexcept {
  const sgx::Secs& secs = m.secs(claim.secs());
  const std::uint64_t frame_bytes = std::uint64_t{sgx::kPageSize} * secs.ssaframesize;
  const std::uint64_t ssa = m.tcs(claim.tcs()).ossa + secs.baseaddr + frame_bytes * frame;
  if (const Leaf l = check_ssa_page(m, as, claim.secs(), ssa, lp.ssa_xsave); l.faulted()) return l;
  return check_ssa_page(m, as, claim.secs(), ssa + frame_bytes - sgx::kPageSize, lp.ssa_gpr);
}

sgx::GprSgx& gpr_area(Machine& m, const LogicalProcessor& lp) noexcept {
  return *reinterpret_cast<sgx::GprSgx*>(m.page(lp.ssa_gpr) + sgx::kPageSize - sizeof(sgx::GprSgx));
}

sgx::Exinfo& exinfo_area(Machine& m, const LogicalProcessor& lp) noexcept {
  return *reinterpret_cast<sgx::Exinfo*>(m.page(lp.ssa_gpr) + sgx::kPageSize - sizeof(sgx::GprSgx) -
                                         sizeof(sgx::Exinfo));
}

// EPC may get lost in the middle of a leaf, which then has read anything: the generation changes first, so this is
// asked last. On silicon a leaf is one instruction, and comes before or after.
bool lost_after_reads(const Machine& m, const LogicalProcessor& lp) noexcept {
  std::atomic_signal_fence(std::memory_order_seq_cst);  // the CPU keeps loads in order (SDM 3A, section 9.2)
  return lp.lost(m);
}

Leaf stay_inside(const Machine& m, LogicalProcessor& lp, Registers& regs, const Registers& before) noexcept {
  if (!lost_after_reads(m, lp)) return {};
  lp = {};
  regs = before;
  return Leaf::pf(before.rbx);
}

// What EENTER and ERESUME check alike, in the SDM's order.
Leaf check_entry(Machine& m, const AddressSpace& as, const LogicalProcessor& lp, const Registers& regs,
                 TcsClaim& claim) noexcept {
  if (lp.enclave_mode || !page_aligned(regs.rbx)) return Leaf::gp();
  const EpcIndex page = as.epc_page(regs.rbx);
  if (page == kNotEpc || !m.is_epc(page)) return Leaf::pf(regs.rbx);
  if (!canonical(regs.rcx)) return Leaf::gp();
  if (const Leaf l = claim.claim(page, regs.rbx); l.faulted()) return l;
  const sgx::Tcs& tcs = m.tcs(page);
  const sgx::Secs& secs = m.secs(claim.secs());
  if (!page_aligned(tcs.ossa) || !page_aligned(tcs.ofsbase) || !page_aligned(tcs.ogsbase)) return Leaf::gp();
  if (!canonical(tcs.ofsbase + secs.baseaddr) || !canonical(tcs.ogsbase + secs.baseaddr)) return Leaf::gp();
  if ((tcs.flags & ~sgx::kTcsDbgoptin) != 0) return Leaf::gp();
  const std::uint64_t attributes =
      std::atomic_ref(m.secs(claim.secs()).attributes.flags).load(std::memory_order_acquire);
  if ((attributes & sgx::attribute::kInit) == 0) return Leaf::gp();
  return (secs.attributes.xfrm & regs.xcr0) == secs.attributes.xfrm ? Leaf{} : Leaf::gp();
}

// Turns the processor to enclave mode; what both leaves do alike once nothing can fail any more.
void go_inside(Machine& m, TcsClaim& claim, LogicalProcessor& lp, Registers& regs) noexcept {
  const sgx::Secs& secs = m.secs(claim.secs());
  claim.keep(lp);
  lp.enclave_mode = true;
  lp.elrange_base = secs.baseaddr;
  lp.elrange_size = secs.size;
  lp.tcs_linaddr = regs.rbx;
  lp.aep = regs.rcx;
  lp.saved_fsbase = regs.fsbase;
  lp.saved_gsbase = regs.gsbase;
  lp.saved_xcr0 = regs.xcr0;
  regs.xcr0 = lp.xfrm = secs.attributes.xfrm;
  lp.dbgoptin = (m.tcs(lp.tcs).flags & sgx::kTcsDbgoptin) != 0;
  lp.saved_tf = (regs.rflags & rflags::kTf) != 0;
  if (!lp.dbgoptin) regs.rflags &= ~rflags::kTf;
}

// What EEXIT and AEX do alike: the processor is outside afterwards and the TCS is free.
void go_outside(Machine& m, LogicalProcessor& lp, Registers& regs) noexcept {
  regs.fsbase = lp.saved_fsbase;
  regs.gsbase = lp.saved_gsbase;
  regs.xcr0 = lp.saved_xcr0;
  if (!lp.dbgoptin) regs.rflags = lp.saved_tf ? regs.rflags | rflags::kTf : regs.rflags & ~rflags::kTf;
  const EpcIndex tcs = lp.tcs, secs = lp.secs;
  const std::uint32_t epoch = lp.track_epoch;
  const bool lost = lp.lost(m);
  lp = {};
  if (lost) return;                           // there is no TCS to give free
  m.epcm(tcs).state.fetch_and(~epcm::kBusy);  // releases CSSA and the SSA frame to whoever enters next
  active::leave(m.epcm(secs), epoch);
}

void save_gprs(sgx::GprSgx& g, const Registers& r) noexcept {
  g.rax = r.rax, g.rcx = r.rcx, g.rdx = r.rdx, g.rbx = r.rbx;
  g.rsp = r.rsp, g.rbp = r.rbp, g.rsi = r.rsi, g.rdi = r.rdi;
  g.r8 = r.r8, g.r9 = r.r9, g.r10 = r.r10, g.r11 = r.r11;
  g.r12 = r.r12, g.r13 = r.r13, g.r14 = r.r14, g.r15 = r.r15;
  g.rflags = r.rflags, g.rip = r.rip;
  g.fsbase = r.fsbase, g.gsbase = r.gsbase;
}

void load_gprs(Registers& r, const sgx::GprSgx& g) noexcept {
  r.rax = g.rax, r.rcx = g.rcx, r.rdx = g.rdx, r.rbx = g.rbx;
  r.rsp = g.rsp, r.rbp = g.rbp, r.rsi = g.rsi, r.rdi = g.rdi;
  r.r8 = g.r8, r.r9 = g.r9, r.r10 = g.r10, r.r11 = g.r11;
  r.r12 = g.r12, r.r13 = g.r13, r.r14 = g.r14, r.r15 = g.r15;
  r.rip = g.rip;
  r.fsbase = g.fsbase, r.gsbase = g.gsbase;
}

// EXITINFO (SDM 3D, table "Exception Vectors"): these vectors always, #GP and #PF only with MISCSELECT.EXINFO.
std::uint32_t exit_information(const AexEvent& e, bool exinfo) noexcept {
  namespace v = sgx::vector;
  if (!e.exception) return 0;
  switch (e.vector) {
    case v::kBp:
      return sgx::exitinfo::kValid | sgx::exitinfo::kTypeSoftware | e.vector;
    case v::kGp:
    case v::kPf:
      if (!exinfo) return 0;
      [[fallthrough]];
    case v::kDe:
    case v::kDb:
    case v::kBr:
    case v::kUd:
    case v::kMf:
    case v::kAc:
    case v::kXm:
      return sgx::exitinfo::kValid | sgx::exitinfo::kTypeHardware | e.vector;
    default:
      return 0;
  }
}

void write_exinfo(sgx::Exinfo& out, const AexEvent& e) noexcept {
  const bool pf = e.exception && e.vector == sgx::vector::kPf;
  const bool gp = e.exception && e.vector == sgx::vector::kGp;
  if (!pf && !gp) return;  // the region keeps what it held
  out = {.maddr = pf ? e.address : 0, .errcd = e.error_code, .reserved = 0};
}

// What software outside sees after an AEX.
Registers synthetic_state(const LogicalProcessor& lp, std::uint64_t flags, std::uint64_t ursp,
                          std::uint64_t urbp) noexcept {
  Registers out;
  out.rax = static_cast<std::uint64_t>(sgx::Enclu::kEresume);
  out.rbx = lp.tcs_linaddr;
  out.rcx = lp.aep;
  out.rip = lp.aep;
  out.rsp = ursp;
  out.rbp = urbp;
  out.rflags = flags & ~(rflags::kStatus | rflags::kRf);
  return out;
}

}  // namespace

Leaf eenter(Machine& m, const AddressSpace& as, LogicalProcessor& lp, Registers& regs) noexcept {
  TcsClaim claim(m);
  if (const Leaf l = check_entry(m, as, lp, regs, claim); l.faulted()) return l;
  const sgx::Tcs& tcs = m.tcs(claim.tcs());
  const sgx::Secs& secs = m.secs(claim.secs());
  const std::uint32_t cssa = tcs.cssa;
  if (cssa >= tcs.nssa) return Leaf::gp();
  LogicalProcessor next;
  if (const Leaf l = find_ssa(m, as, claim, cssa, next); l.faulted()) return l;
  const std::uint64_t target = tcs.oentry + secs.baseaddr;
  if (!canonical(target)) return Leaf::gp();
  const Registers before = regs;
  lp = next;
  go_inside(m, claim, lp, regs);
  sgx::GprSgx& gpr = gpr_area(m, lp);
  gpr.ursp = lp.ursp = regs.rsp;
  gpr.urbp = lp.urbp = regs.rbp;
  regs.fsbase = tcs.ofsbase + secs.baseaddr;
  regs.gsbase = tcs.ogsbase + secs.baseaddr;
  regs.rcx = regs.rip + kEncluLength;
  regs.rip = target;
  regs.rax = cssa;
  return stay_inside(m, lp, regs, before);
}

Leaf eresume(Machine& m, const AddressSpace& as, LogicalProcessor& lp, Registers& regs, XsaveImage& xsave) noexcept {
  TcsClaim claim(m);
  if (const Leaf l = check_entry(m, as, lp, regs, claim); l.faulted()) return l;
  sgx::Tcs& tcs = m.tcs(claim.tcs());
  const std::uint64_t xfrm = m.secs(claim.secs()).attributes.xfrm;
  if (tcs.cssa == 0) return Leaf::gp();
  LogicalProcessor next;
  if (const Leaf l = find_ssa(m, as, claim, tcs.cssa - 1, next); l.faulted()) return l;
  const sgx::GprSgx gpr = gpr_area(m, next);  // a copy: other threads of the enclave may write to the frame
  if (!canonical(gpr.rip) || !canonical(gpr.fsbase) || !canonical(gpr.gsbase)) return Leaf::gp();
  if (!xstate::restore(m.page(next.ssa_xsave), xfrm, xsave)) return Leaf::gp();
  const Registers before = regs;
  lp = next;
  go_inside(m, claim, lp, regs);
  --tcs.cssa;
  lp.ursp = gpr.ursp;
  lp.urbp = gpr.urbp;
  load_gprs(regs, gpr);
  constexpr std::uint64_t kNt = 1u << 14, kId = 1u << 21;
  constexpr std::uint64_t kLoaded = rflags::kStatus | rflags::kDf | rflags::kRf | rflags::kAc | kNt | kId;
  regs.rflags = (regs.rflags & ~kLoaded) | (gpr.rflags & kLoaded);
  return stay_inside(m, lp, regs, before);
}

Leaf eexit(Machine& m, LogicalProcessor& lp, Registers& regs) noexcept {
  if (!lp.enclave_mode || !canonical(regs.rbx)) return Leaf::gp();
  regs.rip = regs.rbx;
  regs.rcx = lp.aep;
  go_outside(m, lp, regs);
  return {};
}

void aex(Machine& m, LogicalProcessor& lp, Registers& regs, XsaveImage& xsave, const AexEvent& event) noexcept {
  if (lp.lost(m)) {  // no SSA frame to save to: the enclave's state is gone with its EPC
    xstate::clear(xsave);
    regs = synthetic_state(lp, regs.rflags, lp.ursp, lp.urbp);
    go_outside(m, lp, regs);
    return;
  }
  const sgx::Secs& secs = m.secs(lp.secs);
  const bool exinfo = (secs.miscselect & sgx::miscselect::kExinfo) != 0;
  sgx::GprSgx& gpr = gpr_area(m, lp);
  save_gprs(gpr, regs);
  if (!lp.dbgoptin) gpr.rflags &= ~rflags::kTf;
  gpr.exitinfo = exit_information(event, exinfo);
  gpr.aexnotify = 0;
  if (exinfo) write_exinfo(exinfo_area(m, lp), event);
  xstate::save(m.page(lp.ssa_xsave), xsave, lp.xfrm);
  xstate::clear(xsave);
  ++m.tcs(lp.tcs).cssa;
  const std::uint64_t ursp = gpr.ursp, urbp = gpr.urbp;
  const bool ours = !lost_after_reads(m, lp);
  regs = synthetic_state(lp, regs.rflags, ours ? ursp : lp.ursp, ours ? urbp : lp.urbp);
  go_outside(m, lp, regs);
}

}  // namespace softsgx::enclu

// EREPORT, EGETKEY, EACCEPT, EMODPE, EACCEPTCOPY and the dispatch of ENCLU (SDM 3D, section 38.4).
#include <algorithm>
#include <cstring>

#include "softsgx/isa/enclu.h"
#include "softsgx/isa/epcm_ops.h"
#include "softsgx/isa/keys.h"
#include "softsgx/isa/secinfo.h"

namespace softsgx::enclu {
namespace {

using sgx::PageType;

constexpr std::uint64_t kUnusable = epcm::kBlocked | epcm::kPending | epcm::kModified;

// A memory operand in the running enclave: aligned to at least its size, so it never crosses a page.
class Operand {
 public:
  // `right` is kR or kW.
  Leaf resolve(Machine& m, const AddressSpace& as, const LogicalProcessor& lp, std::uint64_t linaddr,
               std::uint64_t alignment, std::uint64_t right) noexcept {
    if (linaddr % alignment != 0 || !lp.in_elrange(linaddr)) return Leaf::gp();
    const std::uint32_t access = right == epcm::kW ? pfec::kWrite : 0;
    const EpcIndex page = as.epc_page(linaddr);
    if (page == kNotEpc || !m.is_epc(page)) return Leaf::pf(linaddr, access);
    const std::uint64_t state = m.epcm(page).state.load();
    const std::uint64_t offset = linaddr % sgx::kPageSize;
    if ((state & epcm::kValid) == 0 || (state & kUnusable) != 0 || epcm::type(state) != PageType::kReg ||
        epcm::secs(state) != lp.secs || (state & right) == 0 ||
        m.epcm(page).enclave_address.load() != linaddr - offset) {
      return Leaf::pf(linaddr, access);
    }
    bytes_ = m.page(page) + offset;
    return {};
  }
  template <typename T>
  [[nodiscard]] T read() const noexcept {
    T value;
    std::memcpy(&value, bytes_, sizeof(value));
    return value;
  }
  template <typename T>
  void write(const T& value) const noexcept {
    std::memcpy(bytes_, &value, sizeof(value));
  }
  [[nodiscard]] std::byte* bytes() const noexcept { return bytes_; }

 private:
  std::byte* bytes_ = nullptr;
};

void advance(Registers& regs) noexcept {
  regs.rip += kEncluLength;
}

// The end of a leaf that returns a code.
Leaf finish(Registers& regs, sgx::Error error) noexcept {
  regs.rax = static_cast<std::uint64_t>(error);
  regs.rflags &= ~rflags::kStatus;
  advance(regs);
  if (error == sgx::Error::kSuccess) return {};
  regs.rflags |= rflags::kZf;
  return Leaf::fail(error);
}

bool request_reserved_clear(const sgx::Keyrequest& r) noexcept {
  constexpr std::uint16_t kPolicies = 0x3f;
  return (r.keypolicy & ~kPolicies) == 0 && all_zero(r.reserved1) && all_zero(r.reserved2);
}

// SECINFO's flags as the EPCM bits that EACCEPT compares (PR is not among them).
std::uint64_t accept_bits(const sgx::Secinfo& s) noexcept {
  return epcm::from_secinfo(s.flags) | epcm::of_type(type_of(s)) |
         ((s.flags & sgx::secinfo::kPending) != 0 ? epcm::kPending : 0) |
         ((s.flags & sgx::secinfo::kModified) != 0 ? epcm::kModified : 0);
}
constexpr std::uint64_t kAcceptMask = epcm::kRights | epcm::kTypeMask | epcm::kPending | epcm::kModified;

// The combinations of type, PR, PENDING and MODIFIED that EACCEPT may be asked for.
bool accept_request_legal(const sgx::Secinfo& s) noexcept {
  const bool pr = (s.flags & sgx::secinfo::kPr) != 0;
  const bool pending = (s.flags & sgx::secinfo::kPending) != 0;
  const bool modified = (s.flags & sgx::secinfo::kModified) != 0;
  switch (type_of(s)) {
    case PageType::kReg:
      return (pr || pending) && !modified;
    case PageType::kTcs:
    case PageType::kTrim:
      return !pr && !pending && modified;
    default:
      return false;
  }
}

// What EACCEPT wants of a page that becomes a TCS: nobody could have checked it at EADD.
bool tcs_pristine(const sgx::Tcs& t) noexcept {
  return all_zero(t.reserved) && (t.flags & sgx::kTcsDbgoptin) == 0 && t.cssa < t.nssa && t.aep == 0 && t.state == 0;
}

// RCX of EACCEPT, EMODPE and EACCEPTCOPY.
Leaf resolve_page(Machine& m, const AddressSpace& as, const LogicalProcessor& lp, std::uint64_t linaddr,
                  EpcIndex& page) noexcept {
  if (!page_aligned(linaddr) || !lp.in_elrange(linaddr)) return Leaf::gp();
  page = as.epc_page(linaddr);
  return page != kNotEpc && m.is_epc(page) ? Leaf{} : Leaf::pf(linaddr);
}

}  // namespace

Leaf ereport(Machine& m, const AddressSpace& as, LogicalProcessor& lp, Registers& regs) noexcept {
  constexpr std::uint64_t kReportdataAlignment = 128, kReportAlignment = 512;
  if (!lp.enclave_mode) return Leaf::gp();
  Operand target, data, output;
  if (const Leaf l = target.resolve(m, as, lp, regs.rbx, alignof(sgx::Targetinfo), epcm::kR); l.faulted()) return l;
  if (const Leaf l = data.resolve(m, as, lp, regs.rcx, kReportdataAlignment, epcm::kR); l.faulted()) return l;
  if (const Leaf l = output.resolve(m, as, lp, regs.rdx, kReportAlignment, epcm::kW); l.faulted()) return l;
  const sgx::Secs& secs = m.secs(lp.secs);
  const SecsState& state = m.secs_state(lp.secs);
  sgx::Report report{};
  sgx::ReportBody& b = report.body;
  std::copy(m.cpusvn().begin(), m.cpusvn().end(), b.cpusvn);
  b.miscselect = secs.miscselect;
  std::memcpy(b.isvextprodid, state.isvextprodid, sizeof(b.isvextprodid));
  std::memcpy(b.isvfamilyid, state.isvfamilyid, sizeof(b.isvfamilyid));
  b.attributes = secs.attributes;
  b.mrenclave = secs.mrenclave;
  b.mrsigner = secs.mrsigner;
  std::copy(std::begin(secs.configid), std::end(secs.configid), b.configid);
  b.isvprodid = secs.isvprodid;
  b.isvsvn = secs.isvsvn;
  b.configsvn = secs.configsvn;
  std::memcpy(b.reportdata, data.bytes(), sizeof(b.reportdata));
  std::copy(m.report_keyid().begin(), m.report_keyid().end(), report.keyid);
  const keys::Key key = keys::report_key(m, target.read<sgx::Targetinfo>());
  const keys::Key mac = keys::cmac(key, std::as_bytes(std::span(&b, 1)));
  std::copy(mac.begin(), mac.end(), report.mac);
  output.write(report);
  advance(regs);
  return {};
}

Leaf egetkey(Machine& m, const AddressSpace& as, LogicalProcessor& lp, Registers& regs) noexcept {
  if (!lp.enclave_mode) return Leaf::gp();
  Operand request, output;
  if (const Leaf l = request.resolve(m, as, lp, regs.rbx, alignof(sgx::Keyrequest), epcm::kR); l.faulted()) return l;
  if (const Leaf l = output.resolve(m, as, lp, regs.rcx, sizeof(keys::Key), epcm::kW); l.faulted()) return l;
  const auto r = request.read<sgx::Keyrequest>();
  if (!request_reserved_clear(r)) return Leaf::gp();
  constexpr std::uint16_t kKssPolicies = 0x3c;
  const sgx::Secs& secs = m.secs(lp.secs);
  const bool kss = (secs.attributes.flags & sgx::attribute::kKss) != 0;
  if (!kss && ((r.keypolicy & kKssPolicies) != 0 || r.configsvn != 0)) return Leaf::gp();
  keys::Key key;
  const sgx::Error error = keys::get_key(m, {.secs = &secs, .state = &m.secs_state(lp.secs)}, r, key);
  if (error == sgx::Error::kSuccess) output.write(key);
  return finish(regs, error);
}

Leaf eaccept(Machine& m, const AddressSpace& as, LogicalProcessor& lp, Registers& regs) noexcept {
  if (!lp.enclave_mode) return Leaf::gp();
  Operand secinfo;
  if (const Leaf l = secinfo.resolve(m, as, lp, regs.rbx, alignof(sgx::Secinfo), epcm::kR); l.faulted()) return l;
  const auto info = secinfo.read<sgx::Secinfo>();
  if (!reserved_clear(info)) return Leaf::gp();
  EpcIndex index = kNotEpc;
  if (const Leaf l = resolve_page(m, as, lp, regs.rcx, index); l.faulted()) return l;
  if (!accept_request_legal(info)) return Leaf::gp();
  EpcmEntry& entry = m.epcm(index);
  EntryLock page(entry);
  if (!page.held()) return Leaf::gp();
  const bool right_type =
      page.type() == PageType::kReg || page.type() == PageType::kTcs || page.type() == PageType::kTrim;
  if (!page.valid() || (page.state() & epcm::kBlocked) != 0 || !right_type || page.secs() != lp.secs) {
    return Leaf::pf(regs.rcx);
  }
  if (entry.enclave_address.load() != regs.rcx || (page.state() & kAcceptMask) != accept_bits(info)) {
    return finish(regs, sgx::Error::kPageAttributesMismatch);
  }
  // A page fresh from EAUG was never mapped, so no stale translation of it can exist.
  const bool needs_tracking = (page.state() & (epcm::kModified | epcm::kPr)) != 0;
  if (needs_tracking && !active::tracked(m.epcm(lp.secs).active.load(), entry.block_epoch.load())) {
    return finish(regs, sgx::Error::kNotTracked);
  }
  if (page.type() == PageType::kTcs && !tcs_pristine(m.tcs(index))) return Leaf::gp();
  page.commit(page.state() & ~(epcm::kPending | epcm::kModified | epcm::kPr));
  return finish(regs, sgx::Error::kSuccess);
}

Leaf emodpe(Machine& m, const AddressSpace& as, LogicalProcessor& lp, Registers& regs) noexcept {
  if (!lp.enclave_mode) return Leaf::gp();
  Operand secinfo;
  if (const Leaf l = secinfo.resolve(m, as, lp, regs.rbx, alignof(sgx::Secinfo), epcm::kR); l.faulted()) return l;
  EpcIndex index = kNotEpc;
  if (const Leaf l = resolve_page(m, as, lp, regs.rcx, index); l.faulted()) return l;
  const auto info = secinfo.read<sgx::Secinfo>();
  if (!reserved_clear(info)) return Leaf::gp();
  EpcmEntry& entry = m.epcm(index);
  EntryLock page(entry);
  if (!page.held()) return Leaf::gp();
  if (!page.valid() || (page.state() & kUnusable) != 0 || page.type() != PageType::kReg || page.secs() != lp.secs ||
      entry.enclave_address.load() != regs.rcx) {
    return Leaf::pf(regs.rcx);
  }
  const std::uint64_t added = epcm::from_secinfo(info.flags);
  if (((page.state() | added) & epcm::kR) == 0 && (added & epcm::kW) != 0) return Leaf::gp();
  page.commit(page.state() | added);
  advance(regs);
  return {};
}

Leaf eacceptcopy(Machine& m, const AddressSpace& as, LogicalProcessor& lp, Registers& regs) noexcept {
  if (!lp.enclave_mode) return Leaf::gp();
  Operand secinfo, source;
  if (const Leaf l = secinfo.resolve(m, as, lp, regs.rbx, alignof(sgx::Secinfo), epcm::kR); l.faulted()) return l;
  const auto info = secinfo.read<sgx::Secinfo>();
  if (!reserved_clear(info) || write_only(info) || type_of(info) != PageType::kReg) return Leaf::gp();
  EpcIndex index = kNotEpc;
  if (const Leaf l = resolve_page(m, as, lp, regs.rcx, index); l.faulted()) return l;
  if (const Leaf l = source.resolve(m, as, lp, regs.rdx, sgx::kPageSize, epcm::kR); l.faulted()) return l;
  EpcmEntry& entry = m.epcm(index);
  EntryLock page(entry);
  if (!page.held()) return Leaf::gp();
  // As EAUG left it, and nothing else.
  constexpr std::uint64_t kExpected = epcm::kValid | epcm::kPending | epcm::kR | epcm::kW;
  constexpr std::uint64_t kCompared =
      epcm::kValid | epcm::kPending | epcm::kModified | epcm::kBlocked | epcm::kRights | epcm::kTypeMask;
  if ((page.state() & kCompared) != (kExpected | epcm::of_type(PageType::kReg)) || page.secs() != lp.secs ||
      entry.enclave_address.load() != regs.rcx) {
    return finish(regs, sgx::Error::kPageAttributesMismatch);
  }
  std::memcpy(m.page(index), source.bytes(), sgx::kPageSize);
  page.commit((page.state() & ~(epcm::kPending | epcm::kRights)) | epcm::from_secinfo(info.flags));
  return finish(regs, sgx::Error::kSuccess);
}

Leaf execute(Machine& m, const AddressSpace& as, LogicalProcessor& lp, Registers& regs, XsaveImage& xsave) noexcept {
  // The instruction itself could not have been fetched.
  if (lp.lost(m)) return Leaf::pf(regs.rip & ~std::uint64_t{sgx::kPageSize - 1}, pfec::kFetch);
  switch (static_cast<sgx::Enclu>(static_cast<std::uint32_t>(regs.rax))) {  // the leaf number is in EAX
    case sgx::Enclu::kEreport:
      return ereport(m, as, lp, regs);
    case sgx::Enclu::kEgetkey:
      return egetkey(m, as, lp, regs);
    case sgx::Enclu::kEenter:
      return eenter(m, as, lp, regs);
    case sgx::Enclu::kEresume:
      return eresume(m, as, lp, regs, xsave);
    case sgx::Enclu::kEexit:
      return eexit(m, lp, regs);
    case sgx::Enclu::kEaccept:
      return eaccept(m, as, lp, regs);
    case sgx::Enclu::kEmodpe:
      return emodpe(m, as, lp, regs);
    case sgx::Enclu::kEacceptcopy:
      return eacceptcopy(m, as, lp, regs);
  }
  return Leaf::gp();
}

}  // namespace softsgx::enclu

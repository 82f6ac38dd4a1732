// EAUG, EMODPR, EMODT, EBLOCK, ETRACK, EDBGRD and EDBGWR (SDM 3D, section 38.3).
#include <cstring>

#include "softsgx/isa/encls.h"
#include "softsgx/isa/epcm_ops.h"
#include "softsgx/isa/secinfo.h"

namespace softsgx::encls {
namespace {

using sgx::PageType;

bool initialised(const Machine& m, EpcIndex secs) noexcept {
  return (std::atomic_ref(m.secs(secs).attributes.flags).load(std::memory_order_acquire) & sgx::attribute::kInit) != 0;
}

// Marks the page as changed in the present tracking epoch; must come before the change itself can be seen.
void stamp(Machine& m, EpcIndex epc, EpcIndex secs) noexcept {
  m.epcm(epc).block_epoch.store(active::epoch(m.epcm(secs).active.load()));
}

// What EDBGRD and EDBGWR check alike.
Leaf check_debug(Machine& m, EpcIndex epc, std::uint32_t offset) noexcept {
  if (offset % sizeof(std::uint64_t) != 0 || offset >= sgx::kPageSize) return Leaf::gp();
  if (!m.is_epc(epc)) return Leaf::pf(0);
  const std::uint64_t state = m.epcm(epc).state.load();
  if ((state & epcm::kLocked) != 0) return Leaf::gp();
  const PageType type = epcm::type(state);
  const bool right_type = type == PageType::kReg || type == PageType::kTcs;
  if ((state & epcm::kValid) == 0 || !right_type) return Leaf::pf(m.file_offset(epc));
  if ((state & (epcm::kPending | epcm::kModified)) != 0) return Leaf::fail(sgx::Error::kPageNotDebuggable);
  return (m.secs(epcm::secs(state)).attributes.flags & sgx::attribute::kDebug) != 0 ? Leaf{} : Leaf::gp();
}

}  // namespace

Leaf eaug(Machine& m, EpcIndex epc, EpcIndex secs, std::uint64_t linaddr) noexcept {
  if (!m.is_epc(epc) || !m.is_epc(secs)) return Leaf::pf(0);
  if (!page_aligned(linaddr)) return Leaf::gp();
  EntryLock page(m.epcm(epc));
  if (!page.held()) return Leaf::gp();
  if (page.valid()) return Leaf::pf(m.file_offset(epc));
  // EAUG shares the SECS: it counts its page in first and then looks, as EREMOVE locks first and then counts.
  EpcmEntry& owner = m.epcm(secs);
  owner.children.fetch_add(1);
  const std::uint64_t state = owner.state.load();
  const auto refuse = [&owner](Leaf l) {
    owner.children.fetch_sub(1);
    return l;
  };
  if ((state & epcm::kLocked) != 0) return refuse(Leaf::gp());
  if ((state & epcm::kValid) == 0 || epcm::type(state) != PageType::kSecs) return refuse(Leaf::pf(m.file_offset(secs)));
  const sgx::Secs& s = m.secs(secs);
  if (linaddr - s.baseaddr >= s.size || !initialised(m, secs)) return refuse(Leaf::gp());
  std::memset(m.page(epc), 0, sgx::kPageSize);
  m.epcm(epc).enclave_address.store(linaddr);
  page.commit(epcm::kValid | epcm::kPending | epcm::kR | epcm::kW | epcm::of_type(PageType::kReg) |
              epcm::of_secs(secs));
  return {};
}

Leaf emodpr(Machine& m, EpcIndex epc, const sgx::Secinfo& secinfo) noexcept {
  if (!m.is_epc(epc)) return Leaf::pf(0);
  const sgx::Secinfo info = secinfo;
  if (!reserved_clear(info) || write_only(info)) return Leaf::gp();
  EntryLock page(m.epcm(epc));
  if (!page.held()) return Leaf::fail(sgx::Error::kLockfail);
  if (!page.valid()) return Leaf::pf(m.file_offset(epc));
  if ((page.state() & (epcm::kPending | epcm::kModified)) != 0) return Leaf::fail(sgx::Error::kPageNotModifiable);
  if (page.type() != PageType::kReg) return Leaf::pf(m.file_offset(epc));
  if (!initialised(m, page.secs())) return Leaf::gp();
  stamp(m, epc, page.secs());
  const std::uint64_t rights = page.state() & epcm::from_secinfo(info.flags);
  page.commit((page.state() & ~epcm::kRights) | rights | epcm::kPr);
  return {};
}

Leaf emodt(Machine& m, EpcIndex epc, const sgx::Secinfo& secinfo) noexcept {
  if (!m.is_epc(epc)) return Leaf::pf(0);
  const sgx::Secinfo info = secinfo;
  const PageType type = type_of(info);
  if (!reserved_clear(info) || (type != PageType::kTcs && type != PageType::kTrim)) return Leaf::gp();
  EntryLock page(m.epcm(epc));
  if (!page.held()) return Leaf::fail(sgx::Error::kLockfail);
  if (!page.valid()) return Leaf::pf(m.file_offset(epc));
  const bool allowed = page.type() == PageType::kReg || (page.type() == PageType::kTcs && type == PageType::kTrim);
  if (!allowed) return Leaf::pf(m.file_offset(epc));
  if ((page.state() & (epcm::kPending | epcm::kModified)) != 0) return Leaf::fail(sgx::Error::kPageNotModifiable);
  if (!initialised(m, page.secs())) return Leaf::gp();
  stamp(m, epc, page.secs());
  constexpr std::uint64_t kReplaced = epcm::kRights | epcm::kPr | epcm::kTypeMask;
  page.commit((page.state() & ~kReplaced) | epcm::kModified | epcm::of_type(type));
  return {};
}

Leaf eblock(Machine& m, EpcIndex epc) noexcept {
  if (!m.is_epc(epc)) return Leaf::pf(0);
  EntryLock page(m.epcm(epc));
  if (!page.held()) return Leaf::fail(sgx::Error::kLockfail);
  if (!page.valid()) return Leaf::fail(sgx::Error::kPgInvld);
  // These three set CF, not ZF.
  const auto carry = [](sgx::Error e) { return Leaf{.fault = {}, .error = e, .zf = false}; };
  if (page.type() == PageType::kSecs) return carry(sgx::Error::kPgIsSecs);
  if (page.type() != PageType::kReg && page.type() != PageType::kTcs && page.type() != PageType::kTrim) {
    return carry(sgx::Error::kNotblockable);
  }
  if ((page.state() & epcm::kBlocked) != 0) return carry(sgx::Error::kBlkstate);
  stamp(m, epc, page.secs());
  page.commit(page.state() | epcm::kBlocked);
  return {};
}

Leaf etrack(Machine& m, EpcIndex secs) noexcept {
  if (!m.is_epc(secs)) return Leaf::pf(0);
  EpcmEntry& entry = m.epcm(secs);
  const std::uint64_t state = entry.state.load();
  if ((state & epcm::kValid) == 0 || epcm::type(state) != PageType::kSecs) return Leaf::pf(m.file_offset(secs));
  std::uint64_t a = entry.active.load();
  std::uint64_t next = 0;
  do {
    if (active::before(a) != 0) return Leaf::fail(sgx::Error::kPrevTrkIncmpl);
    next = std::uint64_t{active::epoch(a) + 1} << active::kEpochShift | active::current(a) << active::kBeforeShift;
  } while (!entry.active.compare_exchange_weak(a, next));
  return {};
}

Leaf edbgrd(Machine& m, EpcIndex epc, std::uint32_t offset, std::uint64_t& value) noexcept {
  if (const Leaf l = check_debug(m, epc, offset); !l.ok()) return l;
  std::memcpy(&value, m.page(epc) + offset, sizeof(value));
  return {};
}

Leaf edbgwr(Machine& m, EpcIndex epc, std::uint32_t offset, std::uint64_t value) noexcept {
  const Leaf l = check_debug(m, epc, offset);
  if (!l.ok()) return l;
  const bool tcs = epcm::type(m.epcm(epc).state.load()) == PageType::kTcs;
  if (tcs && offset != offsetof(sgx::Tcs, flags)) return Leaf::gp();
  std::memcpy(m.page(epc) + offset, &value, sizeof(value));
  return {};
}

}  // namespace softsgx::encls

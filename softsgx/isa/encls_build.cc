// ECREATE, EADD, EEXTEND and EREMOVE (SDM 3D, section 38.3). In faults, an EPC page's address is its offset in the
// machine file.
#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "sgx/measure.h"
#include "softsgx/isa/encls.h"
#include "softsgx/isa/enclu.h"
#include "softsgx/isa/epcm_ops.h"
#include "softsgx/isa/measurement.h"
#include "softsgx/isa/secinfo.h"

namespace softsgx::encls {
namespace {

using sgx::PageType;

// CPUID.12H.1H:EAX, the attributes that a SECS may carry. INIT is set by EINIT; CET and AEX-Notify are not emulated.
constexpr std::uint64_t kAttributeMask = sgx::attribute::kDebug | sgx::attribute::kMode64Bit |
                                         sgx::attribute::kProvisionKey | sgx::attribute::kEinitTokenKey |
                                         sgx::attribute::kKss;
constexpr std::uint64_t kMaxEnclaveSize = std::uint64_t{1} << 46;  // CPUID.12H.0H:EDX[15:8]

bool xfrm_legal(std::uint64_t xfrm, std::uint64_t allowed) noexcept {
  using namespace sgx::xfrm;
  if ((xfrm & kLegacy) != kLegacy || (xfrm & ~allowed) != 0) return false;
  const std::uint64_t avx512 = xfrm & kAvx512;
  return avx512 == 0 || (avx512 == kAvx512 && (xfrm & kAvx) != 0);
}

bool secs_reserved_clear(const sgx::Secs& s) noexcept {
  return all_zero(s.reserved1) && all_zero(s.reserved2) && all_zero(s.reserved3) && all_zero(s.reserved4);
}

bool secs_legal(const Machine& m, const sgx::Secs& s) noexcept {
  if (!xfrm_legal(s.attributes.xfrm, m.xfrm_allowed())) return false;
  if ((s.miscselect & ~sgx::miscselect::kExinfo) != 0) return false;
  if (s.ssaframesize < enclu::min_ssaframesize(s.attributes.xfrm, s.miscselect)) return false;
  if (!canonical(s.baseaddr) || s.size >= kMaxEnclaveSize) return false;
  if (s.size < 2 * sgx::kPageSize || !std::has_single_bit(s.size) || (s.baseaddr & (s.size - 1)) != 0) return false;
  // 32-bit enclaves cannot run in a 64-bit process and are not emulated.
  if ((s.attributes.flags & ~kAttributeMask) != 0 || (s.attributes.flags & sgx::attribute::kMode64Bit) == 0)
    return false;
  if (!secs_reserved_clear(s)) return false;
  const bool config = s.configsvn != 0 || !all_zero(s.configid);
  return !config || (s.attributes.flags & sgx::attribute::kKss) != 0;
}

template <typename Record>
void measure(SecsState& state, const Record& record) noexcept {
  measurement::add(state, std::as_bytes(std::span(&record, 1)));
}

// EADD's checks of a TCS page's contents and what it forces (the copy in the EPC is the one looked at).
bool prepare_tcs(sgx::Tcs& tcs) noexcept {
  if (!all_zero(tcs.reserved)) return false;
  tcs.flags &= ~sgx::kTcsDbgoptin;
  tcs.cssa = 0;
  tcs.aep = 0;
  tcs.state = 0;
  return true;
}

// EEXTEND's checks, then `chunks` chunks from `first`.
Leaf extend(Machine& m, EpcIndex epc, EpcIndex secs, unsigned first, unsigned chunks) noexcept {
  if (!m.is_epc(epc) || !m.is_epc(secs)) return Leaf::pf(0);
  const EntryLock page(m.epcm(epc));
  if (!page.held()) return Leaf::gp();
  if (!page.valid() || (page.type() != PageType::kReg && page.type() != PageType::kTcs)) {
    return Leaf::pf(m.file_offset(epc));
  }
  if (page.secs() != secs) return Leaf::gp();
  const EntryLock owner(m.epcm(secs));
  if (!owner.held() || (m.secs(secs).attributes.flags & sgx::attribute::kInit) != 0) return Leaf::gp();
  SecsState& state = m.secs_state(secs);
  const std::uint64_t offset = m.epcm(epc).enclave_address.load() - m.secs(secs).baseaddr;
  // In one go: every call to the hash has a price of its own, which is high where the CPU is emulated.
  struct Measured {
    sgx::measure::EextendRecord record;
    std::array<std::byte, sgx::kExtendChunk> bytes;
  };
  static_assert(sizeof(Measured) == sizeof(sgx::measure::EextendRecord) + sgx::kExtendChunk);
  std::array<Measured, sgx::kPageSize / sgx::kExtendChunk> all;
  for (unsigned i = 0; i < chunks; ++i) {
    const std::uint64_t at = (first + i) * sgx::kExtendChunk;
    all[i].record = {.offset = offset + at};
    std::memcpy(all[i].bytes.data(), m.page(epc) + at, sgx::kExtendChunk);
  }
  measurement::add(state, std::as_bytes(std::span(all).first(chunks)));
  return {};
}

}  // namespace

Leaf ecreate(Machine& m, EpcIndex epc, const sgx::Secs& source, const sgx::Secinfo& secinfo) noexcept {
  if (!m.is_epc(epc)) return Leaf::pf(0);
  if (!reserved_clear(secinfo) || type_of(secinfo) != PageType::kSecs) {
    return Leaf::gp();
  }
  EntryLock page(m.epcm(epc));
  if (!page.held()) return Leaf::gp();
  if (page.valid()) return Leaf::pf(m.file_offset(epc));
  // Copied before it is checked: the caller's memory may change under our eyes.
  sgx::Secs& secs = m.secs(epc);
  std::memcpy(&secs, &source, sizeof(secs));
  if (!secs_legal(m, secs)) return Leaf::gp();
  secs.isvsvn = 0;
  secs.isvprodid = 0;
  secs.mrenclave = {};
  secs.mrsigner = {};
  SecsState& state = m.secs_state(epc);
  measurement::begin(state);
  measure(state, sgx::measure::EcreateRecord{.ssaframesize = secs.ssaframesize, .size = secs.size});
  m.epcm(epc).enclave_address.store(0);
  m.epcm(epc).children.store(0);
  m.epcm(epc).active.store(0);
  page.commit(epcm::kValid | epcm::of_type(PageType::kSecs));
  return {};
}

Leaf eadd(Machine& m, EpcIndex epc, EpcIndex secs, std::uint64_t linaddr, const void* source,
          const sgx::Secinfo& secinfo) noexcept {
  if (!m.is_epc(epc) || !m.is_epc(secs)) return Leaf::pf(0);
  sgx::Secinfo info = secinfo;
  const PageType type = type_of(info);
  if (!page_aligned(linaddr) || !reserved_clear(info) || (type != PageType::kReg && type != PageType::kTcs)) {
    return Leaf::gp();
  }
  EntryLock page(m.epcm(epc));
  if (!page.held()) return Leaf::gp();
  if (page.valid()) return Leaf::pf(m.file_offset(epc));
  const EntryLock owner(m.epcm(secs));
  if (!owner.held()) return Leaf::gp();
  if (!owner.valid() || owner.type() != PageType::kSecs) return Leaf::pf(m.file_offset(secs));
  std::memcpy(m.page(epc), source, sgx::kPageSize);
  if (type == PageType::kReg && write_only(info)) return Leaf::gp();
  const sgx::Secs& s = m.secs(secs);
  if (linaddr - s.baseaddr >= s.size || (s.attributes.flags & sgx::attribute::kInit) != 0) return Leaf::gp();
  if (type == PageType::kTcs) {
    if (!prepare_tcs(m.tcs(epc))) return Leaf::gp();
    info.flags &= ~sgx::secinfo::kPermMask;
  }
  sgx::measure::EaddRecord record{.offset = linaddr - s.baseaddr};
  std::memcpy(record.secinfo, &info, sizeof(record.secinfo));
  measure(m.secs_state(secs), record);
  m.epcm(epc).enclave_address.store(linaddr);
  m.epcm(secs).children.fetch_add(1);
  page.commit(epcm::kValid | epcm::of_type(type) | epcm::from_secinfo(info.flags) | epcm::of_secs(secs));
  return {};
}

Leaf eextend(Machine& m, EpcIndex epc, EpcIndex secs, unsigned chunk) noexcept {
  if (chunk >= sgx::kPageSize / sgx::kExtendChunk) return Leaf::gp();
  return extend(m, epc, secs, chunk, 1);
}

Leaf eextend_page(Machine& m, EpcIndex epc, EpcIndex secs) noexcept {
  return extend(m, epc, secs, 0, sgx::kPageSize / sgx::kExtendChunk);
}

Leaf eremove(Machine& m, EpcIndex epc) noexcept {
  if (!m.is_epc(epc)) return Leaf::pf(0);
  EntryLock page(m.epcm(epc));
  if (!page.held()) return Leaf::gp();
  if (!page.valid()) return {};
  if (page.type() == PageType::kSecs) {
    if (m.epcm(epc).children.load() != 0) return Leaf::fail(sgx::Error::kChildPresent);
    page.commit(0);
    return {};
  }
  const EpcIndex secs = page.secs();
  const bool accepted_trim = page.type() == PageType::kTrim && (page.state() & epcm::kModified) == 0;
  if (!accepted_trim && m.active_processors(secs) != 0) return Leaf::fail(sgx::Error::kEnclaveAct);
  page.commit(0);
  m.epcm(secs).children.fetch_sub(1);
  return {};
}

}  // namespace softsgx::encls

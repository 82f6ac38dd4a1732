// EINIT (SDM 3D, section 38.3), without EINITTOKEN: Linux writes the signer's hash to IA32_SGXLEPUBKEYHASH before each
// EINIT, so that MRSIGNER always equals it and the checks against it always pass.
#include <cstring>

#include "softsgx/isa/encls.h"
#include "softsgx/isa/epcm_ops.h"
#include "softsgx/isa/measurement.h"
#include "softsgx/isa/secinfo.h"
#include "softsgx/isa/sigstruct.h"

namespace softsgx::encls {
namespace {

bool masked_equal(std::uint64_t a, std::uint64_t b, std::uint64_t mask) noexcept {
  return (a & mask) == (b & mask);
}

sgx::Error refusal(const sgx::Secs& secs, const sgx::Sigstruct& sig, const sgx::Measurement& mrenclave) noexcept {
  const bool kss = (secs.attributes.flags & sgx::attribute::kKss) != 0;
  if (!kss && !all_zero(sig.isvfamilyid)) return sgx::Error::kInvalidSigStruct;
  if (!(sig.enclavehash == mrenclave)) return sgx::Error::kInvalidMeasurement;
  if (!masked_equal(secs.attributes.flags, sig.attributes.flags, sig.attributemask.flags) ||
      !masked_equal(secs.attributes.xfrm, sig.attributes.xfrm, sig.attributemask.xfrm) ||
      !masked_equal(secs.miscselect, sig.miscselect, sig.miscmask)) {
    return sgx::Error::kInvalidAttribute;
  }
  return sgx::Error::kSuccess;
}

}  // namespace

Leaf einit(Machine& m, EpcIndex epc, const sgx::Sigstruct& sigstruct) noexcept {
  if (!m.is_epc(epc)) return Leaf::pf(0);
  const sgx::Sigstruct sig = sigstruct;
  if (!sigstruct_well_formed(sig)) return Leaf::fail(sgx::Error::kInvalidSigStruct);
  if (!sigstruct_signature_valid(sig)) return Leaf::fail(sgx::Error::kInvalidSignature);
  const EntryLock page(m.epcm(epc));
  if (!page.held()) return Leaf::gp();
  if (!page.valid() || page.type() != sgx::PageType::kSecs) return Leaf::pf(m.file_offset(epc));
  sgx::Secs& secs = m.secs(epc);
  if ((secs.attributes.flags & sgx::attribute::kInit) != 0) return Leaf::gp();
  SecsState& state = m.secs_state(epc);
  const sgx::Measurement mrenclave = measurement::digest(state);
  if (const sgx::Error why = refusal(secs, sig, mrenclave); why != sgx::Error::kSuccess) return Leaf::fail(why);
  secs.mrenclave = mrenclave;
  secs.mrsigner = sigstruct_mrsigner(sig);
  secs.isvprodid = sig.isvprodid;
  secs.isvsvn = sig.isvsvn;
  std::memcpy(state.isvfamilyid, sig.isvfamilyid, sizeof(state.isvfamilyid));
  std::memcpy(state.isvextprodid, sig.isvextprodid, sizeof(state.isvextprodid));
  // Last: EENTER looks at nothing else to decide whether the enclave may run.
  std::atomic_ref(secs.attributes.flags).fetch_or(sgx::attribute::kInit, std::memory_order_release);
  return {};
}

}  // namespace softsgx::encls

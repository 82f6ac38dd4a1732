#include "softsgx/isa/keys.h"

#include <nettle/cmac.h>

#include <algorithm>
#include <cstring>

// EREPORT and EGETKEY run in a signal handler. It interrupts a thread synchronously, at that thread's own ENCLU inside
// an enclave; but the program may have entered the enclave from a handler of its own that had interrupted anything. So
// nothing here allocates or locks: nettle's contexts are plain objects (keys_test.cc counts).
namespace softsgx::keys {
namespace {

// The layout is ours (see keys.h); the fields are the SDM's.
struct Dependencies {
  sgx::KeyName keyname;
  std::uint16_t isvprodid;
  std::uint16_t isvsvn;
  std::uint16_t keypolicy;
  std::uint16_t configsvn;
  std::uint16_t reserved1;
  std::uint32_t miscselect;
  std::uint32_t miscmask;
  std::uint32_t reserved2;
  sgx::Attributes attributes;
  sgx::Attributes attributemask;
  std::uint8_t isvfamilyid[16];
  std::uint8_t isvextprodid[16];
  std::uint8_t owner_epoch[16];
  std::uint8_t seal_fuses[16];
  std::uint8_t cpusvn[16];
  sgx::Measurement mrenclave;
  sgx::Measurement mrsigner;
  std::uint8_t keyid[32];
  std::uint64_t configid[8];
};
static_assert(std::has_unique_object_representations_v<Dependencies>);  // no padding goes into the MAC

template <typename T, std::size_t N>
void copy(T (&to)[N], const T (&from)[N]) noexcept {
  std::copy(std::begin(from), std::end(from), std::begin(to));
}

// Every key hangs on the package's provisioning root. Those of the owner also on the seal fuses, which Intel never had.
Key derive(const Machine& m, const Dependencies& d) noexcept {
  Key root;
  std::memcpy(root.data(), m.fuses().root_provisioning_key, root.size());
  return cmac(root, std::as_bytes(std::span(&d, 1)));
}

Dependencies report_dependencies(const Machine& m, const std::uint8_t (&keyid)[32]) noexcept {
  Dependencies d{};
  d.keyname = sgx::KeyName::kReport;
  copy(d.owner_epoch, m.fuses().owner_epoch);
  copy(d.seal_fuses, m.fuses().root_seal_key);
  std::copy(m.cpusvn().begin(), m.cpusvn().end(), std::begin(d.cpusvn));
  copy(d.keyid, keyid);
  return d;
}

// "Beyond the current configuration": each byte of CPUSVN is one component's number.
bool cpusvn_beyond(const Machine& m, const sgx::Keyrequest& r) noexcept {
  for (std::size_t i = 0; i < sizeof(r.cpusvn); ++i) {
    if (r.cpusvn[i] > m.cpusvn()[i]) return true;
  }
  return false;
}

sgx::Error check_svns(const Machine& m, const Identity& who, const sgx::Keyrequest& r) noexcept {
  if (cpusvn_beyond(m, r)) return sgx::Error::kInvalidCpusvn;
  return r.isvsvn > who.secs->isvsvn ? sgx::Error::kInvalidIsvsvn : sgx::Error::kSuccess;
}

// What all keys but the report key have in common.
Dependencies request_dependencies(const Identity& who, const sgx::Keyrequest& r) noexcept {
  constexpr std::uint64_t kRequired = sgx::attribute::kInit | sgx::attribute::kDebug;
  Dependencies d{};
  d.keyname = r.keyname;
  d.isvprodid = who.secs->isvprodid;
  d.isvsvn = r.isvsvn;
  d.attributes.flags = (r.attributemask.flags | kRequired) & who.secs->attributes.flags;
  d.attributes.xfrm = r.attributemask.xfrm & who.secs->attributes.xfrm;
  d.miscselect = r.miscmask & who.secs->miscselect;
  copy(d.cpusvn, r.cpusvn);
  return d;
}

// The policy bits that the seal and the provisioning seal key share.
void apply_policy(Dependencies& d, const Identity& who, const sgx::Keyrequest& r) noexcept {
  d.keypolicy = r.keypolicy;
  if ((r.keypolicy & sgx::keypolicy::kIsvfamilyid) != 0) copy(d.isvfamilyid, who.state->isvfamilyid);
  if ((r.keypolicy & sgx::keypolicy::kIsvextprodid) != 0) copy(d.isvextprodid, who.state->isvextprodid);
  if ((r.keypolicy & sgx::keypolicy::kNoIsvprodid) != 0) d.isvprodid = 0;
  if ((r.keypolicy & sgx::keypolicy::kConfigid) != 0) {
    copy(d.configid, who.secs->configid);
    d.configsvn = r.configsvn;
  }
}

sgx::Error seal(const Machine& m, const Identity& who, const sgx::Keyrequest& r, Key& key) noexcept {
  if (const auto e = check_svns(m, who, r); e != sgx::Error::kSuccess) return e;
  if (r.configsvn > who.secs->configsvn) return sgx::Error::kInvalidIsvsvn;
  Dependencies d = request_dependencies(who, r);
  apply_policy(d, who, r);
  if ((r.keypolicy & sgx::keypolicy::kMrenclave) != 0) d.mrenclave = who.secs->mrenclave;
  if ((r.keypolicy & sgx::keypolicy::kMrsigner) != 0) d.mrsigner = who.secs->mrsigner;
  d.attributemask = r.attributemask;
  d.miscmask = ~r.miscmask;
  copy(d.keyid, r.keyid);
  copy(d.owner_epoch, m.fuses().owner_epoch);
  copy(d.seal_fuses, m.fuses().root_seal_key);
  key = derive(m, d);
  return sgx::Error::kSuccess;
}

sgx::Error einit_token(const Machine& m, const Identity& who, const sgx::Keyrequest& r, Key& key) noexcept {
  if ((who.secs->attributes.flags & sgx::attribute::kEinitTokenKey) == 0) return sgx::Error::kInvalidAttribute;
  if (const auto e = check_svns(m, who, r); e != sgx::Error::kSuccess) return e;
  Dependencies d = request_dependencies(who, r);
  d.mrsigner = who.secs->mrsigner;
  copy(d.keyid, r.keyid);
  copy(d.owner_epoch, m.fuses().owner_epoch);
  copy(d.seal_fuses, m.fuses().root_seal_key);
  key = derive(m, d);
  return sgx::Error::kSuccess;
}

// Neither owner epoch nor, for the plain provisioning key, the seal fuses: Intel must be able to derive it.
sgx::Error provisioning(const Machine& m, const Identity& who, const sgx::Keyrequest& r, Key& key) noexcept {
  if ((who.secs->attributes.flags & sgx::attribute::kProvisionKey) == 0) return sgx::Error::kInvalidAttribute;
  if (const auto e = check_svns(m, who, r); e != sgx::Error::kSuccess) return e;
  Dependencies d = request_dependencies(who, r);
  d.mrsigner = who.secs->mrsigner;
  d.attributemask = r.attributemask;
  d.miscmask = ~r.miscmask;
  if (r.keyname == sgx::KeyName::kProvisionSeal) {
    apply_policy(d, who, r);
    copy(d.seal_fuses, m.fuses().root_seal_key);
  }
  key = derive(m, d);
  return sgx::Error::kSuccess;
}

}  // namespace

Key cmac(const Key& key, std::span<const std::byte> message) noexcept {
  cmac_aes128_ctx ctx;
  cmac_aes128_set_key(&ctx, key.data());
  cmac_aes128_update(&ctx, message.size(), reinterpret_cast<const std::uint8_t*>(message.data()));
  Key out{};
  cmac_aes128_digest(&ctx, out.size(), out.data());
  explicit_bzero(&ctx, sizeof(ctx));
  return out;
}

Key report_key(const Machine& m, const sgx::Targetinfo& target) noexcept {
  std::uint8_t keyid[32];
  std::copy(m.report_keyid().begin(), m.report_keyid().end(), keyid);
  Dependencies d = report_dependencies(m, keyid);
  d.attributes = target.attributes;
  d.mrenclave = target.measurement;
  d.miscselect = target.miscselect;
  copy(d.configid, target.configid);
  d.configsvn = target.configsvn;
  return derive(m, d);
}

sgx::Error get_key(const Machine& m, const Identity& who, const sgx::Keyrequest& request, Key& key) noexcept {
  switch (request.keyname) {
    case sgx::KeyName::kReport: {
      Dependencies d = report_dependencies(m, request.keyid);
      d.attributes = who.secs->attributes;
      d.mrenclave = who.secs->mrenclave;
      d.miscselect = who.secs->miscselect;
      copy(d.configid, who.secs->configid);
      d.configsvn = who.secs->configsvn;
      key = derive(m, d);
      return sgx::Error::kSuccess;
    }
    case sgx::KeyName::kSeal:
      return seal(m, who, request, key);
    case sgx::KeyName::kEinitToken:
      return einit_token(m, who, request, key);
    case sgx::KeyName::kProvision:
    case sgx::KeyName::kProvisionSeal:
      return provisioning(m, who, request, key);
  }
  return sgx::Error::kInvalidKeyname;
}

}  // namespace softsgx::keys

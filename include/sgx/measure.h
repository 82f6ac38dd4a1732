// The records that ECREATE, EADD and EEXTEND feed into MRENCLAVE's SHA-256 (SDM 3D, the three leaves' pseudo-code).
//
// A signer and the machine must agree on these bytes to the letter; both build them from here.
#pragma once

#include "sgx/arch.h"

namespace sgx::measure {

inline constexpr std::uint64_t kTagEcreate = 0x0045544145524345;  // "ECREATE\0"
inline constexpr std::uint64_t kTagEadd = 0x0000000044444145;     // "EADD\0\0\0\0"
inline constexpr std::uint64_t kTagEextend = 0x00444E4554584545;  // "EEXTEND\0"

struct [[gnu::packed]] EcreateRecord {
  std::uint64_t tag = kTagEcreate;
  std::uint32_t ssaframesize = 0;
  std::uint64_t size = 0;
  std::uint8_t zero[44] = {};
};
static_assert(sizeof(EcreateRecord) == 64);

struct [[gnu::packed]] EaddRecord {
  std::uint64_t tag = kTagEadd;
  std::uint64_t offset = 0;
  std::uint8_t secinfo[48] = {};  // the first 48 bytes of SECINFO
};
static_assert(sizeof(EaddRecord) == 64);

struct [[gnu::packed]] EextendRecord {  // followed by the chunk's 256 bytes
  std::uint64_t tag = kTagEextend;
  std::uint64_t offset = 0;
  std::uint8_t zero[48] = {};
};
static_assert(sizeof(EextendRecord) == 64);

}  // namespace sgx::measure

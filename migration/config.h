// EnclaveConfig: the manifest as the enclave knows it. `sealift sign` writes it into the image's `.sealift_config`
// section before measuring, so every field is part of MRENCLAVE.
#pragma once

#include <cstddef>
#include <cstdint>

#include "sgx/arch.h"

namespace sealift {

inline constexpr std::uint64_t kConfigMagic = 0x31474643544c5341;  // "ASLTCFG1", little-endian
inline constexpr std::uint32_t kConfigVersion = 1;

// How the manifest names the agent enclave that S and T accept.
enum class AgentPin : std::uint32_t { kNone = 0, kMrenclave = 1, kMrsigner = 2 };

// Migration policy bits.
namespace policy {
inline constexpr std::uint32_t kAllowMigration = 1u << 0;
inline constexpr std::uint32_t kDevelopment = 1u << 1;  // debug agents and the development root are accepted
}  // namespace policy

// Which TCB status of the target machine's platform the owner accepts (bit set). Values as in DCAP's appraisal.
namespace tcb {
inline constexpr std::uint32_t kUpToDate = 1u << 0;
inline constexpr std::uint32_t kSwHardeningNeeded = 1u << 1;
inline constexpr std::uint32_t kConfigurationNeeded = 1u << 2;
inline constexpr std::uint32_t kConfigurationAndSwHardeningNeeded = 1u << 3;
inline constexpr std::uint32_t kOutOfDate = 1u << 4;
inline constexpr std::uint32_t kOutOfDateConfigurationNeeded = 1u << 5;
}  // namespace tcb

// What A_s judges A_t by; travels inside Prepare. Part of the measured configuration.
struct MigrationPolicy {
  std::uint32_t flags;         // policy::
  std::uint32_t tcb_accepted;  // tcb::
  std::uint32_t agent_pin;     // AgentPin
  std::uint16_t agent_isvprodid;
  std::uint16_t agent_min_isvsvn;
  sgx::Measurement agent;  // MRENCLAVE or MRSIGNER, by agent_pin
};
static_assert(sizeof(MigrationPolicy) == 48);

// One answer of CPUID. `leaf` and `subleaf` as the enclave asks; unknown leaves are answered with zeroes.
struct CpuidEntry {
  std::uint32_t leaf, subleaf;
  std::uint32_t eax, ebx, ecx, edx;
};
static_assert(sizeof(CpuidEntry) == 24);
inline constexpr std::size_t kMaxCpuid = 40;
inline constexpr std::size_t kMaxCpuidSites = 128;

struct EnclaveConfig {
  std::uint64_t magic;
  std::uint32_t version;
  std::uint32_t tcs_count;      // control and main included
  std::uint32_t ecall_threads;  // TCSs [2, 2 + ecall_threads) serve ecalls
  std::uint32_t ssa_frame_pages;
  // Layout, bytes from ELRANGE's base, page multiples.
  std::uint64_t elrange_size;  // power of two; the arena begins right behind
  std::uint64_t image_size;
  std::uint64_t heap_offset;
  std::uint64_t heap_size;
  std::uint64_t threads_offset;  // first per-thread area
  std::uint64_t thread_stride;   // guard, stack, guard, TCS, 2 SSA frames
  std::uint64_t stack_size;
  std::uint64_t slot_bytes;        // of the arena, per TCS
  std::uint64_t main_stack_limit;  // what RLIMIT_STACK answers
  std::uint64_t xfrm;
  std::uint64_t entry_offset;         // OENTRY of every TCS
  std::uint64_t thread_block_offset;  // OGSBASE of TCS 0; there is room for abi::kMaxTcs, pages only for tcs_count
  std::uint64_t thread_block_stride;
  MigrationPolicy policy;
  std::uint8_t owner_key[32];  // X25519, for suspend to storage; zero: none
  std::uint8_t name[64];       // for people, zero-terminated
  std::uint32_t cpuid_count;
  std::uint32_t cpuid_site_count;
  CpuidEntry cpuid[kMaxCpuid];
  std::uint32_t cpuid_sites[kMaxCpuidSites];  // image offsets where `cpuid` was turned into `ud2`, ascending
};
static_assert(sizeof(EnclaveConfig) == 8 + 16 + 8 * 13 + 48 + 32 + 64 + 8 + 24 * kMaxCpuid + 4 * kMaxCpuidSites);

// Where things are inside a per-thread area of stride `thread_stride`.
[[nodiscard]] constexpr std::uint64_t thread_base(const EnclaveConfig& c, std::uint32_t tcs) noexcept {
  return c.threads_offset + std::uint64_t{tcs} * c.thread_stride;
}
[[nodiscard]] constexpr std::uint64_t stack_offset(const EnclaveConfig& c, std::uint32_t tcs) noexcept {
  return thread_base(c, tcs) + sgx::kPageSize;
}
[[nodiscard]] constexpr std::uint64_t tcs_offset(const EnclaveConfig& c, std::uint32_t tcs) noexcept {
  return stack_offset(c, tcs) + c.stack_size + sgx::kPageSize;
}
[[nodiscard]] constexpr std::uint64_t ssa_offset(const EnclaveConfig& c, std::uint32_t tcs) noexcept {
  return tcs_offset(c, tcs) + sgx::kPageSize;
}
[[nodiscard]] constexpr std::uint64_t thread_stride(std::uint64_t stack, std::uint64_t ssa_frame_pages) noexcept {
  return sgx::kPageSize * (3 + 2 * ssa_frame_pages) + stack;
}

}  // namespace sealift

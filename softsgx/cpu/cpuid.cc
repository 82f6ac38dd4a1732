#include "softsgx/cpu/cpuid.h"

#include <asm/prctl.h>
#include <cpuid.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "softsgx/cpu/context.h"
#include "softsgx/cpu/platform.h"
#include "softsgx/isa/raw_syscall.h"

namespace softsgx {
namespace {

constexpr std::uint64_t kCpuidLength = 2;
constexpr unsigned char kCpuid[] = {0x0f, 0xa2}, kUd2[] = {0x0f, 0x0b};

bool g_faulting = false;
std::vector<std::uint64_t> g_patched;  // sorted; written before any patched instruction can execute

CpuidResult host_cpuid(std::uint32_t leaf, std::uint32_t subleaf) noexcept {
  CpuidResult r{};
  if (g_faulting) raw::call(SYS_arch_prctl, ARCH_SET_CPUID, 1);
  __cpuid_count(leaf, subleaf, r.eax, r.ebx, r.ecx, r.edx);
  if (g_faulting) raw::call(SYS_arch_prctl, ARCH_SET_CPUID, 0);
  return r;
}

// Leaf 0x12 (SDM 2A). Subleaf 2 and up: EPC sections; an address is a physical one, and here the offset in the file.
CpuidResult sgx_leaf(const Machine& m, std::uint32_t subleaf) noexcept {
  constexpr std::uint32_t kSgx1 = 1, kSgx2 = 2, kMaxEnclaveBits = 47, kMax32Bits = 31;
  switch (subleaf) {
    case 0:
      return {kSgx1 | kSgx2, sgx::miscselect::kExinfo, 0, kMaxEnclaveBits << 8 | kMax32Bits};
    case 1: {
      const std::uint64_t attributes = sgx::attribute::kInit | sgx::attribute::kDebug | sgx::attribute::kMode64Bit |
                                       sgx::attribute::kProvisionKey | sgx::attribute::kEinitTokenKey |
                                       sgx::attribute::kKss;
      return {static_cast<std::uint32_t>(attributes), 0, static_cast<std::uint32_t>(m.xfrm_allowed()),
              static_cast<std::uint32_t>(m.xfrm_allowed() >> 32)};
    }
    case 2: {
      const std::uint64_t base = m.file_offset(m.section_first());
      const std::uint64_t size = std::uint64_t{m.section_pages()} << sgx::kPageShift;
      constexpr std::uint32_t kValidSection = 1, kProtected = 1;
      return {static_cast<std::uint32_t>(base) | kValidSection, static_cast<std::uint32_t>(base >> 32),
              static_cast<std::uint32_t>(size) | kProtected, static_cast<std::uint32_t>(size >> 32)};
    }
    default:
      return {};
  }
}

}  // namespace

bool CpuidPresentation::enable_faulting() noexcept {
  g_faulting = raw::call(SYS_arch_prctl, ARCH_SET_CPUID, 0) == 0;
  return g_faulting;
}

bool CpuidPresentation::faulting() noexcept {
  return g_faulting;
}

std::size_t CpuidPresentation::patch(std::uint64_t begin, std::uint64_t end) {
  constexpr std::uint64_t kPageMask = ~std::uint64_t{sgx::kPageSize - 1};
  const std::uint64_t first = begin & kPageMask;
  const std::uint64_t length = ((end + sgx::kPageSize - 1) & kPageMask) - first;
  auto* from = reinterpret_cast<unsigned char*>(begin);
  auto* to = reinterpret_cast<unsigned char*>(end);
  std::vector<std::uint64_t> found;
  for (auto* p = std::search(from, to, kCpuid, kCpuid + kCpuidLength); p != to;
       p = std::search(p + kCpuidLength, to, kCpuid, kCpuid + kCpuidLength)) {
    found.push_back(reinterpret_cast<std::uint64_t>(p));
  }
  if (found.empty() || raw::call(SYS_mprotect, first, length, PROT_READ | PROT_WRITE) != 0) return 0;
  for (const std::uint64_t at : found) std::memcpy(reinterpret_cast<void*>(at), kUd2, sizeof kUd2);
  raw::call(SYS_mprotect, first, length, PROT_READ | PROT_EXEC);
  g_patched.insert(g_patched.end(), found.begin(), found.end());
  std::sort(g_patched.begin(), g_patched.end());
  return found.size();
}

bool CpuidPresentation::emulate_patched(ucontext_t& context) noexcept {
  if (!std::binary_search(g_patched.begin(), g_patched.end(), rip(context))) return false;
  emulate(context);
  return true;
}

void CpuidPresentation::emulate(ucontext_t& context) noexcept {
  greg_t* g = context.uc_mcontext.gregs;
  const CpuidResult r =
      present(*g_processor.machine, static_cast<std::uint32_t>(g[REG_RAX]), static_cast<std::uint32_t>(g[REG_RCX]));
  g[REG_RAX] = r.eax;
  g[REG_RBX] = r.ebx;
  g[REG_RCX] = r.ecx;
  g[REG_RDX] = r.edx;
  set_rip(context, rip(context) + kCpuidLength);
}

CpuidResult CpuidPresentation::present(const Machine& m, std::uint32_t leaf, std::uint32_t subleaf) noexcept {
  constexpr std::uint32_t kFeatures = 7, kSgx = 0x12;
  constexpr std::uint32_t kSgxBit = 1u << 2, kLaunchControlBit = 1u << 30;
  if (leaf == kSgx) return sgx_leaf(m, subleaf);
  CpuidResult r = host_cpuid(leaf, subleaf);
  if (leaf == 0 && r.eax < kSgx) r.eax = kSgx;
  if (leaf == kFeatures && subleaf == 0) {
    r.ebx |= kSgxBit;
    r.ecx |= kLaunchControlBit;
  }
  return r;
}

}  // namespace softsgx

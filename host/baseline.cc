#include "host/baseline.h"

#include <cpuid.h>

#include <algorithm>
#include <iterator>
#include <stdexcept>

#include "sgx/arch.h"

namespace sealift::host {
namespace {

enum Register : std::uint8_t { kEbx, kEcx, kEdx };

// One feature bit of CPUID, and the level from which on it is part of the baseline (9: only when asked for).
struct Feature {
  const char* name;
  std::uint32_t leaf;
  Register reg;
  std::uint8_t bit;
  std::uint8_t level;
};

constexpr std::uint32_t kExtended = 0x80000001;
constexpr Feature kFeatures[] = {
    {"fpu", 1, kEdx, 0, 2},
    {"tsc", 1, kEdx, 4, 2},
    {"msr", 1, kEdx, 5, 2},
    {"cx8", 1, kEdx, 8, 2},
    {"cmov", 1, kEdx, 15, 2},
    {"clfsh", 1, kEdx, 19, 2},
    {"mmx", 1, kEdx, 23, 2},
    {"fxsr", 1, kEdx, 24, 2},
    {"sse", 1, kEdx, 25, 2},
    {"sse2", 1, kEdx, 26, 2},
    {"sse3", 1, kEcx, 0, 2},
    {"pclmulqdq", 1, kEcx, 1, 2},
    {"ssse3", 1, kEcx, 9, 2},
    {"fma", 1, kEcx, 12, 3},
    {"cx16", 1, kEcx, 13, 2},
    {"sse4_1", 1, kEcx, 19, 2},
    {"sse4_2", 1, kEcx, 20, 2},
    {"movbe", 1, kEcx, 22, 3},
    {"popcnt", 1, kEcx, 23, 2},
    {"aes", 1, kEcx, 25, 2},
    {"xsave", 1, kEcx, 26, 2},
    {"osxsave", 1, kEcx, 27, 2},
    {"avx", 1, kEcx, 28, 3},
    {"f16c", 1, kEcx, 29, 3},
    {"rdrand", 1, kEcx, 30, 2},
    {"fsgsbase", 7, kEbx, 0, 2},
    {"bmi1", 7, kEbx, 3, 3},
    {"avx2", 7, kEbx, 5, 3},
    {"bmi2", 7, kEbx, 8, 3},
    {"erms", 7, kEbx, 9, 9},
    {"avx512f", 7, kEbx, 16, 4},
    {"avx512dq", 7, kEbx, 17, 4},
    {"rdseed", 7, kEbx, 18, 9},
    {"adx", 7, kEbx, 19, 9},
    {"avx512ifma", 7, kEbx, 21, 9},
    {"avx512cd", 7, kEbx, 28, 4},
    {"sha", 7, kEbx, 29, 9},
    {"avx512bw", 7, kEbx, 30, 4},
    {"avx512vl", 7, kEbx, 31, 4},
    {"avx512vbmi", 7, kEcx, 1, 9},
    {"gfni", 7, kEcx, 8, 9},
    {"vaes", 7, kEcx, 9, 9},
    {"vpclmulqdq", 7, kEcx, 10, 9},
    {"avx512_vnni", 7, kEcx, 11, 9},
    {"lahf_lm", kExtended, kEcx, 0, 2},
    {"abm", kExtended, kEcx, 5, 3},
    {"syscall", kExtended, kEdx, 11, 2},
    {"nx", kExtended, kEdx, 20, 2},
    {"lm", kExtended, kEdx, 29, 2},
};

std::uint32_t& register_of(CpuidEntry& e, Register r) {
  return r == kEbx ? e.ebx : r == kEcx ? e.ecx : e.edx;
}

std::uint8_t level_number(const std::string& level) {
  if (level == "x86-64-v2") return 2;
  if (level == "x86-64-v3") return 3;
  if (level == "x86-64-v4") return 4;
  throw std::invalid_argument("unknown CPU baseline '" + level + "': use x86-64-v2, x86-64-v3 or x86-64-v4");
}

// Leaves that say something else than features. glibc and OpenSSL read caches by the rules of the vendor named here;
// AMD's are plain numbers in two leaves. The numbers are of a middling server CPU and the same everywhere on purpose.
std::vector<CpuidEntry> fixed_leaves(std::uint64_t xfrm) {
  constexpr std::uint32_t kXsaveBytes = 2696;  // up to PKRU in Intel's layout, the larger one
  return {
      {0x0, 0, 0xd, 0x68747541, 0x444d4163, 0x69746e65},  // "AuthenticAMD"
      {0x1, 0, 0x00830f10, 0x00000800, 0, 0},
      {0x7, 0, 0, 0, 0, 0},
      {0xd, 0, static_cast<std::uint32_t>(xfrm), kXsaveBytes, kXsaveBytes, 0},
      {0x80000000, 0, 0x80000008, 0x68747541, 0x444d4163, 0x69746e65},
      {kExtended, 0, 0x00830f10, 0, 0, 0},
      {0x80000005, 0, 0, 0, 0x20080140, 0x20080140},  // L1: 32 KiB, 8 ways, 64-byte lines
      {0x80000006, 0, 0, 0, 0x02006140, 0x00809140},  // L2: 512 KiB; L3: 16 MiB
      {0x80000008, 0, 0x3030, 0, 0, 0},
  };
}

}  // namespace

Baseline make_baseline(const std::string& level, const std::vector<std::string>& features) {
  const std::uint8_t number = level_number(level);
  Baseline b{sgx::xfrm::kLegacy, {}};
  if (number >= 3) b.xfrm |= sgx::xfrm::kAvx;
  if (number >= 4) b.xfrm |= sgx::xfrm::kAvx512;
  b.cpuid = fixed_leaves(b.xfrm);
  for (const Feature& f : kFeatures) {
    const bool asked = std::find(features.begin(), features.end(), f.name) != features.end();
    if (f.level > number && !asked) continue;
    for (CpuidEntry& e : b.cpuid) {
      if (e.leaf == f.leaf) register_of(e, f.reg) |= std::uint32_t{1} << f.bit;
    }
  }
  for (const std::string& name : features) {
    if (std::none_of(std::begin(kFeatures), std::end(kFeatures), [&](const Feature& f) { return name == f.name; })) {
      throw std::invalid_argument("unknown CPU feature '" + name + "'");
    }
  }
  return b;
}

std::string missing_on_this_cpu(const EnclaveConfig& config) {
  std::string missing;
  for (const Feature& f : kFeatures) {
    bool wanted = false;
    for (std::uint32_t i = 0; i < std::min<std::uint32_t>(config.cpuid_count, kMaxCpuid); ++i) {
      CpuidEntry e = config.cpuid[i];
      if (e.leaf == f.leaf && ((register_of(e, f.reg) >> f.bit) & 1) != 0) wanted = true;
    }
    CpuidEntry here{f.leaf, 0, 0, 0, 0, 0};
    const int known = __get_cpuid_count(f.leaf, 0, &here.eax, &here.ebx, &here.ecx, &here.edx);
    if (wanted && (known == 0 || ((register_of(here, f.reg) >> f.bit) & 1) == 0)) {
      missing += (missing.empty() ? "" : ", ") + std::string(f.name);
    }
  }
  return missing;
}

}  // namespace sealift::host

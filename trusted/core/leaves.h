// The ENCLU leaves that core executes besides EEXIT: EREPORT and EGETKEY (SDM 3D, chapter 37).
#pragma once

#include <cstdint>

#include "sgx/arch.h"

namespace sealift::core {

struct alignas(512) AlignedReport {
  sgx::Report report;
};
struct alignas(128) ReportData {
  std::uint8_t bytes[64];
};
struct alignas(16) Key128 {
  std::uint8_t bytes[16];
};

// Never fails for operands that are aligned and inside the enclave; these are, by type.
inline void ereport(const sgx::Targetinfo& target, const ReportData& data, AlignedReport& out) noexcept {
  asm volatile(".byte 0x0f, 0x01, 0xd7"
               :
               : "a"(static_cast<std::uint64_t>(sgx::Enclu::kEreport)), "b"(&target), "c"(&data), "d"(&out)
               : "memory", "cc");
}

// The SGX error code: 0 on success.
[[nodiscard]] inline std::uint32_t egetkey(const sgx::Keyrequest& request, Key128& out) noexcept {
  std::uint64_t rax = static_cast<std::uint64_t>(sgx::Enclu::kEgetkey);
  asm volatile(".byte 0x0f, 0x01, 0xd7" : "+a"(rax) : "b"(&request), "c"(&out) : "memory", "cc");
  return static_cast<std::uint32_t>(rax);
}

}  // namespace sealift::core

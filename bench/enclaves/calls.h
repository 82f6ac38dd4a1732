// Ecalls of the benchmark's enclave.
#pragma once

#include <cstdint>

#include "sealift/calls.h"

namespace workload {

enum class Kernel : std::uint32_t { kSort, kHashTable, kMatrix, kSha256, kDeflate, kNbody, kAllocate, kCount };

inline constexpr sealift::Ecall<1, void(std::uint64_t)> kFill{};       // bytes of non-zero ballast
inline constexpr sealift::Ecall<2, void(std::uint32_t)> kStartBusy{};  // threads that never leave by themselves
inline constexpr sealift::Ecall<3, void()> kStopBusy{};
inline constexpr sealift::Ecall<4, std::uint64_t(std::uint32_t, std::uint32_t)> kRun{};  // Kernel, size -> checksum
inline constexpr sealift::Ecall<5, std::uint64_t()> kChecksum{};                         // of the ballast

}  // namespace workload

#pragma once

#include <cstdint>
#include <string>

#include "sealift/calls.h"

namespace hello {

inline constexpr sealift::Ecall<1, std::string(std::string, std::uint32_t)> kGreet{};
inline constexpr sealift::Ecall<2, std::uint64_t(std::uint32_t, std::uint32_t)> kSumInThreads{};
inline constexpr sealift::Ecall<3, void()> kThrows{};
inline constexpr sealift::Ecall<4, std::int32_t()> kCatches{};
inline constexpr sealift::Ecall<5, std::uint32_t(std::uint32_t)> kAskHost{};
inline constexpr sealift::Ecall<6, void(std::uint64_t)> kCrash{};
inline constexpr sealift::Ecall<7, void()> kAskHostThenCrash{};
inline constexpr sealift::Ocall<1, std::uint32_t(std::uint32_t)> kDouble{};

}  // namespace hello

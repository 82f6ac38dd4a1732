#pragma once

#include <cstdint>
#include <string>
#include <tuple>

#include "sealift/calls.h"

namespace counter {

struct State {
  std::uint64_t value = 0;
  bool consistent = false;
  auto tie() { return std::tie(value, consistent); }
  auto tie() const { return std::tie(value, consistent); }
};

// Memory fresh from mmap: where it was, and how many of its bytes were not zero.
struct Fresh {
  std::uint64_t address = 0, dirty = 0;
  auto tie() { return std::tie(address, dirty); }
  auto tie() const { return std::tie(address, dirty); }
};

inline constexpr sealift::Ecall<1, void()> kStep{};
inline constexpr sealift::Ecall<2, State()> kState{};
inline constexpr sealift::Ecall<3, void(std::uint32_t)> kStartWorkers{};
inline constexpr sealift::Ecall<4, void()> kStopWorkers{};
inline constexpr sealift::Ecall<5, void(std::string, std::string)> kPut{};
inline constexpr sealift::Ecall<6, std::string(std::string)> kGet{};
inline constexpr sealift::Ecall<7, void(std::uint64_t, std::uint8_t)> kFill{};
inline constexpr sealift::Ecall<8, std::uint64_t()> kChecksum{};
inline constexpr sealift::Ecall<9, std::uint64_t(std::uint64_t)> kSpin{};
inline constexpr sealift::Ecall<10, std::uint64_t()> kIdentity{};
inline constexpr sealift::Ecall<11, Fresh(std::uint64_t)> kFresh{};
// read(2) of so many bytes from descriptor 0: what it returned (or -errno), and whether the bytes behind the buffer are
// as they were.
inline constexpr sealift::Ecall<12, std::tuple<std::int64_t, bool>(std::uint64_t)> kRead{};
// Waits, without a lock and without leaving, until kStep has been called so often; returns how often.
inline constexpr sealift::Ecall<13, std::uint64_t(std::uint64_t)> kWatch{};
// One step; returns the counter's new value.
inline constexpr sealift::Ecall<14, std::uint64_t()> kNext{};

// Waits for a condition variable that nobody ever notifies.
inline constexpr sealift::Ecall<15, void()> kWaitForNothing{};

}  // namespace counter

// Checks that several leaves share. Private to softsgx/isa.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>

#include "sgx/arch.h"

namespace softsgx {

template <typename T, std::size_t N>
[[nodiscard]] constexpr bool all_zero(const T (&values)[N]) noexcept {
  return std::all_of(std::begin(values), std::end(values), [](T v) { return v == 0; });
}

[[nodiscard]] constexpr bool reserved_clear(const sgx::Secinfo& s) noexcept {
  return (s.flags & sgx::secinfo::kReservedMask) == 0 && all_zero(s.reserved);
}

[[nodiscard]] constexpr sgx::PageType type_of(const sgx::Secinfo& s) noexcept {
  return static_cast<sgx::PageType>((s.flags & sgx::secinfo::kTypeMask) >> sgx::secinfo::kTypeShift);
}

// W without R: no page may be so.
[[nodiscard]] constexpr bool write_only(const sgx::Secinfo& s) noexcept {
  return (s.flags & sgx::secinfo::kR) == 0 && (s.flags & sgx::secinfo::kW) != 0;
}

}  // namespace softsgx

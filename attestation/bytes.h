// Small helpers for bytes: spans, hexadecimal, little-endian reading with bounds.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace sealift::attestation {

using Bytes = std::vector<std::uint8_t>;
using ByteSpan = std::span<const std::uint8_t>;

// Seconds since 1970, UTC.
using UnixTime = std::int64_t;

template <class T>
[[nodiscard]] ByteSpan object_bytes(const T& object) noexcept {
  static_assert(std::is_trivially_copyable_v<T>);
  return {reinterpret_cast<const std::uint8_t*>(&object), sizeof(T)};
}

[[nodiscard]] inline ByteSpan text_bytes(std::string_view text) noexcept {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

[[nodiscard]] inline std::string_view as_text(ByteSpan bytes) noexcept {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

template <class T>
void append_object(Bytes& out, const T& object) {
  const ByteSpan bytes = object_bytes(object);
  out.insert(out.end(), bytes.begin(), bytes.end());
}

// Reads consecutive parts of a buffer; every read is checked against what is left. Does not own the buffer.
class Reader {
 public:
  explicit Reader(ByteSpan bytes) noexcept : rest_(bytes) {}

  // Copies the next sizeof(T) bytes to `out`; false, and nothing consumed, if there are fewer.
  template <class T>
  [[nodiscard]] bool read(T& out) noexcept {
    static_assert(std::is_trivially_copyable_v<T>);
    if (rest_.size() < sizeof(T)) return false;
    std::memcpy(&out, rest_.data(), sizeof(T));
    rest_ = rest_.subspan(sizeof(T));
    return true;
  }

  // The next `size` bytes, as a view of the buffer.
  [[nodiscard]] bool take(std::size_t size, ByteSpan& out) noexcept {
    if (rest_.size() < size) return false;
    out = rest_.first(size);
    rest_ = rest_.subspan(size);
    return true;
  }

  [[nodiscard]] std::size_t left() const noexcept { return rest_.size(); }

 private:
  ByteSpan rest_;
};

// Upper or lower case, exactly 2 * out.size() digits.
[[nodiscard]] bool decode_hex(std::string_view text, std::span<std::uint8_t> out) noexcept;
[[nodiscard]] std::optional<Bytes> decode_hex(std::string_view text);

// A moment of the Gregorian calendar, UTC; nullopt if there is no such moment. Needs no time zone database, unlike
// timegm.
[[nodiscard]] std::optional<UnixTime> unix_time(int year, int month, int day, int hour, int minute,
                                                int second) noexcept;

// "2025-06-19T10:56:11Z", nothing else.
[[nodiscard]] std::optional<UnixTime> parse_utc(std::string_view text) noexcept;

}  // namespace sealift::attestation

#include "attestation/bytes.h"

#include <chrono>

namespace sealift::attestation {
namespace {

int hex_digit(char c) noexcept {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// Exactly `count` decimal digits at `at`, or -1.
int decimal(std::string_view text, std::size_t at, std::size_t count) noexcept {
  int value = 0;
  for (const char c : text.substr(at, count)) {
    if (c < '0' || c > '9') return -1;
    value = value * 10 + (c - '0');
  }
  return value;
}

}  // namespace

bool decode_hex(std::string_view text, std::span<std::uint8_t> out) noexcept {
  if (text.size() != out.size() * 2) return false;
  for (std::size_t i = 0; i < out.size(); ++i) {
    const int high = hex_digit(text[2 * i]);
    const int low = hex_digit(text[2 * i + 1]);
    if (high < 0 || low < 0) return false;
    out[i] = static_cast<std::uint8_t>(high << 4 | low);
  }
  return true;
}

std::optional<Bytes> decode_hex(std::string_view text) {
  Bytes out(text.size() / 2);
  if (!decode_hex(text, out)) return std::nullopt;
  return out;
}

std::optional<UnixTime> unix_time(int year, int month, int day, int hour, int minute, int second) noexcept {
  if (month < 0 || day < 0 || hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 59) {
    return std::nullopt;
  }
  const std::chrono::year_month_day date{std::chrono::year{year}, std::chrono::month{static_cast<unsigned>(month)},
                                         std::chrono::day{static_cast<unsigned>(day)}};
  if (!date.ok()) return std::nullopt;
  const auto days = std::chrono::sys_days{date}.time_since_epoch().count();
  return UnixTime{days} * 86400 + hour * 3600 + minute * 60 + second;
}

std::optional<UnixTime> parse_utc(std::string_view text) noexcept {
  constexpr std::string_view kShape = "dddd-dd-ddTdd:dd:ddZ";
  if (text.size() != kShape.size()) return std::nullopt;
  for (std::size_t i = 0; i < kShape.size(); ++i) {
    if (kShape[i] != 'd' && kShape[i] != text[i]) return std::nullopt;
  }
  const int year = decimal(text, 0, 4);
  if (year < 0) return std::nullopt;
  return unix_time(year, decimal(text, 5, 2), decimal(text, 8, 2), decimal(text, 11, 2), decimal(text, 14, 2),
                   decimal(text, 17, 2));
}

}  // namespace sealift::attestation

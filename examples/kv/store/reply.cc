#include "examples/kv/store/reply.h"

#include <algorithm>
#include <charconv>

namespace kv {

void Reply::need(std::size_t bytes) {
  if (bytes > limit_ - out_.size()) throw NoRoom();
  const std::size_t wanted = out_.size() + bytes;
  if (wanted > out_.capacity()) out_.reserve(std::max(wanted, std::min(limit_, 2 * out_.capacity())));
}

void Reply::line(char marker, std::string_view text) {
  need(text.size() + 3);
  out_.push_back(marker);
  // The text may quote a client: a line break in it would start another reply.
  for (const char c : text) out_.push_back(c == '\r' || c == '\n' ? ' ' : c);
  out_.append("\r\n");
}

void Reply::number(char marker, std::int64_t value) {
  char digits[24];
  const auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
  line(marker, {digits, static_cast<std::size_t>(end - digits)});
}

void Reply::simple(std::string_view text) {
  line('+', text);
}

void Reply::error(std::string_view text) {
  line('-', text);
}

void Reply::integer(std::int64_t value) {
  number(':', value);
}

void Reply::bulk(std::string_view text) {
  need(bulk_bytes(text.size()));
  number('$', static_cast<std::int64_t>(text.size()));
  out_.append(text).append("\r\n");
}

void Reply::null() {
  line('$', "-1");
}

void Reply::null_array() {
  line('*', "-1");
}

void Reply::array(std::size_t size) {
  number('*', static_cast<std::int64_t>(size));
}

void Reply::append(const Reply& other) {
  need(other.out_.size());
  out_.append(other.out_);
}

}  // namespace kv

#include "examples/kv/store/command.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>

namespace kv {
namespace {

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

const std::map<std::string_view, const Command*>& registry() {
  static const auto all = [] {
    std::map<std::string_view, const Command*> m;
    for (const auto group : {server_commands(), key_commands(), string_commands(), hash_commands(), list_commands(),
                             set_commands(), sorted_set_commands()}) {
      for (const Command& c : group) m.emplace(c.name, &c);
    }
    return m;
  }();
  return all;
}

}  // namespace

std::vector<KeyRef> Context::keys(std::size_t first, std::size_t step) const {
  std::vector<KeyRef> keys;
  for (std::size_t i = first; i < args.size(); i += step) keys.emplace_back(args[i]);
  return keys;
}

const Command* find_command(std::string_view name) {
  char text[32];
  if (name.size() > sizeof text) return nullptr;
  std::transform(name.begin(), name.end(), text, lower);
  const auto found = registry().find(std::string_view(text, name.size()));
  return found == registry().end() ? nullptr : found->second;
}

std::vector<const Command*> all_commands() {
  std::vector<const Command*> all;
  for (const auto& [name, command] : registry()) all.push_back(command);
  return all;
}

bool same_word(std::string_view a, std::string_view lower_case) {
  return a.size() == lower_case.size() &&
         std::equal(a.begin(), a.end(), lower_case.begin(), [](char x, char y) { return lower(x) == y; });
}

std::int64_t to_integer(std::string_view text) {
  std::int64_t value = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || stop != text.data() + text.size()) {
    throw Failure{"ERR value is not an integer or out of range"};
  }
  return value;
}

std::size_t to_count(std::string_view text) {
  const std::int64_t value = to_integer(text);
  if (value < 0) throw Failure{"ERR value is out of range, must be positive"};
  return static_cast<std::size_t>(value);
}

double to_score(std::string_view text) {
  if (text.starts_with('+')) text.remove_prefix(1);
  double value = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || stop != text.data() + text.size() || std::isnan(value)) {
    throw Failure{"ERR value is not a valid float"};
  }
  return value;
}

std::string score_text(double score) {
  char text[32];
  return {text, std::to_chars(text, text + sizeof text, score).ptr};
}

Milliseconds deadline_in(Context& c, std::string_view amount, std::int64_t unit) {
  const std::int64_t value = to_integer(amount);
  const Milliseconds now = c.clock.now();
  if (value <= 0 || value > (kNever - 1 - now) / unit) {
    throw Failure{"ERR invalid expire time in '" + std::string(c.args[0].substr(0, 32)) + "' command"};
  }
  return now + value * unit;
}

void syntax_error() {
  throw Failure{"ERR syntax error"};
}

void wrong_type() {
  throw Failure{"WRONGTYPE Operation against a key holding the wrong kind of value"};
}

Range to_range(std::string_view start, std::string_view stop, std::size_t length) {
  const auto size = static_cast<std::int64_t>(length);
  std::int64_t first = to_integer(start), last = to_integer(stop);
  if (first < 0) first = std::max<std::int64_t>(first + size, 0);
  last = last < 0 ? last + size : std::min(last, size - 1);
  if (first > last) return {};
  return {static_cast<std::size_t>(first), static_cast<std::size_t>(last - first + 1)};
}

}  // namespace kv

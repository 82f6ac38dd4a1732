#include "examples/kv/store/glob.h"

#include <cstddef>
#include <utility>

namespace kv {
namespace {

// Whether the class at p[at] == '[' contains c; leaves `at` behind it. A class that does not end reaches to the
// pattern's end, as in redis.
bool class_contains(std::string_view p, std::size_t& at, char c) {
  ++at;
  const bool negated = at < p.size() && p[at] == '^';
  if (negated) ++at;
  bool found = false;
  while (at < p.size() && p[at] != ']') {
    if (p[at] == '\\' && at + 1 < p.size()) ++at;
    char low = p[at], high = low;
    if (at + 2 < p.size() && p[at + 1] == '-' && p[at + 2] != ']') {
      high = p[at + 2];
      at += 2;
    }
    if (low > high) std::swap(low, high);
    found = found || (low <= c && c <= high);
    ++at;
  }
  if (at < p.size()) ++at;
  return found != negated;
}

// Matches one character; `at` moves behind what was matched with.
bool match_one(std::string_view p, std::size_t& at, char c) {
  if (p[at] == '[') return class_contains(p, at, c);
  if (p[at] == '?') {
    ++at;
    return true;
  }
  if (p[at] == '\\' && at + 1 < p.size()) ++at;
  return p[at++] == c;
}

}  // namespace

bool glob_match(std::string_view pattern, std::string_view text) {
  constexpr std::size_t kNone = static_cast<std::size_t>(-1);
  std::size_t p = 0, t = 0;
  std::size_t star = kNone, star_text = 0;  // only the last * need ever be tried again
  while (t < text.size()) {
    std::size_t next = p;
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      star_text = t;
    } else if (p < pattern.size() && match_one(pattern, next, text[t])) {
      p = next;
      ++t;
    } else if (star != kNone) {
      p = star + 1;
      t = ++star_text;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

}  // namespace kv

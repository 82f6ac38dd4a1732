// What a key can hold. Every operation here either happens or, on std::bad_alloc, has changed nothing.
#pragma once

#include <algorithm>
#include <cstdint>
#include <list>
#include <set>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <variant>

#include "examples/kv/store/memory.h"

namespace kv {

// SipHash-2-4 under a random key: clients choose what they store, and must not be able to choose collisions.
[[nodiscard]] std::uint64_t hash_of(std::string_view text);

// Not declared noexcept, so that libstdc++ keeps each element's hash and growing never computes one anew.
struct TextHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const { return hash_of(text); }
};
struct TextEqual {
  using is_transparent = void;
  bool operator()(std::string_view a, std::string_view b) const { return a == b; }
};

using List = std::list<String, Allocator<String>>;
using Hash = std::unordered_map<String, String, TextHash, TextEqual, Allocator<std::pair<const String, String>>>;
using Set = std::unordered_set<String, TextHash, TextEqual, Allocator<String>>;

// Members by name, and in the order of (score, name).
class SortedSet {
 public:
  using Order =
      std::set<std::pair<double, std::string_view>, std::less<>, Allocator<std::pair<double, std::string_view>>>;

  // Takes every member of `other` over, with its score. Returns how many are new. Allocates nothing but index space.
  std::size_t merge(SortedSet&& other);
  // Adds to a set that is not shared yet; of a member given twice the last score stays.
  void add(std::string_view member, double score);
  bool remove(std::string_view member);
  // Null: no such member.
  [[nodiscard]] const double* score(std::string_view member) const;
  // Each is (score, name); the names live as long as the member stays.
  [[nodiscard]] const Order& order() const { return order_; }
  [[nodiscard]] std::size_t size() const { return scores_.size(); }

 private:
  using Scores = std::unordered_map<String, double, TextHash, TextEqual, Allocator<std::pair<const String, double>>>;
  Scores scores_;
  Order order_;  // views of scores_' keys, whose nodes never move
};

using Value = std::variant<String, Box<List>, Box<Hash>, Box<Set>, Box<SortedSet>>;

// Room for `more` elements without another allocation. Doubles, as reserve() alone would grow by single primes; and one
// more than wanted, as libstdc++ grows a table that is exactly full.
template <typename Map>
void make_room(Map& map, std::size_t more) {
  const std::size_t wanted = map.size() + more + 1;
  if (wanted > map.bucket_count()) map.reserve(std::max(wanted, 2 * map.size()));
}

// Moves every element of `from` into `into`; a value that is there already is replaced. Returns how many are new.
template <typename Map>
std::size_t merge_maps(Map& into, Map&& from) {
  make_room(into, from.size());
  std::size_t added = 0;
  while (!from.empty()) {
    auto at = into.insert(from.extract(from.begin()));
    if (at.inserted) {
      ++added;
    } else if constexpr (requires { at.node.mapped(); }) {
      at.position->second = std::move(at.node.mapped());
    }
  }
  return added;
}

}  // namespace kv

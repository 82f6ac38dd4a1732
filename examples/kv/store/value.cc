#include "examples/kv/store/value.h"

#include <sodium.h>
#include <sys/random.h>

#include <array>
#include <cerrno>
#include <system_error>

namespace kv {
namespace {

using Seed = std::array<unsigned char, crypto_shorthash_KEYBYTES>;

// Drawn once; it is part of the enclave's state and travels with the tables that depend on it.
const Seed& seed() {
  static const Seed drawn = [] {
    Seed s{};
    if (getrandom(s.data(), s.size(), 0) != static_cast<ssize_t>(s.size())) {
      throw std::system_error(errno, std::generic_category(), "no random numbers for the hash tables");
    }
    return s;
  }();
  return drawn;
}

}  // namespace

std::uint64_t hash_of(std::string_view text) {
  std::uint64_t hash = 0;
  static_assert(sizeof hash == crypto_shorthash_BYTES);
  crypto_shorthash(reinterpret_cast<unsigned char*>(&hash), reinterpret_cast<const unsigned char*>(text.data()),
                   text.size(), seed().data());
  return hash;
}

void SortedSet::add(std::string_view member, double score) {
  const auto found = scores_.find(member);
  if (found != scores_.end()) {
    auto node = order_.extract(Order::value_type(found->second, found->first));
    node.value().first = found->second = score;
    order_.insert(std::move(node));
    return;
  }
  const auto added = scores_.emplace(String(member), score).first;
  try {
    order_.emplace(score, added->first);
  } catch (const std::bad_alloc&) {
    scores_.erase(added);
    throw;
  }
}

std::size_t SortedSet::merge(SortedSet&& other) {
  make_room(scores_, other.scores_.size());
  std::size_t added = 0;
  while (!other.order_.empty()) {
    auto place = other.order_.extract(other.order_.begin());
    auto member = other.scores_.extract(other.scores_.find(place.value().second));
    const auto found = scores_.find(member.key());
    if (found == scores_.end()) {
      scores_.insert(std::move(member));
      order_.insert(std::move(place));
      ++added;
      continue;
    }
    auto moved = order_.extract(Order::value_type(found->second, found->first));
    moved.value().first = found->second = member.mapped();
    order_.insert(std::move(moved));
  }
  return added;
}

bool SortedSet::remove(std::string_view member) {
  const auto found = scores_.find(member);
  if (found == scores_.end()) return false;
  order_.erase(Order::value_type(found->second, found->first));
  scores_.erase(found);
  return true;
}

const double* SortedSet::score(std::string_view member) const {
  const auto found = scores_.find(member);
  return found == scores_.end() ? nullptr : &found->second;
}

}  // namespace kv

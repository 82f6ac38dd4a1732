#include <algorithm>
#include <random>

#include "examples/kv/store/command.h"

namespace kv {
namespace {

// For SPOP's choice, which is nobody's secret.
std::size_t random_below(std::size_t n) {
  thread_local std::minstd_rand engine(static_cast<std::uint32_t>(hash_of("SPOP")));
  return std::uniform_int_distribution<std::size_t>(0, n - 1)(engine);
}

void sadd(Context& c) {
  auto fresh = make_box<Set>();
  for (std::size_t i = 2; i < c.count(); ++i) fresh->emplace(c.args[i]);
  add_to_key(c, std::move(fresh));
}

void srem(Context& c) {
  const KeyRef key = c.key();
  Access access = c.access(key);
  Set* set = held<Set>(access.find(key));
  std::int64_t n = 0;
  for (std::size_t i = 2; set != nullptr && i < c.count(); ++i) {
    const auto found = set->find(c.args[i]);
    if (found == set->end()) continue;
    set->erase(found);
    ++n;
  }
  if (set != nullptr && set->empty()) access.erase(key);
  c.reply.integer(n);
}

void smembers(Context& c) {
  const KeyRef key = c.key();
  Access access = c.access(key);
  const Set* set = held<Set>(access.find(key));
  if (set == nullptr) return c.reply.array(0);
  c.reply.array(set->size());
  for (const String& member : *set) c.reply.bulk(member);
}

void scard(Context& c) {
  const KeyRef key = c.key();
  Access access = c.access(key);
  const Set* set = held<Set>(access.find(key));
  c.reply.integer(set == nullptr ? 0 : static_cast<std::int64_t>(set->size()));
}

void sismember(Context& c) {
  const KeyRef key = c.key();
  Access access = c.access(key);
  const Set* set = held<Set>(access.find(key));
  c.reply.integer(set != nullptr && set->contains(c.args[2]) ? 1 : 0);
}

// The first member from a random bucket on: not quite uniform, but never a walk through the whole set.
Set::const_iterator random_member(const Set& set) {
  std::size_t bucket = random_below(set.bucket_count());
  while (set.begin(bucket) == set.end(bucket)) bucket = (bucket + 1) % set.bucket_count();
  return set.find(*set.begin(bucket));
}

void pop_many(Context& c, Set& set, std::size_t wanted) {
  std::vector<Set::const_iterator> all;
  all.reserve(set.size());
  for (auto i = set.cbegin(); i != set.cend(); ++i) all.push_back(i);
  const std::size_t n = std::min(wanted, all.size());
  c.reply.array(n);
  for (std::size_t i = 0; i < n; ++i) {
    std::swap(all[i], all[i + random_below(all.size() - i)]);
    c.reply.bulk(*all[i]);
  }
  for (std::size_t i = 0; i < n; ++i) set.erase(all[i]);
}

void spop(Context& c) {
  if (c.count() > 3) syntax_error();
  const bool many = c.count() == 3;
  const std::size_t wanted = many ? to_count(c.args[2]) : 1;
  const KeyRef key = c.key();
  Access access = c.access(key);
  Set* set = held<Set>(access.find(key));
  if (set == nullptr) return many ? c.reply.array(0) : c.reply.null();
  if (many) {
    pop_many(c, *set, wanted);
  } else {
    const auto member = random_member(*set);
    c.reply.bulk(*member);
    set->erase(member);
  }
  if (set->empty()) access.erase(key);
}

constexpr Command kCommands[] = {
    {"sadd", -3, sadd, "write", 1, 1, 1},
    {"scard", 2, scard, "readonly", 1, 1, 1},
    {"sismember", 3, sismember, "readonly", 1, 1, 1},
    {"smembers", 2, smembers, "readonly", 1, 1, 1},
    {"spop", -2, spop, "write", 1, 1, 1},
    {"srem", -3, srem, "write", 1, 1, 1},
};

}  // namespace

std::span<const Command> set_commands() {
  return kCommands;
}

}  // namespace kv

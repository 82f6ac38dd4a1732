#include <algorithm>

#include "examples/kv/store/command.h"

namespace kv {
namespace {

void zadd(Context& c) {
  if (c.count() % 2 != 0) syntax_error();
  auto fresh = make_box<SortedSet>();
  for (std::size_t i = 2; i < c.count(); i += 2) fresh->add(c.args[i + 1], to_score(c.args[i]));
  add_to_key(c, std::move(fresh));
}

void zrem(Context& c) {
  const KeyRef key = c.key();
  Access access = c.access(key);
  SortedSet* set = held<SortedSet>(access.find(key));
  std::int64_t n = 0;
  for (std::size_t i = 2; set != nullptr && i < c.count(); ++i) n += set->remove(c.args[i]) ? 1 : 0;
  if (set != nullptr && set->size() == 0) access.erase(key);
  c.reply.integer(n);
}

void zcard(Context& c) {
  const KeyRef key = c.key();
  Access access = c.access(key);
  const SortedSet* set = held<SortedSet>(access.find(key));
  c.reply.integer(set == nullptr ? 0 : static_cast<std::int64_t>(set->size()));
}

void zscore(Context& c) {
  const KeyRef key = c.key();
  Access access = c.access(key);
  const SortedSet* set = held<SortedSet>(access.find(key));
  const double* score = set == nullptr ? nullptr : set->score(c.args[2]);
  score == nullptr ? c.reply.null() : c.reply.bulk(score_text(*score));
}

void zrange(Context& c) {
  const bool scores = c.count() == 5 && same_word(c.args[4], "withscores");
  if (c.count() > 4 && !scores) syntax_error();
  const KeyRef key = c.key();
  Access access = c.access(key);
  const SortedSet* set = held<SortedSet>(access.find(key));
  const Range range = to_range(c.args[2], c.args[3], set == nullptr ? 0 : set->size());
  c.reply.array(scores ? 2 * range.size : range.size);
  if (range.size == 0) return;
  auto at = std::next(set->order().begin(), static_cast<std::ptrdiff_t>(range.first));
  for (std::size_t i = 0; i < range.size; ++i, ++at) {
    c.reply.bulk(at->second);
    if (scores) c.reply.bulk(score_text(at->first));
  }
}

void zpopmin(Context& c) {
  if (c.count() > 3) syntax_error();
  const std::size_t wanted = c.count() == 3 ? to_count(c.args[2]) : 1;
  const KeyRef key = c.key();
  Access access = c.access(key);
  SortedSet* set = held<SortedSet>(access.find(key));
  if (set == nullptr) return c.reply.array(0);
  const std::size_t n = std::min(wanted, set->size());
  c.reply.array(2 * n);
  auto at = set->order().begin();
  for (std::size_t i = 0; i < n; ++i, ++at) {
    c.reply.bulk(at->second);
    c.reply.bulk(score_text(at->first));
  }
  for (std::size_t i = 0; i < n; ++i) set->remove(set->order().begin()->second);
  if (set->size() == 0) access.erase(key);
}

constexpr Command kCommands[] = {
    {"zadd", -4, zadd, "write", 1, 1, 1},       {"zcard", 2, zcard, "readonly", 1, 1, 1},
    {"zpopmin", -2, zpopmin, "write", 1, 1, 1}, {"zrange", -4, zrange, "readonly", 1, 1, 1},
    {"zrem", -3, zrem, "write", 1, 1, 1},       {"zscore", 3, zscore, "readonly", 1, 1, 1},
};

}  // namespace

std::span<const Command> sorted_set_commands() {
  return kCommands;
}

}  // namespace kv

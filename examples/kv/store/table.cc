#include "examples/kv/store/table.h"

#include <bit>

namespace kv {
namespace {

constexpr std::uint64_t bit_of(std::uint64_t hash) {
  return std::uint64_t{1} << Table::shard_of(hash);
}

template <typename F>
void for_each_bit(std::uint64_t bits, F f) {
  for (; bits != 0; bits &= bits - 1) f(static_cast<std::size_t>(std::countr_zero(bits)));
}

}  // namespace

static_assert(Table::kShards == 64, "Access keeps one bit a shard");

Access::Access(Table& table, Clock& clock, const KeyRef& key)
    : table_(table), clock_(clock), locked_(bit_of(key.hash)) {
  lock();
}

Access::Access(Table& table, Clock& clock, std::span<const KeyRef> keys) : table_(table), clock_(clock) {
  for (const KeyRef& key : keys) locked_ |= bit_of(key.hash);
  lock();
}

Access::Access(Table& table, Clock& clock) : table_(table), clock_(clock), locked_(~std::uint64_t{0}) {
  lock();
}

Access::Access(Table& table, Clock& clock, std::size_t shard)
    : table_(table), clock_(clock), locked_(std::uint64_t{1} << shard) {
  lock();
}

Access::~Access() {
  for_each_bit(locked_, [this](std::size_t i) { table_.shards_[i].mutex.unlock(); });
}

void Access::lock() {
  for_each_bit(locked_, [this](std::size_t i) { table_.shards_[i].mutex.lock(); });
}

Entry* Access::find(const KeyRef& key) {
  Entries& entries = of(key);
  const auto found = entries.find(key);
  if (found == entries.end()) return nullptr;
  if (found->second.live(clock_)) return &found->second;
  entries.erase(found);
  return nullptr;
}

Entry& Access::set(const KeyRef& key, Entry&& entry) {
  Entries& entries = of(key);
  const auto found = entries.find(key);
  if (found != entries.end()) {
    found->second = std::move(entry);
    return found->second;
  }
  return entries.emplace(Key(key), std::move(entry)).first->second;
}

void Access::merge(Entries&& from) {
  std::array<std::size_t, Table::kShards> more{};
  for (const auto& [key, entry] : from) ++more[Table::shard_of(key.hash)];
  for (std::size_t i = 0; i < more.size(); ++i) {
    if (more[i] != 0) make_room(table_.shards_[i].entries, more[i]);
  }
  while (!from.empty()) {
    auto node = from.extract(from.begin());
    Entries& into = table_.shards_[Table::shard_of(node.key().hash)].entries;
    auto at = into.insert(std::move(node));
    if (!at.inserted) at.position->second = std::move(at.node.mapped());
  }
}

bool Access::erase(const KeyRef& key) {
  if (find(key) == nullptr) return false;
  Entries& entries = of(key);
  entries.erase(entries.find(key));
  return true;
}

std::size_t Access::drop_expired() {
  std::size_t dropped = 0;
  for_each_bit(locked_, [&](std::size_t i) {
    dropped += std::erase_if(table_.shards_[i].entries, [&](const auto& e) { return !e.second.live(clock_); });
  });
  return dropped;
}

void Access::clear() {
  for_each_bit(locked_, [this](std::size_t i) { Entries().swap(table_.shards_[i].entries); });
}

}  // namespace kv

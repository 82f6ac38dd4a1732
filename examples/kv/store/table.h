// The keys, in shards with a mutex each.
//
// Thread rules: a shard's entries are touched only through an Access that has locked it. An Access locks all it needs
// at once, in ascending order, so that no two can wait for each other; never hold two.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <mutex>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "examples/kv/store/value.h"

namespace kv {

using Milliseconds = std::int64_t;
inline constexpr Milliseconds kNever = std::numeric_limits<Milliseconds>::max();

// Time of one batch: asked for once, and only if a key has a deadline, as inside an enclave every question is an ocall.
// Monotonic, also across a migration; a key's time stands still while the enclave is on its way.
class Clock {
 public:
  using Source = Milliseconds (*)();
  explicit Clock(Source source) : source_(source) {}
  [[nodiscard]] Milliseconds now() {
    if (now_ < 0) now_ = source_();
    return now_;
  }

 private:
  Source source_;
  Milliseconds now_ = -1;
};

struct KeyRef {
  explicit KeyRef(std::string_view t) : text(t), hash(hash_of(t)) {}
  std::string_view text;
  std::uint64_t hash;
};

struct Key {
  explicit Key(const KeyRef& ref) : text(ref.text), hash(ref.hash) {}
  String text;
  std::uint64_t hash;
};

struct KeyHash {
  using is_transparent = void;
  std::size_t operator()(const Key& key) const noexcept { return key.hash; }
  std::size_t operator()(const KeyRef& key) const noexcept { return key.hash; }
};

struct KeyEqual {
  using is_transparent = void;
  template <typename A, typename B>
  bool operator()(const A& a, const B& b) const noexcept {
    return a.text == b.text;
  }
};

struct Entry {
  Value value;
  Milliseconds expires_at = kNever;
  [[nodiscard]] bool live(Clock& clock) const { return expires_at == kNever || clock.now() < expires_at; }
};

using Entries = std::unordered_map<Key, Entry, KeyHash, KeyEqual, Allocator<std::pair<const Key, Entry>>>;

class Table {
 public:
  static constexpr std::size_t kShards = 64;
  // By the hash's upper bits, as the buckets use the lower: shard after shard is also ascending order of hashes.
  [[nodiscard]] static constexpr std::size_t shard_of(std::uint64_t hash) { return hash >> 58; }

 private:
  friend class Access;
  struct alignas(64) Shard {
    std::mutex mutex;
    Entries entries;
  };
  std::array<Shard, kShards> shards_;
};

class Access {
 public:
  Access(Table& table, Clock& clock, const KeyRef& key);
  Access(Table& table, Clock& clock, std::span<const KeyRef> keys);
  // All of it, or one shard.
  Access(Table& table, Clock& clock);
  Access(Table& table, Clock& clock, std::size_t shard);
  ~Access();
  Access(const Access&) = delete;
  Access& operator=(const Access&) = delete;

  // Null when there is no such key; one that has expired is removed. Valid until the next change through this Access.
  [[nodiscard]] Entry* find(const KeyRef& key);
  // Makes the key hold `entry`, whatever it held before.
  Entry& set(const KeyRef& key, Entry&& entry);
  // Makes every key of `from` hold what it holds there; all or, on std::bad_alloc, none.
  void merge(Entries&& from);
  bool erase(const KeyRef& key);
  [[nodiscard]] const Entries& entries(std::size_t shard) const { return table_.shards_[shard].entries; }
  // Removes what has expired; returns how many.
  std::size_t drop_expired();
  void clear();

  [[nodiscard]] Clock& clock() const { return clock_; }

 private:
  Entries& of(const KeyRef& key) { return table_.shards_[Table::shard_of(key.hash)].entries; }
  void lock();

  Table& table_;
  Clock& clock_;
  std::uint64_t locked_ = 0;  // one bit a shard
};

}  // namespace kv

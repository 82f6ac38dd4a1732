#include <algorithm>

#include "examples/kv/store/command.h"
#include "examples/kv/store/glob.h"

namespace kv {
namespace {

constexpr std::size_t kMaxScanCount = 10000;

const char* type_name(const Entry* entry) {
  if (entry == nullptr) return "none";
  static constexpr const char* kNames[] = {"string", "list", "hash", "set", "zset"};
  static_assert(std::variant_size_v<Value> == std::size(kNames));
  return kNames[entry->value.index()];
}

void del(Context& c) {
  const std::vector<KeyRef> keys = c.keys(1);
  Access access = c.access(keys);
  std::int64_t n = 0;
  for (const KeyRef& key : keys) n += access.erase(key) ? 1 : 0;
  c.reply.integer(n);
}

void exists(Context& c) {
  const std::vector<KeyRef> keys = c.keys(1);
  Access access = c.access(keys);
  std::int64_t n = 0;
  for (const KeyRef& key : keys) n += access.find(key) != nullptr ? 1 : 0;
  c.reply.integer(n);
}

void type(Context& c) {
  const KeyRef key = c.key();
  Access access = c.access(key);
  c.reply.simple(type_name(access.find(key)));
}

// Rounds to the nearest, as redis does.
void time_left(Context& c, std::int64_t unit) {
  const KeyRef key = c.key();
  Access access = c.access(key);
  const Entry* entry = access.find(key);
  if (entry == nullptr) return c.reply.integer(-2);
  if (entry->expires_at == kNever) return c.reply.integer(-1);
  c.reply.integer((entry->expires_at - c.clock.now() + unit / 2) / unit);
}

void expire(Context& c, std::int64_t unit) {
  const bool over = to_integer(c.args[2]) <= 0;
  const Milliseconds at = over ? 0 : deadline_in(c, c.args[2], unit);
  const KeyRef key = c.key();
  Access access = c.access(key);
  Entry* entry = access.find(key);
  c.reply.integer(entry == nullptr ? 0 : 1);
  if (entry == nullptr) return;
  if (over) {
    access.erase(key);
  } else {
    entry->expires_at = at;
  }
}

void persist(Context& c) {
  const KeyRef key = c.key();
  Access access = c.access(key);
  Entry* entry = access.find(key);
  const bool had = entry != nullptr && entry->expires_at != kNever;
  c.reply.integer(had ? 1 : 0);
  if (had) entry->expires_at = kNever;
}

// Shard by shard: a key that is there all the while is listed, one that comes or goes meanwhile may be.
void keys(Context& c) {
  Reply found(c.reply.limit() - c.reply.size());
  std::size_t n = 0;
  for (std::size_t shard = 0; shard < Table::kShards; ++shard) {
    const Access access(c.store.table, c.clock, shard);
    for (const auto& [key, entry] : access.entries(shard)) {
      if (!entry.live(c.clock) || !glob_match(c.args[1], key.text)) continue;
      found.bulk(key.text);
      ++n;
    }
  }
  c.reply.array(n);
  c.reply.append(found);
}

struct ScanOptions {
  std::string_view pattern = "*";
  std::string_view type;
  std::size_t count = 10;
};

ScanOptions scan_options(Context& c) {
  ScanOptions o;
  for (std::size_t i = 2; i < c.count(); i += 2) {
    if (i + 1 == c.count()) syntax_error();
    if (same_word(c.args[i], "match")) {
      o.pattern = c.args[i + 1];
    } else if (same_word(c.args[i], "type")) {
      o.type = c.args[i + 1];
    } else if (same_word(c.args[i], "count")) {
      o.count = std::min(to_count(c.args[i + 1]), kMaxScanCount);
      if (o.count == 0) syntax_error();
    } else {
      syntax_error();
    }
  }
  return o;
}

// One step of a scan in the order of hashes. The cursor is the first hash not yet seen, so that growing tables, or keys
// that come and go, never hide a key that stays.
class Scan {
 public:
  Scan(Context& c, const ScanOptions& options, std::uint64_t cursor)
      : c_(c), options_(options), cursor_(cursor), found_(c.reply.limit() - c.reply.size()) {}

  void run() {
    std::size_t left = options_.count;
    std::size_t shard = Table::shard_of(cursor_);
    while (shard < Table::kShards && left > 0) left -= take(shard++, left);
    if (left > 0) cursor_ = 0;  // all shards are done
  }
  void answer() {
    c_.reply.array(2);
    c_.reply.bulk(std::to_string(cursor_));
    c_.reply.array(n_);
    c_.reply.append(found_);
  }

 private:
  using Element = Entries::value_type;

  // Looks at up to `most` keys of the shard (more if hashes are equal) and moves the cursor behind them.
  std::size_t take(std::size_t shard, std::size_t most) {
    const Access access(c_.store.table, c_.clock, shard);
    std::vector<const Element*> next;
    for (const Element& e : access.entries(shard)) {
      if (e.first.hash >= cursor_) next.push_back(&e);
    }
    const auto by_hash = [](const Element* a, const Element* b) { return a->first.hash < b->first.hash; };
    std::sort(next.begin(), next.end(), by_hash);
    std::size_t seen = 0;
    while (seen < next.size() && (seen < most || next[seen]->first.hash == next[seen - 1]->first.hash)) {
      add(*next[seen++]);
    }
    if (seen < most) return seen;
    cursor_ = next[seen - 1]->first.hash + 1;
    return most;
  }

  void add(const Element& e) {
    if (!e.second.live(c_.clock) || !glob_match(options_.pattern, e.first.text)) return;
    if (!options_.type.empty() && !same_word(options_.type, type_name(&e.second))) return;
    found_.bulk(e.first.text);
    ++n_;
  }

  Context& c_;
  const ScanOptions& options_;
  std::uint64_t cursor_;
  Reply found_;
  std::size_t n_ = 0;
};

std::uint64_t to_cursor(std::string_view text) {
  std::uint64_t value = 0;
  for (const char digit : text) {
    const bool fits = digit >= '0' && digit <= '9' && !__builtin_mul_overflow(value, 10u, &value) &&
                      !__builtin_add_overflow(value, static_cast<unsigned>(digit - '0'), &value);
    if (!fits) throw Failure{"ERR invalid cursor"};
  }
  if (text.empty()) throw Failure{"ERR invalid cursor"};
  return value;
}

void scan(Context& c) {
  const ScanOptions options = scan_options(c);
  Scan scan(c, options, to_cursor(c.args[1]));
  scan.run();
  scan.answer();
}

void dbsize(Context& c) {
  std::size_t n = 0;
  for (std::size_t shard = 0; shard < Table::kShards; ++shard) {
    n += Access(c.store.table, c.clock, shard).entries(shard).size();
  }
  c.reply.integer(static_cast<std::int64_t>(n));
}

void flush(Context& c) {
  if (c.count() > 2 || (c.count() == 2 && !same_word(c.args[1], "sync") && !same_word(c.args[1], "async"))) {
    syntax_error();
  }
  c.reply.simple("OK");
  Access(c.store.table, c.clock).clear();
}

constexpr Command kCommands[] = {
    {"dbsize", 1, dbsize, "readonly", 0, 0, 0},
    {"del", -2, del, "write", 1, -1, 1},
    {"exists", -2, exists, "readonly", 1, -1, 1},
    {"expire", 3, [](Context& c) { expire(c, 1000); }, "write", 1, 1, 1},
    {"flushall", -1, flush, "write", 0, 0, 0},
    {"flushdb", -1, flush, "write", 0, 0, 0},
    {"keys", 2, keys, "readonly", 0, 0, 0},
    {"persist", 2, persist, "write", 1, 1, 1},
    {"pexpire", 3, [](Context& c) { expire(c, 1); }, "write", 1, 1, 1},
    {"pttl", 2, [](Context& c) { time_left(c, 1); }, "readonly", 1, 1, 1},
    {"scan", -2, scan, "readonly", 0, 0, 0},
    {"ttl", 2, [](Context& c) { time_left(c, 1000); }, "readonly", 1, 1, 1},
    {"type", 2, type, "readonly", 1, 1, 1},
    {"unlink", -2, del, "write", 1, -1, 1},
};

}  // namespace

std::span<const Command> key_commands() {
  return kCommands;
}

}  // namespace kv

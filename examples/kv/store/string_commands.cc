#include <charconv>

#include "examples/kv/store/command.h"

namespace kv {
namespace {

constexpr std::int64_t kSecond = 1000;

void answer(Context& c, const String* text) {
  text == nullptr ? c.reply.null() : c.reply.bulk(*text);
}

struct SetOptions {
  bool only_new = false, only_old = false, get = false, keep_ttl = false;
  Milliseconds expires_at = kNever;
};

SetOptions set_options(Context& c) {
  SetOptions o;
  for (std::size_t i = 3; i < c.count(); ++i) {
    const bool more = i + 1 < c.count();
    const bool timed = o.expires_at != kNever || o.keep_ttl;
    if (same_word(c.args[i], "nx") && !o.only_old) {
      o.only_new = true;
    } else if (same_word(c.args[i], "xx") && !o.only_new) {
      o.only_old = true;
    } else if (same_word(c.args[i], "get")) {
      o.get = true;
    } else if (same_word(c.args[i], "keepttl") && !timed) {
      o.keep_ttl = true;
    } else if (same_word(c.args[i], "ex") && more && !timed) {
      o.expires_at = deadline_in(c, c.args[++i], kSecond);
    } else if (same_word(c.args[i], "px") && more && !timed) {
      o.expires_at = deadline_in(c, c.args[++i], 1);
    } else {
      syntax_error();
    }
  }
  return o;
}

void set_with(Context& c, std::string_view value, const SetOptions& o) {
  Entry fresh{String(value), o.expires_at};
  const KeyRef key = c.key();
  Access access = c.access(key);
  Entry* old = access.find(key);
  const bool allowed = o.only_new ? old == nullptr : !o.only_old || old != nullptr;
  if (o.get) {
    answer(c, string_in(old));
  } else {
    allowed ? c.reply.simple("OK") : c.reply.null();
  }
  if (!allowed) return;
  if (o.keep_ttl && old != nullptr) fresh.expires_at = old->expires_at;
  access.set(key, std::move(fresh));
}

void set(Context& c) {
  set_with(c, c.args[2], set_options(c));
}

void setex(Context& c) {
  SetOptions o;
  o.expires_at = deadline_in(c, c.args[2], kSecond);
  set_with(c, c.args[3], o);
}

void psetex(Context& c) {
  SetOptions o;
  o.expires_at = deadline_in(c, c.args[2], 1);
  set_with(c, c.args[3], o);
}

void getset(Context& c) {
  SetOptions o;
  o.get = true;
  set_with(c, c.args[2], o);
}

void setnx(Context& c) {
  Entry fresh{String(c.args[2])};
  const KeyRef key = c.key();
  Access access = c.access(key);
  const bool there = access.find(key) != nullptr;
  c.reply.integer(there ? 0 : 1);
  if (!there) access.set(key, std::move(fresh));
}

void get(Context& c) {
  const KeyRef key = c.key();
  Access access = c.access(key);
  answer(c, string_in(access.find(key)));
}

void getdel(Context& c) {
  const KeyRef key = c.key();
  Access access = c.access(key);
  answer(c, string_in(access.find(key)));
  access.erase(key);
}

void mset(Context& c) {
  if (c.count() % 2 == 0) throw Failure{"ERR wrong number of arguments for 'mset' command"};
  const std::vector<KeyRef> keys = c.keys(1, 2);
  Entries fresh;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    fresh.insert_or_assign(Key(keys[i]), Entry{String(c.args[2 * i + 2])});
  }
  Access access = c.access(keys);
  c.reply.simple("OK");
  access.merge(std::move(fresh));
}

void mget(Context& c) {
  const std::vector<KeyRef> keys = c.keys(1);
  Access access = c.access(keys);
  c.reply.array(keys.size());
  for (const KeyRef& key : keys) {
    const Entry* entry = access.find(key);
    answer(c, entry == nullptr ? nullptr : std::get_if<String>(&entry->value));
  }
}

void append(Context& c) {
  const KeyRef key = c.key();
  Access access = c.access(key);
  String* old = string_in(access.find(key));
  const std::size_t size = (old == nullptr ? 0 : old->size()) + c.args[2].size();
  // What could never be read again in one reply is not stored.
  if (Reply::bulk_bytes(size) > c.reply.limit()) throw Failure{"ERR string exceeds maximum allowed size"};
  c.reply.integer(static_cast<std::int64_t>(size));
  if (old == nullptr) {
    access.set(key, Entry{String(c.args[2])});
  } else {
    old->append(c.args[2]);
  }
}

void length(Context& c) {
  const KeyRef key = c.key();
  Access access = c.access(key);
  const String* text = string_in(access.find(key));
  c.reply.integer(text == nullptr ? 0 : static_cast<std::int64_t>(text->size()));
}

void add(Context& c, std::int64_t by) {
  const KeyRef key = c.key();
  Access access = c.access(key);
  String* old = string_in(access.find(key));
  std::int64_t value = old == nullptr ? 0 : to_integer(*old);
  if (__builtin_add_overflow(value, by, &value)) throw Failure{"ERR increment or decrement would overflow"};
  c.reply.integer(value);
  char digits[24];
  String text(digits, std::to_chars(digits, digits + sizeof digits, value).ptr);
  if (old == nullptr) {
    access.set(key, Entry{std::move(text)});
  } else {
    *old = std::move(text);
  }
}

void decrby(Context& c) {
  const std::int64_t by = to_integer(c.args[2]);
  if (by == std::numeric_limits<std::int64_t>::min()) throw Failure{"ERR decrement would overflow"};
  add(c, -by);
}

constexpr Command kCommands[] = {
    {"append", 3, append, "write", 1, 1, 1},
    {"decr", 2, [](Context& c) { add(c, -1); }, "write", 1, 1, 1},
    {"decrby", 3, decrby, "write", 1, 1, 1},
    {"get", 2, get, "readonly", 1, 1, 1},
    {"getdel", 2, getdel, "write", 1, 1, 1},
    {"getset", 3, getset, "write", 1, 1, 1},
    {"incr", 2, [](Context& c) { add(c, 1); }, "write", 1, 1, 1},
    {"incrby", 3, [](Context& c) { add(c, to_integer(c.args[2])); }, "write", 1, 1, 1},
    {"mget", -2, mget, "readonly", 1, -1, 1},
    {"mset", -3, mset, "write", 1, -1, 2},
    {"psetex", 4, psetex, "write", 1, 1, 1},
    {"set", -3, set, "write", 1, 1, 1},
    {"setex", 4, setex, "write", 1, 1, 1},
    {"setnx", 3, setnx, "write", 1, 1, 1},
    {"strlen", 2, length, "readonly", 1, 1, 1},
};

}  // namespace

std::span<const Command> string_commands() {
  return kCommands;
}

}  // namespace kv

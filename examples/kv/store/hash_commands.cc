#include "examples/kv/store/command.h"

namespace kv {
namespace {

const String* field_of(const Hash* hash, std::string_view field) {
  if (hash == nullptr) return nullptr;
  const auto found = hash->find(field);
  return found == hash->end() ? nullptr : &found->second;
}

void answer(Context& c, const String* text) {
  text == nullptr ? c.reply.null() : c.reply.bulk(*text);
}

void hset(Context& c) {
  if (c.count() % 2 != 0) throw Failure{"ERR wrong number of arguments for 'hset' command"};
  auto fresh = make_box<Hash>();
  for (std::size_t i = 2; i < c.count(); i += 2) fresh->insert_or_assign(String(c.args[i]), String(c.args[i + 1]));
  add_to_key(c, std::move(fresh));
}

void hget(Context& c) {
  const KeyRef key = c.key();
  Access access = c.access(key);
  answer(c, field_of(held<Hash>(access.find(key)), c.args[2]));
}

void hmget(Context& c) {
  const KeyRef key = c.key();
  Access access = c.access(key);
  const Hash* hash = held<Hash>(access.find(key));
  c.reply.array(c.count() - 2);
  for (std::size_t i = 2; i < c.count(); ++i) answer(c, field_of(hash, c.args[i]));
}

void hexists(Context& c) {
  const KeyRef key = c.key();
  Access access = c.access(key);
  c.reply.integer(field_of(held<Hash>(access.find(key)), c.args[2]) != nullptr ? 1 : 0);
}

void hdel(Context& c) {
  const KeyRef key = c.key();
  Access access = c.access(key);
  Hash* hash = held<Hash>(access.find(key));
  std::int64_t n = 0;
  for (std::size_t i = 2; hash != nullptr && i < c.count(); ++i) {
    const auto found = hash->find(c.args[i]);
    if (found == hash->end()) continue;
    hash->erase(found);
    ++n;
  }
  if (hash != nullptr && hash->empty()) access.erase(key);
  c.reply.integer(n);
}

void hgetall(Context& c) {
  const KeyRef key = c.key();
  Access access = c.access(key);
  const Hash* hash = held<Hash>(access.find(key));
  if (hash == nullptr) return c.reply.array(0);
  c.reply.array(2 * hash->size());
  for (const auto& [field, value] : *hash) {
    c.reply.bulk(field);
    c.reply.bulk(value);
  }
}

void hlen(Context& c) {
  const KeyRef key = c.key();
  Access access = c.access(key);
  const Hash* hash = held<Hash>(access.find(key));
  c.reply.integer(hash == nullptr ? 0 : static_cast<std::int64_t>(hash->size()));
}

constexpr Command kCommands[] = {
    {"hdel", -3, hdel, "write", 1, 1, 1},   {"hexists", 3, hexists, "readonly", 1, 1, 1},
    {"hget", 3, hget, "readonly", 1, 1, 1}, {"hgetall", 2, hgetall, "readonly", 1, 1, 1},
    {"hlen", 2, hlen, "readonly", 1, 1, 1}, {"hmget", -3, hmget, "readonly", 1, 1, 1},
    {"hset", -4, hset, "write", 1, 1, 1},
};

}  // namespace

std::span<const Command> hash_commands() {
  return kCommands;
}

}  // namespace kv

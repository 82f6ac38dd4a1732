#include <algorithm>

#include "examples/kv/store/command.h"

namespace kv {
namespace {

enum class End { kLeft, kRight };

void push(Context& c, End end) {
  auto fresh = make_box<List>();
  for (std::size_t i = 2; i < c.count(); ++i) {
    end == End::kLeft ? fresh->emplace_front(c.args[i]) : fresh->emplace_back(c.args[i]);
  }
  const KeyRef key = c.key();
  Access access = c.access(key);
  Entry* entry = access.find(key);
  if (entry == nullptr) {
    c.reply.integer(static_cast<std::int64_t>(fresh->size()));
    access.set(key, Entry{std::move(fresh)});
    return;
  }
  List& list = *held<List>(entry);
  list.splice(end == End::kLeft ? list.begin() : list.end(), *fresh);
  c.reply.integer(static_cast<std::int64_t>(list.size()));
}

void pop(Context& c, End end) {
  if (c.count() > 3) throw Failure{"ERR wrong number of arguments for '" + std::string(c.args[0]) + "' command"};
  const bool many = c.count() == 3;
  const std::size_t wanted = many ? to_count(c.args[2]) : 1;
  const KeyRef key = c.key();
  Access access = c.access(key);
  List* list = held<List>(access.find(key));
  if (list == nullptr) return many ? c.reply.null_array() : c.reply.null();
  const std::size_t n = std::min(wanted, list->size());
  if (many) c.reply.array(n);
  if (end == End::kLeft) {
    auto stop = list->begin();
    for (std::size_t i = 0; i < n; ++i) c.reply.bulk(*stop++);
    list->erase(list->begin(), stop);
  } else {
    auto start = list->end();
    for (std::size_t i = 0; i < n; ++i) c.reply.bulk(*--start);
    list->erase(start, list->end());
  }
  if (list->empty()) access.erase(key);
}

void lrange(Context& c) {
  const KeyRef key = c.key();
  Access access = c.access(key);
  const List* list = held<List>(access.find(key));
  const Range range = to_range(c.args[2], c.args[3], list == nullptr ? 0 : list->size());
  c.reply.array(range.size);
  if (range.size == 0) return;
  const bool from_front = range.first < list->size() / 2;
  auto at = from_front ? std::next(list->begin(), static_cast<std::ptrdiff_t>(range.first))
                       : std::prev(list->end(), static_cast<std::ptrdiff_t>(list->size() - range.first));
  for (std::size_t i = 0; i < range.size; ++i) c.reply.bulk(*at++);
}

void llen(Context& c) {
  const KeyRef key = c.key();
  Access access = c.access(key);
  const List* list = held<List>(access.find(key));
  c.reply.integer(list == nullptr ? 0 : static_cast<std::int64_t>(list->size()));
}

constexpr Command kCommands[] = {
    {"llen", 2, llen, "readonly", 1, 1, 1},
    {"lpop", -2, [](Context& c) { pop(c, End::kLeft); }, "write", 1, 1, 1},
    {"lpush", -3, [](Context& c) { push(c, End::kLeft); }, "write", 1, 1, 1},
    {"lrange", 4, lrange, "readonly", 1, 1, 1},
    {"rpop", -2, [](Context& c) { pop(c, End::kRight); }, "write", 1, 1, 1},
    {"rpush", -3, [](Context& c) { push(c, End::kRight); }, "write", 1, 1, 1},
};

}  // namespace

std::span<const Command> list_commands() {
  return kCommands;
}

}  // namespace kv

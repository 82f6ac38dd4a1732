// What a command is, and what it gets to work with.
//
// A command answers first and changes data last. When it throws, its answer is rolled back and nothing was changed:
// each change is one operation that happens or does not (value.h, table.h). Where the answer depends on the change (a
// count), kMinRoom is there for it before the command starts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "examples/kv/store/reply.h"
#include "examples/kv/store/table.h"

namespace kv {

// An error reply: "ERR …", "WRONGTYPE …".
struct Failure {
  std::string text;
};

// The data and what it needs of the world. Thread-safe: many batches work on one Store at once.
struct Store {
  Clock::Source clock;
  std::string (*about)() = nullptr;  // lines for INFO, each ended by \r\n
  Table table{};
};

struct Context {
  Store& store;
  Clock& clock;
  Reply& reply;
  const std::vector<std::string_view>& args;  // args[0] is the command's name
  std::uint64_t client = 0;
  bool close = false;  // set by QUIT

  [[nodiscard]] std::size_t count() const { return args.size(); }
  [[nodiscard]] KeyRef key(std::size_t i = 1) const { return KeyRef(args[i]); }
  [[nodiscard]] std::vector<KeyRef> keys(std::size_t first, std::size_t step = 1) const;
  [[nodiscard]] Access access(const KeyRef& k) const { return {store.table, clock, k}; }
  [[nodiscard]] Access access(std::span<const KeyRef> k) const { return {store.table, clock, k}; }
};

struct Command {
  using Handler = void (*)(Context&);
  std::string_view name;  // lower case
  int arity;              // as in redis: with the name; negative: at least
  Handler handler;
  std::string_view flag;    // for COMMAND: write, readonly or fast
  int first_key, last_key;  // for COMMAND; 0: none
  int key_step;
};

inline constexpr std::size_t kMinRoom = 512;

// Null: no such command. `name` in any case.
[[nodiscard]] const Command* find_command(std::string_view name);
[[nodiscard]] std::vector<const Command*> all_commands();

// The groups; each is defined in the file of its name.
[[nodiscard]] std::span<const Command> server_commands();
[[nodiscard]] std::span<const Command> key_commands();
[[nodiscard]] std::span<const Command> string_commands();
[[nodiscard]] std::span<const Command> hash_commands();
[[nodiscard]] std::span<const Command> list_commands();
[[nodiscard]] std::span<const Command> set_commands();
[[nodiscard]] std::span<const Command> sorted_set_commands();

// --- Arguments ---------------------------------------------------------------------------------------------------

[[nodiscard]] bool same_word(std::string_view a, std::string_view lower);
// Strictly decimal; throws Failure.
[[nodiscard]] std::int64_t to_integer(std::string_view text);
// A count that must not be negative; throws Failure.
[[nodiscard]] std::size_t to_count(std::string_view text);
[[nodiscard]] double to_score(std::string_view text);
[[nodiscard]] std::string score_text(double score);
// now + amount * unit; throws Failure unless the amount is positive and the sum representable.
[[nodiscard]] Milliseconds deadline_in(Context& c, std::string_view amount, std::int64_t unit);
[[noreturn]] void syntax_error();
[[noreturn]] void wrong_type();

// Indexes of redis: from 0, negative from the end, inclusive. An empty range has size 0.
struct Range {
  std::size_t first = 0, size = 0;
};
[[nodiscard]] Range to_range(std::string_view start, std::string_view stop, std::size_t length);

// --- Values ------------------------------------------------------------------------------------------------------

// Null when there is no entry; throws Failure when it holds another type.
[[nodiscard]] inline String* string_in(Entry* entry) {
  if (entry == nullptr) return nullptr;
  auto* text = std::get_if<String>(&entry->value);
  if (text == nullptr) wrong_type();
  return text;
}
template <typename T>
[[nodiscard]] T* held(Entry* entry) {
  if (entry == nullptr) return nullptr;
  auto* box = std::get_if<Box<T>>(&entry->value);
  if (box == nullptr) wrong_type();
  return box->get();
}

inline std::size_t merge(Hash& into, Hash&& from) {
  return merge_maps(into, std::move(from));
}
inline std::size_t merge(Set& into, Set&& from) {
  return merge_maps(into, std::move(from));
}
inline std::size_t merge(SortedSet& into, SortedSet&& from) {
  return into.merge(std::move(from));
}

// Adds what `fresh` holds to what the key holds; answers how many are new.
template <typename T>
void add_to_key(Context& c, Box<T> fresh) {
  const KeyRef key = c.key();
  Access access = c.access(key);
  Entry* entry = access.find(key);
  std::size_t added = fresh->size();
  if (entry == nullptr) {
    access.set(key, Entry{std::move(fresh)});
  } else {
    added = merge(*held<T>(entry), std::move(*fresh));
  }
  c.reply.integer(static_cast<std::int64_t>(added));
}

}  // namespace kv

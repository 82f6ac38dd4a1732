// Commands about the server and the connection: enough for redis-cli, redis-benchmark and client libraries to feel at
// home. Nothing here claims more than is there: no users, no persistence, no second database, no RESP3.
#include <utility>

#include "examples/kv/store/command.h"
#include "examples/kv/store/glob.h"

namespace kv {
namespace {

constexpr const char* kVersion = "7.0.0";  // of the command set this one is part of; clients look at it

void ping(Context& c) {
  if (c.count() > 2) throw Failure{"ERR wrong number of arguments for 'ping' command"};
  c.count() == 2 ? c.reply.bulk(c.args[1]) : c.reply.simple("PONG");
}

void echo(Context& c) {
  c.reply.bulk(c.args[1]);
}

void select(Context& c) {
  if (to_integer(c.args[1]) != 0) throw Failure{"ERR DB index is out of range"};
  c.reply.simple("OK");
}

void quit(Context& c) {
  c.reply.simple("OK");
  c.close = true;
}

void hello(Context& c) {
  if (c.count() > 1 && to_integer(c.args[1]) != 2) throw Failure{"NOPROTO unsupported protocol version"};
  if (c.count() > 2) syntax_error();
  c.reply.array(14);
  const std::pair<const char*, const char*> texts[] = {{"server", "sealift-kv"}, {"version", kVersion}};
  for (const auto& [name, value] : texts) {
    c.reply.bulk(name);
    c.reply.bulk(value);
  }
  c.reply.bulk("proto");
  c.reply.integer(2);
  c.reply.bulk("id");
  c.reply.integer(static_cast<std::int64_t>(c.client));
  c.reply.bulk("mode");
  c.reply.bulk("standalone");
  c.reply.bulk("role");
  c.reply.bulk("master");
  c.reply.bulk("modules");
  c.reply.array(0);
}

void client(Context& c) {
  if (c.count() == 2 && same_word(c.args[1], "id")) return c.reply.integer(static_cast<std::int64_t>(c.client));
  if (c.count() == 2 && same_word(c.args[1], "getname")) return c.reply.null();
  throw Failure{"ERR of CLIENT, only ID and GETNAME are there: connections have no state inside the enclave"};
}

void config(Context& c) {
  if (c.count() < 3 || !same_word(c.args[1], "get")) {
    throw Failure{"ERR of CONFIG, only GET is there: the configuration is the enclave's measured manifest"};
  }
  const std::pair<std::string_view, std::string> all[] = {
      {"appendonly", "no"},
      {"databases", "1"},
      {"maxmemory", std::to_string(Memory::limit())},
      {"maxmemory-policy", "noeviction"},
      {"proto-max-bulk-len", std::to_string(c.reply.limit())},
      {"save", ""},
  };
  std::vector<std::string_view> found;
  for (const auto& [name, value] : all) {
    bool wanted = false;
    for (std::size_t i = 2; i < c.count(); ++i) wanted = wanted || glob_match(c.args[i], name);
    if (wanted) found.insert(found.end(), {name, value});
  }
  c.reply.array(found.size());
  for (const std::string_view text : found) c.reply.bulk(text);
}

void describe(Context& c, const Command& command) {
  c.reply.array(6);
  c.reply.bulk(command.name);
  c.reply.integer(command.arity);
  c.reply.array(1);
  c.reply.simple(command.flag);
  c.reply.integer(command.first_key);
  c.reply.integer(command.last_key);
  c.reply.integer(command.key_step);
}

void command(Context& c) {
  const std::vector<const Command*> all = all_commands();
  if (c.count() > 1 && same_word(c.args[1], "count")) return c.reply.integer(static_cast<std::int64_t>(all.size()));
  if (c.count() > 1 && same_word(c.args[1], "docs")) return c.reply.array(0);
  if (c.count() > 1 && same_word(c.args[1], "info")) {
    c.reply.array(c.count() - 2);
    for (std::size_t i = 2; i < c.count(); ++i) {
      const Command* found = find_command(c.args[i]);
      found == nullptr ? c.reply.null_array() : describe(c, *found);
    }
    return;
  }
  if (c.count() > 1) throw Failure{"ERR of COMMAND, only COUNT, DOCS and INFO are there"};
  c.reply.array(all.size());
  for (const Command* each : all) describe(c, *each);
}

std::size_t key_count(Context& c) {
  std::size_t n = 0;
  for (std::size_t shard = 0; shard < Table::kShards; ++shard) {
    n += Access(c.store.table, c.clock, shard).entries(shard).size();
  }
  return n;
}

void info(Context& c) {
  const std::string_view wanted = c.count() > 1 ? c.args[1] : "all";
  const bool all = same_word(wanted, "all") || same_word(wanted, "default") || same_word(wanted, "everything");
  std::string text;
  const auto section = [&](const char* name, const char* lower, auto&& body) {
    if (!all && !same_word(wanted, lower)) return;
    if (!text.empty()) text += "\r\n";
    text += std::string("# ") + name + "\r\n";
    body();
  };
  section("Server", "server", [&] {
    text += std::string("redis_version:") + kVersion + "\r\nserver_name:sealift-kv\r\nredis_mode:standalone\r\n";
  });
  section("Enclave", "enclave", [&] {
    if (c.store.about != nullptr) text += c.store.about();
  });
  section("Memory", "memory", [&] {
    text += "used_memory:" + std::to_string(Memory::used()) + "\r\nmaxmemory:" + std::to_string(Memory::limit()) +
            "\r\nmaxmemory_policy:noeviction\r\n";
  });
  section("Keyspace", "keyspace", [&] {
    if (const std::size_t n = key_count(c); n != 0) text += "db0:keys=" + std::to_string(n) + "\r\n";
  });
  c.reply.bulk(text);
}

constexpr Command kCommands[] = {
    {"client", -2, client, "fast", 0, 0, 0}, {"command", -1, command, "fast", 0, 0, 0},
    {"config", -2, config, "fast", 0, 0, 0}, {"echo", 2, echo, "fast", 0, 0, 0},
    {"hello", -1, hello, "fast", 0, 0, 0},   {"info", -1, info, "readonly", 0, 0, 0},
    {"ping", -1, ping, "fast", 0, 0, 0},     {"quit", -1, quit, "fast", 0, 0, 0},
    {"select", 2, select, "fast", 0, 0, 0},
};

}  // namespace

std::span<const Command> server_commands() {
  return kCommands;
}

}  // namespace kv

#include "examples/kv/store/batch.h"

#include <algorithm>

#include "examples/kv/store/resp.h"

namespace kv {
namespace {

void dispatch(Context& c) {
  const Command* command = find_command(c.args[0]);
  if (command == nullptr) throw Failure{"ERR unknown command '" + std::string(c.args[0].substr(0, 64)) + "'"};
  const auto least = static_cast<std::size_t>(command->arity < 0 ? -command->arity : command->arity);
  if (c.count() < least || (command->arity > 0 && c.count() != least)) {
    throw Failure{"ERR wrong number of arguments for '" + std::string(command->name) + "' command"};
  }
  command->handler(c);
}

// Answers the command in c.args, whatever becomes of it. Throws NoRoom, and then nothing was answered or changed.
void run(Context& c) {
  const std::size_t mark = c.reply.size();
  bool swept = false;
  for (;;) {
    try {
      return dispatch(c);
    } catch (const Failure& failure) {
      c.reply.roll_back(mark);
      return c.reply.error(failure.text);
    } catch (const std::bad_alloc&) {
      c.reply.roll_back(mark);
      // Expired keys go when they are looked at; those that nobody looks at go now.
      if (swept || Access(c.store.table, c.clock).drop_expired() == 0) {
        return c.reply.error("OOM the enclave's memory is full: delete keys, or give it a larger heap");
      }
      swept = true;
    } catch (const NoRoom&) {
      c.reply.roll_back(mark);
      if (mark != 0) throw;
      return c.reply.error("ERR the reply would not fit the enclave's message slot: ask for less at a time");
    }
  }
}

// Room for as much as the thread's last reply took: blocks that are too large for the thread's own cache are had under
// malloc's lock, and who has to wait for that inside an enclave waits long.
void guess_room(Reply& reply, std::size_t last_size) {
  constexpr std::size_t kLargest = 64 * 1024;
  reply.need(std::min({last_size + kMinRoom, kLargest, reply.limit()}));
}

// False: the next command has to wait for another reply.
bool room_for_a_command(Reply& reply) {
  try {
    reply.need(kMinRoom);
    return true;
  } catch (const NoRoom&) {
    return false;
  } catch (const std::bad_alloc&) {
    if (reply.size() == 0) throw;
    return false;
  }
}

}  // namespace

Answer execute(Store& store, std::uint64_t client, std::string_view request, std::size_t max_reply) {
  thread_local std::size_t last_size = 0;
  Answer answer;
  Reply reply(max_reply);
  guess_room(reply, last_size);
  Clock clock(store.clock);
  resp::Parser parser;
  while (answer.consumed < request.size() && !answer.close && room_for_a_command(reply)) {
    const resp::Status status = parser.parse(request.substr(answer.consumed));
    if (status == resp::Status::kNeedMore) break;
    if (status == resp::Status::kMalformed) {
      reply.error(std::string("ERR Protocol error: ") + parser.error());
      answer.close = true;
      answer.consumed = request.size();
      break;
    }
    if (!parser.arguments().empty()) {
      Context context{store, clock, reply, parser.arguments(), client};
      try {
        run(context);
      } catch (const NoRoom&) {
        break;
      }
      answer.close = context.close;
    }
    answer.consumed += parser.used();
  }
  last_size = reply.size();
  answer.reply = reply.take();
  return answer;
}

}  // namespace kv

// What the enclave does with a batch of commands.
#pragma once

#include <cstdint>
#include <string_view>

#include "examples/kv/calls.h"
#include "examples/kv/store/command.h"

namespace kv {

// Executes the commands in `request` one after the other and answers each. Stops early, before a command, when its
// answer might not fit what is left of the reply: the caller sends the rest again. Thread-safe. Throws std::bad_alloc
// only when there is no memory for the reply itself.
[[nodiscard]] Answer execute(Store& store, std::uint64_t client, std::string_view request,
                             std::size_t max_reply = kMaxReply);

}  // namespace kv

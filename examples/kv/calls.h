// The one call between the kv program and its enclave.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <tuple>

#include "sealift/calls.h"

namespace kv {

// What became of a batch of commands.
struct Answer {
  std::uint64_t consumed = 0;  // bytes of the request that are dealt with; the rest did not fit the reply
  bool close = false;          // after the reply: the client said QUIT, or does not speak the protocol
  std::string reply;           // RESP, one reply for each command executed
  // The large one last: its bytes are then appended once, and never moved to make room for more.
  auto tie() { return std::tie(consumed, close, reply); }
  auto tie() const { return std::tie(consumed, close, reply); }
};

// Executes the commands in `request` (whole ones, pipelined, as the client sent them). `client` is the host's number
// for the connection: only CLIENT ID repeats it.
inline constexpr sealift::Ecall<1, Answer(std::uint64_t client, std::string request)> kExecute{};

// [memory] slot in kv.toml: what one message to or from the enclave may hold, framing included.
inline constexpr std::size_t kSlotBytes = 1 << 20;
inline constexpr std::size_t kFramingBytes = 64;
inline constexpr std::size_t kMaxRequest = kSlotBytes - kFramingBytes;
inline constexpr std::size_t kMaxReply = kSlotBytes - kFramingBytes;

}  // namespace kv

// What a client has sent and the enclave has not yet dealt with.
//
// Knows only where commands end; the enclave alone interprets them. Holds at most one message's worth of bytes: a
// command that is larger is dropped as it comes in, and reported when its end has been seen.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "examples/kv/calls.h"

namespace kv {

class Inbox {
 public:
  // `capacity` must hold the longest inline command (resp::kMaxInlineBytes).
  explicit Inbox(std::size_t capacity = kMaxRequest) : capacity_(capacity) {}

  // Where to put what arrives; never empty after next() has answered kNothing. Then say how much it was.
  [[nodiscard]] std::span<char> space();
  void received(std::size_t bytes);

  enum class Kind {
    kNothing,    // more bytes are needed
    kBatch,      // `bytes`: whole commands, or the bytes behind which nothing can be understood
    kOversized,  // a command was dropped: answer it with an error
    kBroken,     // the stream broke inside of a command that was being dropped: answer with an error and close
  };
  struct Item {
    Kind kind = Kind::kNothing;
    std::string_view bytes;
  };
  // What to do next, in the order of arrival. A batch stays until it is consumed.
  [[nodiscard]] Item next();
  void consumed(std::size_t bytes);

 private:
  void scan();
  // Each understands one thing more; false: not without more bytes, or not before something has been taken.
  bool step();
  bool begin_command();
  bool take_argument();
  void start_skipping();
  void drop(std::size_t bytes);

  std::size_t capacity_;
  std::string buffer_;
  std::size_t filled_ = 0;           // bytes of buffer_ that have arrived
  std::size_t complete_ = 0;         // whole commands end here
  std::size_t at_ = 0;               // understood so far; the command at complete_ goes on here
  std::int64_t arguments_left_ = 0;  // of that command
  bool skipping_ = false;            // that command is too large: complete_ and at_ are 0
  std::size_t skip_ = 0;             // bytes of its current argument still to be dropped
  bool malformed_ = false;
};

}  // namespace kv

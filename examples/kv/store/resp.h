// RESP2, the request side: one command at a time from bytes that any client, or a hostile host, may have made up.
// https://redis.io/docs/reference/protocol-spec/. Used inside to execute, and outside to see where commands end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace kv::resp {

inline constexpr std::int64_t kMaxArguments = 1024 * 1024;
inline constexpr std::int64_t kMaxBulkBytes = 512 * 1024 * 1024;
inline constexpr std::size_t kMaxInlineBytes = 64 * 1024;

enum class Status { kOk, kNeedMore, kMalformed };

// "*3\r\n" and the like. `used` and `value` are set when kOk; `error` when kMalformed.
struct Header {
  Status status = Status::kNeedMore;
  std::size_t used = 0;
  std::int64_t value = 0;
  const char* error = "";
};
// A count of arguments ('*') or the length of one ('$'), within the limits above; a count may also be negative.
[[nodiscard]] Header parse_header(std::string_view in, char marker);

// One inline command's line, without its end. `used` includes the end.
struct Line {
  Status status = Status::kNeedMore;
  std::size_t used = 0;
  std::string_view text;
  const char* error = "";
};
[[nodiscard]] Line parse_line(std::string_view in);

// Decodes a command. The arguments are views of the input or of this parser, valid until the next parse().
class Parser {
 public:
  // kOk: arguments() are the command's; there are none if it was empty. kMalformed: error() says why; nothing after
  // this point of the stream can be understood.
  [[nodiscard]] Status parse(std::string_view in);
  [[nodiscard]] const std::vector<std::string_view>& arguments() const { return arguments_; }
  [[nodiscard]] std::size_t used() const { return used_; }
  [[nodiscard]] const char* error() const { return error_; }

 private:
  Status parse_array(std::string_view in);
  Status parse_inline(std::string_view in);
  Status fail(const char* why);

  std::vector<std::string_view> arguments_;
  std::string unquoted_;
  std::size_t used_ = 0;
  const char* error_ = "";
};

}  // namespace kv::resp

// RESP2, the reply side. Everything a batch answers goes into one of these, up to a limit.
//
// A command that changes data calls need() for all that it will answer before it changes anything: behind that, nothing
// here allocates or throws, so what was done is also said.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace kv {

// Thrown when the limit would be passed. Whoever catches it rolls back.
struct NoRoom {};

class Reply {
 public:
  explicit Reply(std::size_t limit) : limit_(limit) {}

  // Room for `bytes` more. Throws NoRoom or std::bad_alloc.
  void need(std::size_t bytes);
  // What a bulk string of this size takes at most.
  [[nodiscard]] static constexpr std::size_t bulk_bytes(std::size_t size) { return size + 16; }

  void simple(std::string_view text);
  void error(std::string_view text);  // "ERR …", without the leading '-'
  void integer(std::int64_t value);
  void bulk(std::string_view text);
  void null();
  void null_array();
  void array(std::size_t size);
  void append(const Reply& other);

  [[nodiscard]] std::size_t size() const { return out_.size(); }
  [[nodiscard]] std::size_t limit() const { return limit_; }
  void roll_back(std::size_t size) { out_.resize(size); }
  [[nodiscard]] std::string take() { return std::move(out_); }

 private:
  void line(char marker, std::string_view text);
  void number(char marker, std::int64_t value);

  std::size_t limit_;
  std::string out_;
};

}  // namespace kv

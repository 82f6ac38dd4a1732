#include "examples/kv/store/resp.h"

#include <charconv>

namespace kv::resp {
namespace {

constexpr std::size_t kMaxHeaderBytes = 32;

Header bad_header(const char* why) {
  return {Status::kMalformed, 0, 0, why};
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool blank(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}

// Splits a line into words as redis-server does: blanks separate; "…" with escapes, or '…' in which only \' is one.
// Words are written to `to`, which never grows past the line's own length.
class Splitter {
 public:
  Splitter(std::string_view line, std::string& to) : line_(line), to_(to) {}

  // The next word's extent in `to`. False: no more, or failed().
  bool next(std::size_t& begin, std::size_t& size) {
    while (at_ < line_.size() && blank(line_[at_])) ++at_;
    if (at_ == line_.size()) return false;
    begin = to_.size();
    while (at_ < line_.size() && !blank(line_[at_])) {
      const char c = line_[at_];
      if (c != '"' && c != '\'') {
        to_.push_back(c);
        ++at_;
      } else if (!quoted(c)) {
        failed_ = true;
        return false;
      }
    }
    size = to_.size() - begin;
    return true;
  }
  [[nodiscard]] bool failed() const { return failed_; }

 private:
  // From an opening quote to just behind the closing one, which must end the word.
  bool quoted(char quote) {
    for (++at_; at_ < line_.size(); ++at_) {
      const char c = line_[at_];
      if (c == quote) {
        ++at_;
        return at_ == line_.size() || blank(line_[at_]);
      }
      if (c == '\\' && at_ + 1 < line_.size() && (quote == '"' || line_[at_ + 1] == '\'')) {
        ++at_;
        to_.push_back(quote == '"' ? escape() : '\'');
      } else {
        to_.push_back(c);
      }
    }
    return false;
  }

  // At the character behind a backslash; leaves `at_` on the escape's last.
  char escape() {
    const char c = line_[at_];
    if (c == 'x' && at_ + 2 < line_.size()) {
      const int high = hex_digit(line_[at_ + 1]), low = hex_digit(line_[at_ + 2]);
      if (high >= 0 && low >= 0) {
        at_ += 2;
        return static_cast<char>(high * 16 + low);
      }
    }
    switch (c) {
      case 'n':
        return '\n';
      case 'r':
        return '\r';
      case 't':
        return '\t';
      case 'b':
        return '\b';
      case 'a':
        return '\a';
      default:
        return c;
    }
  }

  std::string_view line_;
  std::string& to_;
  std::size_t at_ = 0;
  bool failed_ = false;
};

}  // namespace

Header parse_header(std::string_view in, char marker) {
  const bool count = marker == '*';
  if (in.empty()) return {};
  if (in[0] != marker) return bad_header(count ? "expected '*'" : "expected '$'");
  const std::size_t end = in.substr(0, kMaxHeaderBytes).find('\r');
  if (end == std::string_view::npos) {
    if (in.size() < kMaxHeaderBytes) return {};
    return bad_header(count ? "too big mbulk count string" : "too big bulk count string");
  }
  if (end + 1 == in.size()) return {};
  const char* const why = count ? "invalid multibulk length" : "invalid bulk length";
  std::int64_t value = 0;
  const char* const last = in.data() + end;
  const auto [stop, error] = std::from_chars(in.data() + 1, last, value);
  if (error != std::errc() || stop != last || in[end + 1] != '\n') return bad_header(why);
  if (count ? value > kMaxArguments : (value < 0 || value > kMaxBulkBytes)) return bad_header(why);
  return {Status::kOk, end + 2, value, ""};
}

Line parse_line(std::string_view in) {
  const std::size_t end = in.substr(0, kMaxInlineBytes).find('\n');
  if (end == std::string_view::npos) {
    if (in.size() < kMaxInlineBytes) return {};
    return {Status::kMalformed, 0, {}, "too big inline request"};
  }
  std::string_view text = in.substr(0, end);
  if (text.ends_with('\r')) text.remove_suffix(1);
  return {Status::kOk, end + 1, text, ""};
}

Status Parser::fail(const char* why) {
  error_ = why;
  return Status::kMalformed;
}

Status Parser::parse(std::string_view in) {
  arguments_.clear();
  used_ = 0;
  if (in.empty()) return Status::kNeedMore;
  return in[0] == '*' ? parse_array(in) : parse_inline(in);
}

Status Parser::parse_array(std::string_view in) {
  const Header count = parse_header(in, '*');
  if (count.status != Status::kOk) return count.status == Status::kMalformed ? fail(count.error) : count.status;
  std::size_t at = count.used;
  // Memory is taken only for arguments whose bytes are there.
  for (std::int64_t i = 0; i < count.value; ++i) {
    const Header length = parse_header(in.substr(at), '$');
    if (length.status != Status::kOk) return length.status == Status::kMalformed ? fail(length.error) : length.status;
    at += length.used;
    const auto size = static_cast<std::size_t>(length.value);
    if (in.size() - at < size + 2) return Status::kNeedMore;
    if (in[at + size] != '\r' || in[at + size + 1] != '\n') return fail("expected CRLF behind a bulk string");
    arguments_.push_back(in.substr(at, size));
    at += size + 2;
  }
  used_ = at;
  return Status::kOk;
}

Status Parser::parse_inline(std::string_view in) {
  const Line line = parse_line(in);
  if (line.status != Status::kOk) return line.status == Status::kMalformed ? fail(line.error) : line.status;
  unquoted_.clear();
  unquoted_.reserve(line.text.size());  // views of it must stay valid
  Splitter words(line.text, unquoted_);
  for (std::size_t begin = 0, size = 0; words.next(begin, size);) {
    arguments_.push_back(std::string_view(unquoted_).substr(begin, size));
  }
  if (words.failed()) return fail("unbalanced quotes in request");
  used_ = line.used;
  return Status::kOk;
}

}  // namespace kv::resp

// The request parser, on what clients send and on what nobody should.
#include "examples/kv/store/resp.h"

#include <gtest/gtest.h>

namespace kv::resp {
namespace {

using Words = std::vector<std::string_view>;

TEST(Resp, AnArrayOfBulkStringsIsACommand) {
  Parser p;
  ASSERT_EQ(p.parse("*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n*1\r\n"), Status::kOk);
  EXPECT_EQ(p.arguments(), (Words{"GET", "key"}));
  EXPECT_EQ(p.used(), 22u);
}

TEST(Resp, BulkStringsAreBinary) {
  Parser p;
  const std::string in("*2\r\n$1\r\nx\r\n$4\r\n\r\n\0*\r\n", 21);
  ASSERT_EQ(p.parse(in), Status::kOk);
  EXPECT_EQ(p.arguments()[1], std::string_view("\r\n\0*", 4));
  EXPECT_EQ(p.used(), in.size());
}

TEST(Resp, EveryPrefixOfACommandNeedsMore) {
  const std::string in = "*3\r\n$3\r\nSET\r\n$0\r\n\r\n$10\r\n0123456789\r\n";
  for (std::size_t n = 0; n < in.size(); ++n) {
    Parser p;
    EXPECT_EQ(p.parse(std::string_view(in).substr(0, n)), Status::kNeedMore) << n;
  }
}

TEST(Resp, EmptyCommandsHaveNoArguments) {
  for (const std::string_view in : {"*0\r\n", "*-1\r\n", "\r\n", "\n", "  \t \r\n"}) {
    Parser p;
    EXPECT_EQ(p.parse(in), Status::kOk) << in;
    EXPECT_TRUE(p.arguments().empty());
    EXPECT_EQ(p.used(), in.size());
  }
}

TEST(Resp, InlineCommandsAreSplitAtBlanks) {
  Parser p;
  ASSERT_EQ(p.parse("  SET  a\tb \r\nGET a\r\n"), Status::kOk);
  EXPECT_EQ(p.arguments(), (Words{"SET", "a", "b"}));
  EXPECT_EQ(p.used(), 13u);
}

TEST(Resp, InlineQuotesAndEscapes) {
  Parser p;
  ASSERT_EQ(p.parse("SET \"a b\" \"\\x41\\n\\\"\" 'it\\'s \\x41' \"\"\n"), Status::kOk);
  EXPECT_EQ(p.arguments(), (Words{"SET", "a b", "A\n\"", "it's \\x41", ""}));
}

struct Bad {
  const char* name;
  std::string in;
  const char* error;
};

class Malformed : public testing::TestWithParam<Bad> {};

TEST_P(Malformed, IsRefusedWithItsReason) {
  Parser p;
  ASSERT_EQ(p.parse(GetParam().in), Status::kMalformed);
  EXPECT_STREQ(p.error(), GetParam().error);
}

const Bad kBad[] = {
    {"CountIsNoNumber", "*x\r\n", "invalid multibulk length"},
    {"CountIsEmpty", "*\r\n", "invalid multibulk length"},
    {"CountHasAPlus", "*+1\r\n", "invalid multibulk length"},
    {"CountHasABlank", "*1 \r\n", "invalid multibulk length"},
    {"CountTooLarge", "*1048577\r\n", "invalid multibulk length"},
    {"CountOverflows", "*99999999999999999999\r\n", "invalid multibulk length"},
    {"CountWithoutLineFeed", "*1\rx", "invalid multibulk length"},
    {"CountNeverEnds", "*" + std::string(40, '1'), "too big mbulk count string"},
    {"NoDollar", "*1\r\n:3\r\nGET\r\n", "expected '$'"},
    {"NestedArray", "*1\r\n*1\r\n$1\r\na\r\n", "expected '$'"},
    {"LengthIsNoNumber", "*1\r\n$x\r\n", "invalid bulk length"},
    {"LengthIsNegative", "*1\r\n$-1\r\n", "invalid bulk length"},
    {"LengthTooLarge", "*1\r\n$536870913\r\n", "invalid bulk length"},
    {"LengthOverflows", "*1\r\n$18446744073709551617\r\n", "invalid bulk length"},
    {"LengthNeverEnds", "*1\r\n$" + std::string(40, '0'), "too big bulk count string"},
    {"BulkTooLong", "*1\r\n$3\r\nGETX\r\n", "expected CRLF behind a bulk string"},
    {"BulkEndsWithLineFeedOnly", "*1\r\n$3\r\nGET\n\n", "expected CRLF behind a bulk string"},
    {"InlineNeverEnds", std::string(kMaxInlineBytes, 'x'), "too big inline request"},
    {"InlineQuoteOpen", "GET \"a\r\n", "unbalanced quotes in request"},
    {"InlineSingleQuoteOpen", "GET 'a\r\n", "unbalanced quotes in request"},
    {"InlineQuoteInsideAWord", "GET \"a\"b\r\n", "unbalanced quotes in request"},
    {"InlineEscapeAtTheEnd", "GET \"a\\\r\n", "unbalanced quotes in request"},
};

INSTANTIATE_TEST_SUITE_P(Resp, Malformed, testing::ValuesIn(kBad),
                         [](const testing::TestParamInfo<Bad>& i) { return i.param.name; });

}  // namespace
}  // namespace kv::resp

// Batches: pipelines, replies that do not fit, memory that ends anywhere.
#include "examples/kv/store/glob.h"
#include "examples/kv/store/testing.h"

namespace kv {
namespace {

using testing::encode;
using testing::now;
using testing::words;
using Batch = testing::StoreTest;

TEST_F(Batch, APipelineIsAnsweredInOrder) {
  const std::string request =
      encode({"SET", "a", "1"}) + "INCR a\r\n\r\n" + encode({"GET", "a"}) + encode({"GET", "b"});
  const Answer answer = execute(store, 1, request);
  EXPECT_EQ(answer.reply, "+OK\r\n:2\r\n$1\r\n2\r\n$-1\r\n");
  EXPECT_EQ(answer.consumed, request.size());
  EXPECT_FALSE(answer.close);
}

TEST_F(Batch, AProtocolErrorEndsTheConnectionBehindWhatWasGood) {
  const Answer answer = execute(store, 1, "SET a 1\r\n*1\r\n$-5\r\nSET a 2\r\n");
  EXPECT_EQ(answer.reply, "+OK\r\n-ERR Protocol error: invalid bulk length\r\n");
  EXPECT_TRUE(answer.close);
  EXPECT_EQ(ask("GET a"), "$1 1");
}

TEST_F(Batch, AnIncompleteCommandIsLeft) {
  const Answer answer = execute(store, 1, "SET a 1\r\n*2\r\n$3\r\nGET\r\n");
  EXPECT_EQ(answer.consumed, 9u);
  EXPECT_FALSE(answer.close);
}

TEST_F(Batch, WhatDoesNotFitTheReplyIsAnsweredByTheNext) {
  ask({"SET", "a", std::string(600, 'x')});
  std::string request;
  for (int i = 0; i < 10; ++i) request += encode({"INCR", "n"}) + encode({"GET", "a"});
  std::string replies;
  int rounds = 0;
  for (std::string_view left = request; !left.empty(); ++rounds) {
    const Answer answer = execute(store, 1, left, 1400);
    ASSERT_GT(answer.consumed, 0u);
    EXPECT_LE(answer.reply.size(), 1400u);
    left.remove_prefix(answer.consumed);
    replies += answer.reply;
  }
  EXPECT_GE(rounds, 5);
  std::string expected;
  for (int i = 1; i <= 10; ++i) {
    expected += ":" + std::to_string(i) + "\r\n$600\r\n" + std::string(600, 'x') + "\r\n";
  }
  EXPECT_EQ(replies, expected);
}

TEST_F(Batch, AReplyThatNeverFitsIsAnErrorAndChangesNothing) {
  ask({"SET", "big", std::string(4000, 'x')});
  for (int i = 0; i < 100; ++i) ask({"RPUSH", "list", std::string(50, 'x')});
  for (int i = 0; i < 100; ++i) ask({"SADD", "set", std::string(50, 'x') + std::to_string(i)});
  for (int i = 0; i < 100; ++i) ask({"ZADD", "zset", "1", std::string(50, 'x') + std::to_string(i)});
  const auto before = contents();
  const char* commands[] = {"GET big",          "GETSET big 1",     "SET big 1 GET", "GETDEL big",
                            "MGET big",         "LPOP list 100",    "RPOP list 100", "SPOP set 100",
                            "ZPOPMIN zset 100", "LRANGE list 0 -1", "SMEMBERS set",  "ZRANGE zset 0 -1",
                            "MGET big big big"};
  for (const char* command : commands) {
    const std::string request = encode(words(command));
    const Answer answer = execute(store, 1, request, 1000);
    EXPECT_TRUE(answer.reply.starts_with("-ERR the reply would not fit")) << command << answer.reply;
    EXPECT_EQ(answer.consumed, request.size());
  }
  EXPECT_EQ(contents(), before);
}

TEST_F(Batch, WhatCouldNeverBeReadIsNotAppended) {
  ask({"SET", "a", std::string(600'000, 'x')});
  EXPECT_EQ(ask({"APPEND", "a", std::string(600'000, 'x')}), "-ERR string exceeds maximum allowed size");
  EXPECT_EQ(ask("STRLEN a"), ":600000");
}

// Memory ends at every single allocation of every command in turn. A command that answers -OOM has changed nothing; one
// that does not has done all.
class OutOfMemory : public testing::StoreTest, public ::testing::WithParamInterface<const char*> {};

TEST_P(OutOfMemory, LeavesTheStoreAsItWas) {
  const std::string longer(40, 'y');  // no small-string optimisation
  for (int i = 0; i < 12; ++i) {
    const std::string n = std::to_string(i);
    ask({"SET", "key" + n, longer + n});
    ask({"RPUSH", "list", longer + n});
    ask({"HSET", "hash", longer + n, longer});
    ask({"SADD", "set", longer + n});
    ask({"ZADD", "zset", n, longer + n});
  }
  ask("SET number 9999999999999999");
  std::vector<std::string> command = words(GetParam());
  for (std::string& w : command) {
    if (w.starts_with('@')) w = longer + w.substr(1);
  }
  const auto before = contents();
  bool done = false;
  int refused = 0;
  for (std::size_t more = 0; !done; more += 16) {
    ASSERT_LT(more, 1u << 20) << "never enough";
    Memory::set_limit(Memory::used() + more);
    const std::string reply = ask(command);
    Memory::set_limit(static_cast<std::size_t>(-1));
    done = !reply.starts_with("-OOM");
    if (done) {
      EXPECT_FALSE(reply.starts_with('-')) << reply;
    } else {
      ++refused;
      ASSERT_EQ(contents(), before) << "with " << more << " bytes";
    }
  }
  EXPECT_GT(refused, 0);
  EXPECT_NE(contents(), before);
}

INSTANTIATE_TEST_SUITE_P(Batch, OutOfMemory,
                         ::testing::Values("SET new @1", "SET key1 @new-value", "SETNX new @1", "SETEX new 10 @1",
                                           "GETSET key1 @other", "MSET key1 @x new1 @y new2 @z key2 @w new3 @v",
                                           "APPEND key1 @1@", "APPEND new @1", "INCR number",
                                           "INCRBY new 12345678901234567", "LPUSH list @a @b @c", "RPUSH list @a @b",
                                           "LPUSH new @a @b", "HSET hash @0 @new @100 @x @101 @y @102 @z",
                                           "HSET new @1 @2 @3 @4", "SADD set @0 @100 @101 @102", "SADD new @1 @2",
                                           "ZADD zset 100 @0 101 @100 102 @101", "ZADD new 1 @1 2 @2"));

TEST_F(Batch, AFullStoreAnswersOomAndTakesDeletions) {
  Memory::set_limit(Memory::used() + (1 << 20));
  int stored = 0;
  while (ask({"SET", "key" + std::to_string(stored), std::string(1000, 'x')}) == "+OK") ++stored;
  EXPECT_GT(stored, 500);
  EXPECT_TRUE(ask({"SET", "more", std::string(1000, 'x')}).starts_with("-OOM"));
  EXPECT_EQ(ask("GET key0"), "$1000 " + std::string(1000, 'x'));
  EXPECT_EQ(ask("DEL key0 key1"), ":2");
  EXPECT_EQ(ask({"SET", "more", std::string(1000, 'x')}), "+OK");
}

TEST_F(Batch, ExpiredKeysMakeRoom) {
  now = 1000;
  Memory::set_limit(Memory::used() + (1 << 20));
  int stored = 0;
  while (ask({"SET", "key" + std::to_string(stored), std::string(1000, 'x'), "PX", "5"}) == "+OK") ++stored;
  now = 1005;
  EXPECT_EQ(ask({"SET", "more", std::string(1000, 'x')}), "+OK");
  EXPECT_EQ(ask("DBSIZE"), ":1");
}

TEST_F(Batch, EmptyingTheStoreGivesBackAllMemory) {
  const std::size_t before = Memory::used();
  for (int i = 0; i < 100; ++i) {
    const std::string n = std::to_string(i), text = std::string(50, 'x') + n;
    ask({"SET", text, text});
    ask({"APPEND", text, text});
    ask({"LPUSH", "l", text});
    ask({"HSET", "h", text, text});
    ask({"SADD", "s", text});
    ask({"ZADD", "z", n, text});
  }
  EXPECT_GT(Memory::used(), before + 30000);
  ask("FLUSHALL");
  EXPECT_EQ(Memory::used(), before);
}

TEST(Glob, Patterns) {
  EXPECT_TRUE(glob_match("*", ""));
  EXPECT_TRUE(glob_match("a*c", "abbc"));
  EXPECT_TRUE(glob_match("*a*b*", "xxaxxbxx"));
  EXPECT_FALSE(glob_match("*a*b", "xxaxxbxx"));
  EXPECT_TRUE(glob_match("h?llo", "hello"));
  EXPECT_FALSE(glob_match("h?llo", "hllo"));
  EXPECT_TRUE(glob_match("h[ae]llo", "hallo"));
  EXPECT_FALSE(glob_match("h[^ae]llo", "hallo"));
  EXPECT_TRUE(glob_match("h[a-c]llo", "hbllo"));
  EXPECT_TRUE(glob_match("h[c-a]llo", "hbllo"));
  EXPECT_FALSE(glob_match("h[a-c]llo", "hdllo"));
  EXPECT_TRUE(glob_match("a\\*b", "a*b"));
  EXPECT_FALSE(glob_match("a\\*b", "axb"));
  EXPECT_TRUE(glob_match("[\\]]", "]"));
  EXPECT_TRUE(glob_match("[a-", "-"));
  EXPECT_TRUE(glob_match("a[", "a") == false);
  EXPECT_TRUE(glob_match("\\", "\\"));
  EXPECT_FALSE(glob_match("", "a"));
}

TEST(Glob, APatternMadeToBeSlowIsNot) {
  std::string pattern;
  for (int i = 0; i < 2000; ++i) pattern += "*a";
  EXPECT_FALSE(glob_match(pattern + "b", std::string(4000, 'a')));
}

}  // namespace
}  // namespace kv

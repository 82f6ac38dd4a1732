// Each command: what it answers, what it leaves behind.
#include <thread>

#include "examples/kv/store/testing.h"

namespace kv {
namespace {

using testing::encode;
using testing::now;
using Commands = testing::StoreTest;

TEST_F(Commands, Strings) {
  EXPECT_EQ(ask("GET a"), "$-1");
  EXPECT_EQ(ask("SET a 1"), "+OK");
  EXPECT_EQ(ask("GET a"), "$1 1");
  EXPECT_EQ(ask("GETSET a 2"), "$1 1");
  EXPECT_EQ(ask("SETNX a 3"), ":0");
  EXPECT_EQ(ask("SETNX b 3"), ":1");
  EXPECT_EQ(ask("MGET a b c"), "*3 $1 2 $1 3 $-1");
  EXPECT_EQ(ask("APPEND a 34"), ":3");
  EXPECT_EQ(ask("APPEND new x"), ":1");
  EXPECT_EQ(ask("STRLEN a"), ":3");
  EXPECT_EQ(ask("STRLEN none"), ":0");
  EXPECT_EQ(ask("GETDEL a"), "$3 234");
  EXPECT_EQ(ask("GETDEL a"), "$-1");
}

TEST_F(Commands, SetOptions) {
  EXPECT_EQ(ask("SET a 1 XX"), "$-1");
  EXPECT_EQ(ask("SET a 1 NX"), "+OK");
  EXPECT_EQ(ask("SET a 2 NX"), "$-1");
  EXPECT_EQ(ask("SET a 2 XX GET"), "$1 1");
  EXPECT_EQ(ask("SET a 3 NX GET"), "$1 2");
  EXPECT_EQ(ask("GET a"), "$1 2");
  EXPECT_EQ(ask("SET a 1 NX XX"), "-ERR syntax error");
  EXPECT_EQ(ask("SET a 1 EX"), "-ERR syntax error");
  EXPECT_EQ(ask("SET a 1 EX 1 PX 1"), "-ERR syntax error");
  EXPECT_EQ(ask("SET a 1 EX 1 KEEPTTL"), "-ERR syntax error");
  EXPECT_EQ(ask("SET a 1 WHAT"), "-ERR syntax error");
  EXPECT_EQ(ask("SET a 1 EX 0"), "-ERR invalid expire time in 'SET' command");
  EXPECT_EQ(ask("SET a 1 EX 9223372036854775807"), "-ERR invalid expire time in 'SET' command");
  EXPECT_EQ(ask("SET a 1 EX x"), "-ERR value is not an integer or out of range");
}

TEST_F(Commands, Mset) {
  EXPECT_EQ(ask("MSET a 1 b 2 a 3"), "+OK");
  EXPECT_EQ(ask("MGET a b"), "*2 $1 3 $1 2");
  EXPECT_EQ(ask("MSET a 1 b"), "-ERR wrong number of arguments for 'mset' command");
  ask("LPUSH l 1");
  EXPECT_EQ(ask("MSET l 1"), "+OK");
  EXPECT_EQ(ask("GET l"), "$1 1");
}

TEST_F(Commands, Counters) {
  EXPECT_EQ(ask("INCR n"), ":1");
  EXPECT_EQ(ask("INCRBY n 41"), ":42");
  EXPECT_EQ(ask("DECR n"), ":41");
  EXPECT_EQ(ask("DECRBY n 50"), ":-9");
  EXPECT_EQ(ask("GET n"), "$2 -9");
  ask("SET n 9223372036854775807");
  EXPECT_EQ(ask("INCR n"), "-ERR increment or decrement would overflow");
  EXPECT_EQ(ask("DECRBY n -9223372036854775808"), "-ERR decrement would overflow");
  for (const char* bad : {"", " 1", "1 ", "+1", "0x1", "1.5", "9223372036854775808"}) {
    ask({"SET", "n", bad});
    EXPECT_EQ(ask("INCR n"), "-ERR value is not an integer or out of range") << bad;
  }
}

TEST_F(Commands, DeadlinesPass) {
  now = 1000;
  EXPECT_EQ(ask("TTL a"), ":-2");
  ask("SET a 1");
  EXPECT_EQ(ask("TTL a"), ":-1");
  EXPECT_EQ(ask("EXPIRE a 10"), ":1");
  EXPECT_EQ(ask("EXPIRE none 10"), ":0");
  EXPECT_EQ(ask("TTL a"), ":10");
  now = 10999;
  EXPECT_EQ(ask("PTTL a"), ":1");
  EXPECT_EQ(ask("EXISTS a a"), ":2");
  now = 11000;
  EXPECT_EQ(ask("GET a"), "$-1");
  EXPECT_EQ(ask("DBSIZE"), ":0");
  ask("SETEX b 5 x");
  ask("PSETEX c 5000 x");
  ask("SET d x PX 5000");
  EXPECT_EQ(ask("PTTL b"), ":5000");
  EXPECT_EQ(ask("PTTL c"), ":5000");
  EXPECT_EQ(ask("PERSIST c"), ":1");
  EXPECT_EQ(ask("PERSIST c"), ":0");
  EXPECT_EQ(ask("SET d y KEEPTTL"), "+OK");
  EXPECT_EQ(ask("PTTL d"), ":5000");
  EXPECT_EQ(ask("SET b y"), "+OK");
  EXPECT_EQ(ask("PTTL b"), ":-1");
  now = 16000;
  EXPECT_EQ(elements({"KEYS", "*"}), (std::vector<std::string>{"b", "c"}));
  EXPECT_EQ(ask("EXPIRE b 0"), ":1");
  EXPECT_EQ(ask("EXISTS b"), ":0");
}

TEST_F(Commands, AnExpiredValueOfAnotherTypeIsNoObstacle) {
  now = 1000;
  ask("LPUSH a 1");
  ask("PEXPIRE a 10");
  now = 1010;
  EXPECT_EQ(ask("SADD a 1"), ":1");
  EXPECT_EQ(ask("TYPE a"), "+set");
}

TEST_F(Commands, Keys) {
  ask("MSET one 1 two 2 three 3");
  EXPECT_EQ(elements({"KEYS", "t*"}), (std::vector<std::string>{"three", "two"}));
  EXPECT_EQ(ask("DEL one two two none"), ":2");
  EXPECT_EQ(ask("UNLINK three"), ":1");
  EXPECT_EQ(ask("DBSIZE"), ":0");
  ask("SET a 1");
  EXPECT_EQ(ask("TYPE a"), "+string");
  EXPECT_EQ(ask("TYPE none"), "+none");
  EXPECT_EQ(ask("FLUSHALL"), "+OK");
  EXPECT_EQ(ask("DBSIZE"), ":0");
  EXPECT_EQ(ask("FLUSHDB ASYNC"), "+OK");
  EXPECT_EQ(ask("FLUSHDB LATER"), "-ERR syntax error");
}

TEST_F(Commands, ScanSeesEveryKeyThatStaysThoughOthersComeAndGo) {
  for (int i = 0; i < 500; ++i) ask({"SET", "stays" + std::to_string(i), "1"});
  std::set<std::string> seen;
  std::string cursor = "0";
  int round = 0;
  do {
    const std::string reply = execute(store, 1, encode({"SCAN", cursor, "MATCH", "stays*", "COUNT", "7"})).reply;
    for (const std::string& key : elements({"SCAN", cursor, "MATCH", "stays*", "COUNT", "7"})) seen.insert(key);
    cursor = reply.substr(reply.find("\r\n", 5) + 2);
    cursor.resize(cursor.find("\r\n"));
    // Growth makes tables rehash under the scan.
    for (int i = 0; i < 20; ++i) ask({"SET", "new" + std::to_string(round * 20 + i), "1"});
    ask({"DEL", "new" + std::to_string(round)});
    ++round;
  } while (cursor != "0");
  seen.erase(cursor);
  int found = 0;
  for (int i = 0; i < 500; ++i) found += seen.contains("stays" + std::to_string(i)) ? 1 : 0;
  EXPECT_EQ(found, 500);
  EXPECT_GT(round, 50);
}

TEST_F(Commands, ScanArguments) {
  ask("SET s 1");
  ask("LPUSH l 1");
  EXPECT_EQ(ask("SCAN 0 TYPE list COUNT 100"), "*2 $1 0 *1 $1 l");
  for (const char* bad : {"SCAN 0 COUNT 0", "SCAN 0 MATCH", "SCAN 0 WHAT x"}) {
    EXPECT_EQ(ask(bad), "-ERR syntax error") << bad;
  }
  for (const char* bad : {"SCAN x", "SCAN -1", "SCAN 18446744073709551616"}) {
    EXPECT_EQ(ask(bad), "-ERR invalid cursor") << bad;
  }
  EXPECT_EQ(ask({"SCAN", ""}), "-ERR invalid cursor");
  EXPECT_EQ(ask("SCAN 18446744073709551615"), "*2 $1 0 *0");
}

TEST_F(Commands, Hashes) {
  EXPECT_EQ(ask("HSET h a 1 b 2"), ":2");
  EXPECT_EQ(ask("HSET h b 3 c 4 c 5"), ":1");
  EXPECT_EQ(ask("HGET h b"), "$1 3");
  EXPECT_EQ(ask("HGET h x"), "$-1");
  EXPECT_EQ(ask("HGET none x"), "$-1");
  EXPECT_EQ(ask("HMGET h a x c"), "*3 $1 1 $-1 $1 5");
  EXPECT_EQ(ask("HLEN h"), ":3");
  EXPECT_EQ(ask("HEXISTS h a"), ":1");
  EXPECT_EQ(elements({"HGETALL", "h"}), (std::vector<std::string>{"1", "3", "5", "a", "b", "c"}));
  EXPECT_EQ(ask("HGETALL none"), "*0");
  EXPECT_EQ(ask("HSET h a"), "-ERR wrong number of arguments for 'hset' command");
  EXPECT_EQ(ask("HDEL h a b x"), ":2");
  EXPECT_EQ(ask("HDEL h c"), ":1");
  EXPECT_EQ(ask("EXISTS h"), ":0");
}

TEST_F(Commands, Lists) {
  EXPECT_EQ(ask("RPUSH l c d"), ":2");
  EXPECT_EQ(ask("LPUSH l b a"), ":4");
  EXPECT_EQ(ask("LRANGE l 0 -1"), "*4 $1 a $1 b $1 c $1 d");
  EXPECT_EQ(ask("LRANGE l -3 2"), "*2 $1 b $1 c");
  EXPECT_EQ(ask("LRANGE l 3 100"), "*1 $1 d");
  EXPECT_EQ(ask("LRANGE l 4 5"), "*0");
  EXPECT_EQ(ask("LRANGE l 2 1"), "*0");
  EXPECT_EQ(ask("LRANGE none 0 -1"), "*0");
  EXPECT_EQ(ask("LLEN l"), ":4");
  EXPECT_EQ(ask("LPOP l"), "$1 a");
  EXPECT_EQ(ask("RPOP l 2"), "*2 $1 d $1 c");
  EXPECT_EQ(ask("LPOP l 0"), "*0");
  EXPECT_EQ(ask("LPOP l -1"), "-ERR value is out of range, must be positive");
  EXPECT_EQ(ask("LPOP l 9"), "*1 $1 b");
  EXPECT_EQ(ask("EXISTS l"), ":0");
  EXPECT_EQ(ask("LPOP l"), "$-1");
  EXPECT_EQ(ask("RPOP l 1"), "*-1");
  EXPECT_EQ(ask("RPOP l 1 1"), "-ERR wrong number of arguments for 'RPOP' command");
}

TEST_F(Commands, Sets) {
  EXPECT_EQ(ask("SADD s a b a"), ":2");
  EXPECT_EQ(ask("SADD s b c"), ":1");
  EXPECT_EQ(ask("SCARD s"), ":3");
  EXPECT_EQ(ask("SISMEMBER s c"), ":1");
  EXPECT_EQ(ask("SISMEMBER s x"), ":0");
  EXPECT_EQ(elements({"SMEMBERS", "s"}), (std::vector<std::string>{"a", "b", "c"}));
  EXPECT_EQ(ask("SREM s a x"), ":1");
  EXPECT_EQ(elements({"SPOP", "s", "5"}), (std::vector<std::string>{"b", "c"}));
  EXPECT_EQ(ask("EXISTS s"), ":0");
  EXPECT_EQ(ask("SPOP s"), "$-1");
  EXPECT_EQ(ask("SPOP s 2"), "*0");
}

TEST_F(Commands, SpopTakesEachMemberOnce) {
  for (int i = 0; i < 200; ++i) ask({"SADD", "s", std::to_string(i)});
  std::set<std::string> seen;
  for (int i = 0; i < 100; ++i) {
    seen.insert(ask("SPOP s"));
  }
  for (const std::string& member : elements({"SPOP", "s", "60"})) seen.insert("$ " + member);
  EXPECT_EQ(seen.size(), 160u);
  EXPECT_EQ(ask("SCARD s"), ":40");
}

TEST_F(Commands, SortedSets) {
  EXPECT_EQ(ask("ZADD z 2 b 1 a 3 c"), ":3");
  EXPECT_EQ(ask("ZADD z 0.5 c 4 d"), ":1");
  EXPECT_EQ(ask("ZRANGE z 0 -1"), "*4 $1 c $1 a $1 b $1 d");
  EXPECT_EQ(ask("ZRANGE z 0 1 WITHSCORES"), "*4 $1 c $3 0.5 $1 a $1 1");
  EXPECT_EQ(ask("ZRANGE z 0 1 WHAT"), "-ERR syntax error");
  EXPECT_EQ(ask("ZSCORE z d"), "$1 4");
  EXPECT_EQ(ask("ZSCORE z x"), "$-1");
  EXPECT_EQ(ask("ZCARD z"), ":4");
  EXPECT_EQ(ask("ZPOPMIN z"), "*2 $1 c $3 0.5");
  EXPECT_EQ(ask("ZREM z a x"), ":1");
  EXPECT_EQ(ask("ZPOPMIN z 5"), "*4 $1 b $1 2 $1 d $1 4");
  EXPECT_EQ(ask("EXISTS z"), ":0");
  EXPECT_EQ(ask("ZPOPMIN z"), "*0");
  EXPECT_EQ(ask("ZADD z +inf a -inf b"), ":2");
  EXPECT_EQ(ask("ZRANGE z 0 -1"), "*2 $1 b $1 a");
  for (const char* bad : {"nan", "x", "1x", ""}) {
    EXPECT_EQ(ask({"ZADD", "z", bad, "a"}), "-ERR value is not a valid float") << bad;
  }
  EXPECT_EQ(ask("ZADD z 1 a 2"), "-ERR syntax error");
}

TEST_F(Commands, EveryCommandRefusesTheOtherTypes) {
  const std::string wrong = "-WRONGTYPE Operation against a key holding the wrong kind of value";
  ask("SET string 1");
  ask("LPUSH list 1");
  const char* on_list[] = {"GET list",       "APPEND list x", "STRLEN list",     "INCR list",    "GETSET list 1",
                           "SET list 1 GET", "GETDEL list",   "HSET list a b",   "HGET list a",  "HGETALL list",
                           "HDEL list a",    "HLEN list",     "HEXISTS list a",  "HMGET list a", "SADD list a",
                           "SREM list a",    "SCARD list",    "SMEMBERS list",   "SPOP list",    "SISMEMBER list a",
                           "ZADD list 1 a",  "ZREM list a",   "ZRANGE list 0 1", "ZPOPMIN list", "ZSCORE list a",
                           "ZCARD list"};
  for (const char* command : on_list) EXPECT_EQ(ask(command), wrong) << command;
  for (const char* command :
       {"LPUSH string a", "RPUSH string a", "LPOP string", "RPOP string 1", "LLEN string", "LRANGE string 0 1"}) {
    EXPECT_EQ(ask(command), wrong) << command;
  }
  EXPECT_EQ(ask("MGET string list"), "*2 $1 1 $-1");
  EXPECT_EQ(ask("LRANGE list 0 -1"), "*1 $1 1");
}

TEST_F(Commands, Connection) {
  EXPECT_EQ(ask("PING"), "+PONG");
  EXPECT_EQ(ask("PING hi"), "$2 hi");
  EXPECT_EQ(ask("PING a b"), "-ERR wrong number of arguments for 'ping' command");
  EXPECT_EQ(ask("ECHO hi"), "$2 hi");
  EXPECT_EQ(ask("SELECT 0"), "+OK");
  EXPECT_EQ(ask("SELECT 1"), "-ERR DB index is out of range");
  EXPECT_EQ(ask("CLIENT ID"), ":7");
  EXPECT_EQ(ask("CLIENT GETNAME"), "$-1");
  EXPECT_EQ(ask("CLIENT KILL x").substr(0, 4), "-ERR");
  EXPECT_EQ(ask("HELLO 3"), "-NOPROTO unsupported protocol version");
  EXPECT_EQ(ask("HELLO 2").substr(0, 28), "*14 $6 server $10 sealift-kv");
  EXPECT_EQ(ask("CONFIG GET save"), "*2 $4 save $0 ");
  EXPECT_EQ(ask("CONFIG GET append* none"), "*2 $10 appendonly $2 no");
  EXPECT_EQ(ask("CONFIG SET save x").substr(0, 4), "-ERR");
  EXPECT_EQ(ask("COMMAND DOCS"), "*0");
  EXPECT_EQ(ask("COMMAND INFO get nope"), "*2 *6 $3 get :2 *1 +readonly :1 :1 :1 *-1");
  EXPECT_EQ(ask("COMMAND").substr(0, 4), "*" + ask("COMMAND COUNT").substr(1) + " ");
  EXPECT_NE(ask("INFO").find("# Memory"), std::string::npos);
  EXPECT_EQ(ask("INFO memory").find("# Server"), std::string::npos);
  const Answer bye = execute(store, 1, "QUIT\r\nSET a 1\r\n");
  EXPECT_EQ(bye.reply, "+OK\r\n");
  EXPECT_TRUE(bye.close);
  EXPECT_EQ(ask("EXISTS a"), ":0");
}

TEST_F(Commands, UnknownCommandsAndWrongCounts) {
  EXPECT_EQ(ask("NOPE 1"), "-ERR unknown command 'NOPE'");
  EXPECT_EQ(ask({"NO\r\n+OK", "1"}), "-ERR unknown command 'NO  +OK'");
  EXPECT_EQ(ask({std::string(500, 'x')}), "-ERR unknown command '" + std::string(64, 'x') + "'");
  EXPECT_EQ(ask("GeT"), "-ERR wrong number of arguments for 'get' command");
  EXPECT_EQ(ask("get a b"), "-ERR wrong number of arguments for 'get' command");
  EXPECT_EQ(ask("DEL"), "-ERR wrong number of arguments for 'del' command");
}

TEST_F(Commands, ThreadsNeverSeeHalfAnMset) {
  std::vector<std::thread> threads;
  std::atomic<int> torn{0};
  const std::string keys[] = {"k0", "k1", "k2", "k3"};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 2000; ++i) {
        const std::string v = std::to_string(t * 10000 + i);
        (void)execute(store, 1, encode({"MSET", keys[0], v, keys[1], v, keys[2], v, keys[3], v}));
        (void)execute(store, 1, encode({"INCR", "n"}));
        const std::string seen = execute(store, 1, encode({"MGET", keys[3], keys[1]})).reply;
        const std::string one = seen.substr(4, (seen.size() - 4) / 2);
        if (seen != "*2\r\n" + one + one) ++torn;
      }
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(torn.load(), 0);
  EXPECT_EQ(ask("GET n"), "$4 8000");
}

}  // namespace
}  // namespace kv

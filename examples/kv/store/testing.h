// A store under a clock that tests move, asked in words.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <initializer_list>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "examples/kv/store/batch.h"

namespace kv::testing {

inline Milliseconds now = 1000;

inline std::string encode(const std::vector<std::string>& words) {
  std::string out = "*" + std::to_string(words.size()) + "\r\n";
  for (const std::string& w : words) out += "$" + std::to_string(w.size()) + "\r\n" + w + "\r\n";
  return out;
}

// "SET key value" as words.
inline std::vector<std::string> words(std::string_view line) {
  std::vector<std::string> out;
  for (std::size_t at = 0; at < line.size();) {
    const std::size_t end = std::min(line.find(' ', at), line.size());
    out.emplace_back(line.substr(at, end - at));
    at = end + 1;
  }
  return out;
}

class StoreTest : public ::testing::Test {
 protected:
  ~StoreTest() override { Memory::set_limit(static_cast<std::size_t>(-1)); }

  // The reply, with every \r\n as one blank.
  std::string ask(const std::vector<std::string>& command) {
    const std::string request = encode(command);
    const Answer answer = execute(store, 7, request);
    EXPECT_EQ(answer.consumed, request.size());
    std::string out;
    for (std::size_t i = 0; i < answer.reply.size(); ++i) {
      if (answer.reply.compare(i, 2, "\r\n") == 0) {
        ++i;
        if (i + 1 < answer.reply.size()) out += ' ';
      } else {
        out += answer.reply[i];
      }
    }
    return out;
  }
  std::string ask(const char* line) { return ask(words(line)); }

  // The bulk strings of a reply, sorted.
  std::vector<std::string> elements(const std::vector<std::string>& command) {
    const std::string reply = execute(store, 7, encode(command)).reply;
    std::vector<std::string> out;
    for (std::size_t at = reply.find('$'); at != std::string::npos;) {
      const std::size_t line = reply.find("\r\n", at);
      const std::size_t size = std::stoul(reply.substr(at + 1, line - at - 1));
      out.push_back(reply.substr(line + 2, size));
      at = reply.find('$', line + 2 + size);
    }
    std::sort(out.begin(), out.end());
    return out;
  }

  // Everything that can be seen of the data.
  std::map<std::string, std::vector<std::string>> contents() {
    std::map<std::string, std::vector<std::string>> all;
    for (const std::string& key : elements({"KEYS", "*"})) {
      const std::string type = ask({"TYPE", key});
      std::vector<std::string>& seen = all[key];
      if (type == "+string") seen = {ask({"GET", key})};
      if (type == "+list") seen = {ask({"LRANGE", key, "0", "-1"})};
      if (type == "+hash") seen = elements({"HGETALL", key});
      if (type == "+set") seen = elements({"SMEMBERS", key});
      if (type == "+zset") seen = {ask({"ZRANGE", key, "0", "-1", "WITHSCORES"}), ask({"ZCARD", key})};
      seen.push_back(type);
      seen.push_back(ask({"PTTL", key}));
    }
    return all;
  }

  Store store{[] { return now; }};
};

}  // namespace kv::testing

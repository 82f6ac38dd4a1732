// The phases of kv-load: load, write, verify.
#pragma once

#include <asio/io_context.hpp>
#include <asio/signal_set.hpp>
#include <asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "examples/kv/load/client.h"
#include "examples/kv/load/ledger.h"

namespace kv::load {

struct Options {
  Servers servers;
  std::uint32_t connections = 4;
  std::uint32_t pipeline = 16;
  std::uint32_t seconds = 0;  // of writing; 0: until a signal
  bool progress = true;       // lines on stderr
};

struct Summary {
  std::uint64_t acknowledged = 0;
  std::uint64_t lost = 0;     // keys that do not hold what was acknowledged
  std::uint64_t refused = 0;  // error replies
  std::uint64_t reconnects = 0;
  std::uint32_t retired_keys = 0;
  double longest_stall_ms = 0;  // in which no connection had an answer, while writing
  double seconds = 0;
  bool gave_up = false;                 // no server for as long as patience lasts
  std::vector<std::string> complaints;  // the first few
  [[nodiscard]] bool good() const { return lost == 0 && refused == 0 && !gave_up; }
};

// One run over a ledger. All in one thread. SIGINT or SIGTERM ends loading and writing.
class Run {
 public:
  Run(const Options& options, Ledger& ledger);

  void load();    // writes every key once
  void write();   // writes on, for as long as the options say
  void verify();  // asks for every key
  [[nodiscard]] Summary summary() const;

 private:
  using Clock = std::chrono::steady_clock;
  struct Write {
    std::uint32_t index;
    std::uint64_t version;
  };

  // Runs one coroutine for each connection to their ends.
  void run_all(std::uint32_t connections, const std::function<asio::awaitable<void>(Client&, std::uint32_t)>& body);
  asio::awaitable<void> load_share(Client& client, std::uint32_t share);
  asio::awaitable<void> write_share(Client& client, std::uint32_t share);
  asio::awaitable<void> verify_all(Client& client);
  // Sends the writes and notes their answers. False: no connection any more, and none to be had.
  asio::awaitable<bool> exchange(Client& client, std::vector<Write> writes);
  asio::awaitable<bool> reconnect(Client& client);
  void check(std::uint32_t index, const Answer& answer);
  void complain(std::string text);
  void note_answer();
  void show_progress();

  const Options& options_;
  Ledger& ledger_;
  asio::io_context io_{1};
  asio::signal_set signals_{io_};
  asio::steady_timer end_{io_}, progress_{io_};
  Clock::time_point writing_since_{}, last_answer_{};
  const char* phase_ = "";
  std::uint32_t running_ = 0;
  bool stopping_ = false, writing_ = false;
  Summary summary_;
};

}  // namespace kv::load

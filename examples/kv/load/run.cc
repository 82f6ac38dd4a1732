#include "examples/kv/load/run.h"

#include <algorithm>
#include <asio/co_spawn.hpp>
#include <csignal>
#include <cstdio>
#include <memory>
#include <random>

namespace kv::load {
namespace {

constexpr std::size_t kComplaints = 10;
constexpr std::uint32_t kVerifyBatch = 200;

std::string bulk(const std::string& text) {
  return "$" + std::to_string(text.size()) + "\r\n" + text + "\r\n";
}

double milliseconds(std::chrono::steady_clock::duration d) {
  return std::chrono::duration<double, std::milli>(d).count();
}

}  // namespace

Run::Run(const Options& options, Ledger& ledger) : options_(options), ledger_(ledger) {
  signals_.add(SIGINT);
  signals_.add(SIGTERM);
  signals_.async_wait([this](std::error_code cancelled, int) {
    if (cancelled) return;
    stopping_ = true;
    signals_.clear();  // a second one ends the program
  });
  show_progress();
}

Summary Run::summary() const {
  Summary s = summary_;
  s.retired_keys = ledger_.retired();
  return s;
}

void Run::run_all(std::uint32_t connections, const std::function<asio::awaitable<void>(Client&, std::uint32_t)>& body) {
  std::vector<std::unique_ptr<Client>> clients;
  running_ = connections;
  for (std::uint32_t i = 0; i < connections; ++i) {
    clients.push_back(std::make_unique<Client>(io_, options_.servers, stopping_));
    asio::co_spawn(io_, body(*clients.back(), i), [this](const std::exception_ptr& failure) {
      if (failure) std::rethrow_exception(failure);
      if (--running_ == 0) io_.stop();
    });
  }
  io_.restart();
  io_.run();
}

void Run::load() {
  phase_ = "loading";
  run_all(options_.connections, [this](Client& c, std::uint32_t i) { return load_share(c, i); });
}

void Run::write() {
  phase_ = "writing";
  if (options_.seconds > 0) {
    end_.expires_after(std::chrono::seconds(options_.seconds));
    end_.async_wait([this](std::error_code cancelled) {
      if (!cancelled) stopping_ = true;
    });
  }
  writing_ = true;
  writing_since_ = last_answer_ = Clock::now();
  run_all(options_.connections, [this](Client& c, std::uint32_t i) { return write_share(c, i); });
  note_answer();
  writing_ = false;
  summary_.seconds = milliseconds(Clock::now() - writing_since_) / 1000;
}

void Run::verify() {
  phase_ = "verifying";
  stopping_ = false;
  run_all(1, [this](Client& c, std::uint32_t) { return verify_all(c); });
}

asio::awaitable<bool> Run::reconnect(Client& client) {
  if (client.connected()) co_return true;
  const bool connected = co_await client.connect();
  if (connected) co_return true;
  if (!stopping_) {
    summary_.gave_up = true;
    complain("no server answers");
  }
  co_return false;
}

asio::awaitable<bool> Run::exchange(Client& client, std::vector<Write> writes) {
  std::string requests;
  for (const Write& w : writes) {
    requests += "*3\r\n$3\r\nSET\r\n" + bulk(Ledger::key(w.index)) + bulk(ledger_.value(w.index, w.version));
  }
  std::size_t answered = 0;
  const auto each = [&](std::size_t i, const Answer& answer) {
    ++answered;
    if (answer.type == '+') {
      ++summary_.acknowledged;
      ledger_.acknowledged(writes[i].index, writes[i].version);
    } else {
      ++summary_.refused;
      complain("the server refused a write: " + answer.text.value_or(""));
    }
    note_answer();
  };
  const bool good = co_await client.exchange(std::move(requests), writes.size(), each);
  if (good) co_return true;
  ++summary_.reconnects;
  for (; answered < writes.size(); ++answered) ledger_.broken(writes[answered].index);
  const bool connected = co_await reconnect(client);
  co_return connected;
}

asio::awaitable<void> Run::load_share(Client& client, std::uint32_t share) {
  bool connected = co_await reconnect(client);
  if (!connected) co_return;
  std::vector<Write> writes;
  for (std::uint32_t i = share; i < ledger_.size() && !stopping_; i += options_.connections) {
    if (const auto version = ledger_.next_version(i)) writes.push_back({i, *version});
    const bool last = ledger_.size() - i <= options_.connections;
    if (writes.size() < options_.pipeline && !last) continue;
    connected = co_await exchange(client, std::move(writes));
    if (!connected) co_return;
    writes.clear();
  }
}

asio::awaitable<void> Run::write_share(Client& client, std::uint32_t share) {
  if (share >= ledger_.size()) co_return;
  bool connected = co_await reconnect(client);
  std::minstd_rand random(share + 1);
  std::uniform_int_distribution<std::uint32_t> pick(0, (ledger_.size() - 1 - share) / options_.connections);
  while (connected && !stopping_) {
    std::vector<Write> writes;
    for (std::uint32_t tries = 0; tries < 20 * options_.pipeline && writes.size() < options_.pipeline; ++tries) {
      const std::uint32_t index = share + pick(random) * options_.connections;
      if (const auto version = ledger_.next_version(index)) writes.push_back({index, *version});
    }
    if (writes.empty()) {
      complain("nearly every key had a write under way when a connection broke: start with more --keys");
      summary_.gave_up = true;
      co_return;
    }
    connected = co_await exchange(client, std::move(writes));
  }
}

asio::awaitable<void> Run::verify_all(Client& client) {
  std::uint32_t from = 0;
  while (from < ledger_.size()) {
    const bool connected = co_await reconnect(client);
    if (!connected) break;
    const std::uint32_t n = std::min(kVerifyBatch, ledger_.size() - from);
    std::string request = "*" + std::to_string(n + 1) + "\r\n$4\r\nMGET\r\n";
    for (std::uint32_t i = 0; i < n; ++i) request += bulk(Ledger::key(from + i));
    std::vector<Answer> answers;
    const auto each = [&](std::size_t, const Answer& answer) { answers.push_back(answer); };
    const bool good = co_await client.exchange(std::move(request), n, each);
    if (!good) continue;  // asks again
    for (std::uint32_t i = 0; i < n; ++i) check(from + i, answers[i]);
    from += n;
  }
  // What cannot be asked for cannot be shown to be there.
  for (; from < ledger_.size(); ++from) summary_.lost += ledger_.written(from) ? 1 : 0;
}

void Run::check(std::uint32_t index, const Answer& answer) {
  const auto wrong = answer.type == '$' ? ledger_.check(index, answer.text) : answer.text.value_or("no value");
  if (!wrong) return;
  ++summary_.lost;
  complain(Ledger::key(index) + ": " + *wrong);
}

void Run::complain(std::string text) {
  auto& all = summary_.complaints;
  if (all.size() < kComplaints && std::find(all.begin(), all.end(), text) == all.end()) all.push_back(std::move(text));
}

void Run::note_answer() {
  if (!writing_) return;
  const auto now = Clock::now();
  summary_.longest_stall_ms = std::max(summary_.longest_stall_ms, milliseconds(now - last_answer_));
  last_answer_ = now;
}

void Run::show_progress() {
  if (!options_.progress) return;
  progress_.expires_after(std::chrono::seconds(1));
  progress_.async_wait([this](std::error_code cancelled) {
    if (cancelled) return;
    std::fprintf(stderr, "kv-load: %s: %llu acknowledged, %llu reconnects\n", phase_,
                 static_cast<unsigned long long>(summary_.acknowledged),
                 static_cast<unsigned long long>(summary_.reconnects));
    show_progress();
  });
}

}  // namespace kv::load

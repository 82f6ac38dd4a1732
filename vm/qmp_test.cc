// QMP: framing; and the client against servers that behave and that do not.
#include <gtest/gtest.h>
#include <stdlib.h>

#include <asio/buffer.hpp>
#include <asio/io_context.hpp>
#include <asio/read_until.hpp>
#include <asio/streambuf.hpp>
#include <asio/write.hpp>
#include <filesystem>
#include <istream>
#include <thread>

#include "vm/qmp_client.h"
#include "vm/qmp_decoder.h"

namespace sealift::vm {
namespace {

using nlohmann::json;

TEST(QmpDecoder, TakesMessagesApartWhereverTheyWereCut) {
  const std::string text = "{\"a\": 1}\r\n\r\n{\"b\": \"x\"}\r\n";
  for (std::size_t cut = 0; cut <= text.size(); ++cut) {
    QmpDecoder decoder;
    json out;
    decoder.append(text.substr(0, cut));
    std::vector<json> seen;
    while (decoder.next(out) == QmpStatus::kMessage) seen.push_back(out);
    decoder.append(text.substr(cut));
    while (decoder.next(out) == QmpStatus::kMessage) seen.push_back(out);
    ASSERT_EQ(seen.size(), 2u) << cut;
    EXPECT_EQ(seen[0]["a"], 1);
    EXPECT_EQ(seen[1]["b"], "x");
  }
}

TEST(QmpDecoder, RefusesForEverWhatIsNoObject) {
  for (const char* line : {"nonsense\n", "[1]\n", "7\n", "{\"a\": \n", "\"text\"\n"}) {
    QmpDecoder decoder;
    json out;
    decoder.append(line);
    EXPECT_EQ(decoder.next(out), QmpStatus::kMalformed) << line;
    decoder.append("{}\n");
    EXPECT_EQ(decoder.next(out), QmpStatus::kMalformed) << line;
  }
}

TEST(QmpDecoder, RefusesALineLongerThanAnyOfQemus) {
  QmpDecoder decoder;
  json out;
  decoder.append(std::string(kMaxQmpLine + 1, ' '));
  EXPECT_EQ(decoder.next(out), QmpStatus::kOversized);
}

// A monitor that says what a test tells it to, one line for each that it gets.
class Monitor {
 public:
  explicit Monitor(std::vector<std::string> answers) : answers_(std::move(answers)) {
    std::string pattern = "/tmp/sealift-qmp-XXXXXX";
    dir_ = ::mkdtemp(pattern.data());
    acceptor_.open();
    acceptor_.bind(asio::local::stream_protocol::endpoint(path()));
    acceptor_.listen();
    thread_ = std::thread([this] { serve(); });
  }
  ~Monitor() {
    thread_.join();
    std::filesystem::remove_all(dir_);
  }
  [[nodiscard]] std::string path() const { return dir_ / "qmp"; }

 private:
  void serve() {
    asio::local::stream_protocol::socket socket(io_);
    acceptor_.accept(socket);
    std::error_code error;
    asio::streambuf lines;
    bool first = true;
    for (const std::string& answer : answers_) {
      if (!std::exchange(first, false)) asio::read_until(socket, lines, '\n', error);
      if (error) return;
      std::istream in(&lines);
      std::string line;
      std::getline(in, line);
      asio::write(socket, asio::buffer(answer), error);
    }
    // "": the answer that never comes. Whoever waits for it goes first.
    if (!answers_.empty() && answers_.back().empty()) asio::read_until(socket, lines, "never", error);
  }

  std::vector<std::string> answers_;
  std::filesystem::path dir_;
  asio::io_context io_;
  asio::local::stream_protocol::acceptor acceptor_{io_};
  std::thread thread_;
};

constexpr const char* kGreeting = "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n";
constexpr std::chrono::milliseconds kPatience{2'000};

struct Talk {
  asio::io_context io;  // first: the client's timer is one of its own
  QmpClient::Connected connected;
  QmpReply reply;
  std::vector<std::string> events;
  std::string down;
};

std::unique_ptr<Talk> talk(const std::string& path, std::chrono::milliseconds patience = kPatience) {
  auto talked = std::make_unique<Talk>();
  Talk& out = *talked;
  QmpClient::Callbacks callbacks;
  callbacks.on_event = [&](const std::string& name, const json&) { out.events.push_back(name); };
  callbacks.on_down = [&](const std::string& why) { out.down = why; };
  QmpClient::connect(out.io, path, patience, callbacks, [&](const QmpClient::Connected& connected) {
    out.connected = connected;
    if (!connected.client) return;
    connected.client->execute({"query-status"}, [&](const QmpReply& reply) {
      out.reply = reply;
      if (reply.error != QmpReply::Error::kLost) out.connected.client->close();
    });
  });
  out.io.run();
  return talked;
}

TEST(QmpClient, GreetsAsksAndHearsEvents) {
  Monitor monitor({kGreeting, "{\"return\": {}, \"id\": 1}\n",
                   "{\"event\": \"STOP\", \"timestamp\": {}}\n{\"return\": {\"status\": \"paused\"}, \"id\": 2}\n"});
  const auto talked = talk(monitor.path());
  EXPECT_TRUE(talked->reply.ok()) << talked->reply.text;
  EXPECT_EQ(talked->reply.value["status"], "paused");
  EXPECT_EQ(talked->events, std::vector<std::string>{"STOP"});
  EXPECT_EQ(talked->down, "");
}

TEST(QmpClient, HandsQemusErrorOn) {
  Monitor monitor({kGreeting, "{\"return\": {}, \"id\": 1}\n",
                   "{\"error\": {\"class\": \"GenericError\", \"desc\": \"not now\"}, \"id\": 2}\n"});
  const auto talked = talk(monitor.path());
  EXPECT_EQ(talked->reply.error, QmpReply::Error::kRefused);
  EXPECT_EQ(talked->reply.text, "not now");
}

TEST(QmpClient, AMonitorClosedMidwayIsALostOneAndSaysSoOnce) {
  Monitor monitor({kGreeting, "{\"return\": {}, \"id\": 1}\n"});
  const auto talked = talk(monitor.path());
  EXPECT_EQ(talked->reply.error, QmpReply::Error::kLost);
  EXPECT_NE(talked->down, "");
}

TEST(QmpClient, NobodyThereIsAGoneQemu) {
  const auto talked = talk("/tmp/sealift-no-such-monitor");
  EXPECT_EQ(talked->connected.client, nullptr);
  EXPECT_TRUE(talked->connected.gone);
  EXPECT_NE(talked->connected.problem.advice.find("-qmp"), std::string::npos);
}

TEST(QmpClient, AMonitorThatDoesNotGreetIsHeldByAnother) {
  Monitor monitor({""});
  const auto talked = talk(monitor.path(), std::chrono::milliseconds(50));
  EXPECT_EQ(talked->connected.client, nullptr);
  EXPECT_FALSE(talked->connected.gone);
  EXPECT_EQ(talked->connected.problem.what, "QEMU's monitor does not greet");
}

TEST(QmpClient, AQemuThatDoesNotAnswerInTimeIsLost) {
  Monitor monitor({kGreeting, "{\"return\": {}, \"id\": 1}\n", ""});
  const auto talked = talk(monitor.path(), std::chrono::milliseconds(1000));
  EXPECT_EQ(talked->reply.error, QmpReply::Error::kLost);
  EXPECT_EQ(talked->down, "no answer to query-status");
}

TEST(QmpClient, EndsAConversationThatIsNotQmp) {
  for (const char* nonsense : {"hello\n", "{\"hello\": 1}\n"}) {
    Monitor monitor({nonsense});
    EXPECT_EQ(talk(monitor.path())->connected.client, nullptr) << nonsense;
  }
  for (const char* nonsense : {"{\"return\": {}, \"id\": 77}\n", "{\"return\": {}}\n", "]\n"}) {
    Monitor monitor({kGreeting, "{\"return\": {}, \"id\": 1}\n", nonsense});
    const auto talked = talk(monitor.path());
    EXPECT_EQ(talked->reply.error, QmpReply::Error::kLost) << nonsense;
  }
}

}  // namespace
}  // namespace sealift::vm

// The link alone, and against a daemon that the test plays. Whole migrations: daemon/testing.
#include "host/link/daemon_link.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <asio/io_context.hpp>
#include <asio/local/stream_protocol.hpp>
#include <asio/steady_timer.hpp>
#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <mutex>
#include <optional>

#include "daemon/connection.h"
#include "daemon/endpoint.h"

namespace sealift::host {
namespace {

using namespace std::chrono_literals;

class RecordingPort final : public ControlPort {
 public:
  Errc control(abi::ControlOp op, std::span<const std::byte>, std::vector<std::byte>& out) override {
    out.assign(3, std::byte{7});
    note("control " + std::to_string(static_cast<unsigned>(op)));
    return op == abi::ControlOp::kDump ? dump_result.load() : Errc::kOk;
  }
  Errc quiesce(std::chrono::milliseconds budget) override {
    note("quiesce " + std::to_string(budget.count()));
    return Errc::kOk;
  }
  void resumed() override { note("resumed"); }
  void destroyed() override { note("destroyed"); }
  void abandoned(Errc why) override { note(std::string("abandoned ") + errc_name(why)); }
  Errc status(abi::Status& out) override {
    out = abi::Status{};
    out.epoch = 9;
    return Errc::kOk;
  }
  void wait_for(const std::string& what) {
    std::unique_lock lock(mutex_);
    const bool came = changed_.wait_for(lock, 60s, [&] { return !calls_.empty() && calls_.back() == what; });
    EXPECT_TRUE(came) << what << " did not come; last: " << (calls_.empty() ? "nothing" : calls_.back());
  }
  std::atomic<Errc> dump_result = Errc::kOk;

 private:
  void note(const std::string& what) {
    const std::lock_guard lock(mutex_);
    calls_.push_back(what);
    changed_.notify_all();
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> calls_;
};

EnclaveInfo info(const std::string& name) {
  EnclaveInfo out;
  out.name = name;
  out.program = this_program();
  return out;
}

class LinkTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = "/tmp/sealift-link-XXXXXX";
    dir_ = ::mkdtemp(pattern.data());
    options_.socket = dir_ / "d.sock";
    options_.first_retry = 1ms;
    options_.last_retry = 10ms;
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }

  // The daemon's side: accepts one connection and collects what comes.
  void serve() {
    acceptor_.emplace(daemon::listen_unix(io_, options_.socket));
    accept();
  }
  void accept() {
    acceptor_->async_accept([this](const std::error_code& error, asio::local::stream_protocol::socket socket) {
      if (error) return;
      daemon::Connection::Callbacks callbacks;
      callbacks.on_message = [this](wire::Envelope& message) { messages_.push_back(message); };
      callbacks.on_down = [this](const std::string&) { ++lost_; };
      wire::Hello hello;
      hello.set_role(wire::PEER_ROLE_DAEMON);
      connection_ = daemon::Connection::start(daemon::Connection::Socket(std::move(socket)), hello, callbacks);
      accept();
    });
  }
  void run_until(const std::function<bool()>& done) {
    while (!done()) ASSERT_NE(io_.run_one_for(60s), 0u) << "nothing happens any more";
  }
  void wait_registered() {
    const std::size_t before = registrations();
    run_until([&] { return registrations() > before; });
  }
  [[nodiscard]] std::size_t registrations() const {
    return static_cast<std::size_t>(
        std::count_if(messages_.begin(), messages_.end(), [](const auto& m) { return m.has_register_(); }));
  }
  wire::Envelope ask(wire::Envelope request) {
    std::optional<wire::Envelope> reply;
    connection_->request(std::move(request), [&](const wire::Envelope& got) { reply = got; });
    run_until([&] { return reply.has_value(); });
    return *reply;
  }
  wire::ControlResult control(abi::ControlOp op) {
    wire::Envelope request;
    request.mutable_control()->set_local_id(1);
    request.mutable_control()->set_op(static_cast<std::uint32_t>(op));
    return ask(request).control_result();
  }
  void lose_the_daemon() {
    acceptor_.reset();
    connection_->close("test");
    run_until([&] { return lost_ > 0; });
  }

  std::filesystem::path dir_;
  DaemonLink::Options options_;
  asio::io_context io_;
  std::optional<asio::local::stream_protocol::acceptor> acceptor_;
  std::shared_ptr<daemon::Connection> connection_;
  std::vector<wire::Envelope> messages_;
  int lost_ = 0;
};

TEST_F(LinkTest, EverythingWorksWithoutADaemon) {
  RecordingPort port;
  DaemonLink link(options_);
  const auto id = link.add(info("app"), port);
  link.updated(id);
  EXPECT_FALSE(link.connected());
  link.remove(id);
  link.remove(12345);
}

TEST_F(LinkTest, AdoptionWithoutADaemonTimesOut) {
  DaemonLink link(options_);
  EXPECT_EQ(link.adopt("token", 20ms).error(), Errc::kNoSession);
  link.adopt_failed("token", Errc::kCrashed, "text");
}

TEST_F(LinkTest, RegistersWhenTheDaemonComes) {
  RecordingPort port;
  DaemonLink link(options_);
  link.add(info("app"), port);
  serve();
  wait_registered();
  const wire::Register& seen = messages_[0].register_();
  EXPECT_EQ(seen.name(), "app");
  EXPECT_EQ(seen.program().exe(), std::filesystem::read_symlink("/proc/self/exe").string());
  ASSERT_EQ(seen.status().size(), sizeof(abi::Status));
}

TEST_F(LinkTest, RegistersAgainWithTheNextDaemon) {
  RecordingPort port;
  DaemonLink link(options_);
  link.add(info("app"), port);
  serve();
  wait_registered();
  lose_the_daemon();
  serve();
  wait_registered();
  EXPECT_EQ(registrations(), 2u);
}

TEST_F(LinkTest, ControlReachesThePortAndStatusNeedsNoWorker) {
  RecordingPort port;
  DaemonLink link(options_);
  link.add(info("app"), port);
  serve();
  wait_registered();
  EXPECT_EQ(control(abi::ControlOp::kAgentHello).output().size(), 3u);
  port.wait_for("control 4");
  EXPECT_EQ(control(abi::ControlOp::kStatus).output().size(), sizeof(abi::Status));
  wire::Envelope quiesce;
  quiesce.mutable_quiesce()->set_local_id(1);
  quiesce.mutable_quiesce()->set_budget_ms(123);
  EXPECT_EQ(ask(quiesce).control_result().errc(), 0u);
  port.wait_for("quiesce 123");
}

TEST_F(LinkTest, UnknownEnclavesAreSaidSo) {
  DaemonLink link(options_);
  serve();
  run_until([this] { return connection_ && connection_->up(); });
  wire::Envelope request;
  request.mutable_control()->set_local_id(77);
  EXPECT_EQ(ask(request).failure().kind(), wire::Failure::NOT_FOUND);
}

TEST_F(LinkTest, ADumpStopsAtTheWindowAndGoesOnWithCredit) {
  RecordingPort port;
  DaemonLink link(options_);
  link.add(info("app"), port);
  serve();
  wait_registered();
  wire::Envelope begin;
  begin.mutable_dump_begin()->set_local_id(1);
  begin.mutable_dump_begin()->set_window(4);
  connection_->notify(begin);
  const auto records = [this] {
    return std::count_if(messages_.begin(), messages_.end(), [](const auto& m) { return m.has_record(); });
  };
  run_until([&] { return records() == 4; });
  // A round trip later there is still no fifth.
  (void)control(abi::ControlOp::kStatus);
  EXPECT_EQ(records(), 4);
  wire::Envelope taken;
  taken.mutable_records_taken()->set_local_id(1);
  taken.mutable_records_taken()->set_count(3);
  connection_->notify(taken);
  run_until([&] { return records() == 7; });
  EXPECT_EQ(control(abi::ControlOp::kCancel).errc(), 0u) << "the dump that waits gives way";
  port.wait_for("resumed");
}

TEST_F(LinkTest, AFailedDumpEndsWithItsError) {
  RecordingPort port;
  port.dump_result = Errc::kNotQuiescent;
  DaemonLink link(options_);
  link.add(info("app"), port);
  serve();
  wait_registered();
  wire::Envelope begin;
  begin.mutable_dump_begin()->set_local_id(1);
  begin.mutable_dump_begin()->set_window(4);
  connection_->notify(begin);
  run_until([this] { return !messages_.empty() && messages_.back().has_dump_end(); });
  EXPECT_EQ(messages_.back().dump_end().errc(), static_cast<std::uint32_t>(Errc::kNotQuiescent));
}

TEST_F(LinkTest, ASourceThatLosesItsDaemonCancels) {
  RecordingPort port;
  DaemonLink link(options_);
  link.add(info("app"), port);
  serve();
  wait_registered();
  (void)control(abi::ControlOp::kAgentHello);
  lose_the_daemon();
  port.wait_for("resumed");
}

TEST_F(LinkTest, ACommittedSourceWaitsForTheNextDaemon) {
  RecordingPort port;
  DaemonLink link(options_);
  link.add(info("app"), port);
  serve();
  wait_registered();
  (void)control(abi::ControlOp::kAgentHello);
  (void)control(abi::ControlOp::kCommit);
  lose_the_daemon();
  serve();
  wait_registered();
  EXPECT_EQ(messages_.back().register_().enclave_hello().size(), 3u) << "so that the agent's session is found again";
  EXPECT_EQ(control(abi::ControlOp::kTicketAgain).errc(), 0u);
  port.wait_for("control 14");
}

TEST_F(LinkTest, ATargetThatIsNotRestoredIsAbandoned) {
  RecordingPort port;
  DaemonLink link(options_);
  link.add(info("app"), port, "token");
  serve();
  wait_registered();
  EXPECT_EQ(messages_.back().register_().adopt_token(), "token");
  lose_the_daemon();
  port.wait_for("abandoned no session with an agent");
}

TEST_F(LinkTest, ARestoredTargetWaits) {
  RecordingPort port;
  DaemonLink link(options_);
  link.add(info("app"), port, "token");
  serve();
  wait_registered();
  (void)control(abi::ControlOp::kReady);
  lose_the_daemon();
  serve();
  wait_registered();
  EXPECT_EQ(messages_.back().register_().adopt_token(), "token");
  (void)control(abi::ControlOp::kGrant);
  port.wait_for("resumed");
}

TEST_F(LinkTest, ReleasesAreTold) {
  RecordingPort port;
  DaemonLink link(options_);
  link.add(info("app"), port);
  serve();
  wait_registered();
  wire::Envelope release;
  release.mutable_release()->set_local_id(1);
  release.mutable_release()->set_destroyed(true);
  connection_->notify(release);
  // Sent, at least; the port hears it on its own thread.
  (void)control(abi::ControlOp::kStatus);
  port.wait_for("destroyed");
}

}  // namespace
}  // namespace sealift::host

// A guest's broker that is not what it says, against a real sealiftd and an agent with the real agent's logic. On real
// VMs: tests/vm/hostile_broker_test.cc.
#include <algorithm>
#include <asio/io_context.hpp>

#include "daemon/endpoint.h"
#include "daemon/guest_channel.h"
#include "daemon/testing/cluster.h"
#include "trusted/agent/testing/enclave.h"

namespace sealift::daemon::testing {
namespace {

constexpr std::chrono::seconds kPatience{30};

// Says what it is told to; everything happens in until().
class FakeBroker {
 public:
  FakeBroker(const std::string& socket, std::string name) : name_(std::move(name)) {
    connect_channel(io_, socket, [this](const std::error_code& error, Connection::Socket stream) {
      if (error) return;
      GuestChannel::Callbacks callbacks;
      callbacks.on_session = [this](Connection::Socket session) { begin(std::move(session)); };
      channel_ = GuestChannel::start(io_, stream.release(), GuestChannel::Side::kGuest, false, std::move(callbacks));
    });
  }
  ~FakeBroker() {
    if (host_) host_->close("the test ends");
    if (channel_) channel_->close();
    io_.run_for(std::chrono::milliseconds(100));
  }
  template <typename Condition>
  [[nodiscard]] bool until(Condition condition) {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (!condition() && std::chrono::steady_clock::now() < deadline) {
      io_.restart();
      io_.run_one_for(std::chrono::milliseconds(5));
    }
    return condition();
  }
  wire::Envelope ask(wire::Envelope message) {
    std::optional<wire::Envelope> answer;
    host_->request(std::move(message), [&](const wire::Envelope& reply) { answer = reply; });
    EXPECT_TRUE(until([&] { return answer.has_value(); }));
    return answer.value_or(wire::Envelope());
  }
  void hang_up() {
    host_->close("another session");
    EXPECT_TRUE(until([this, before = sessions] { return sessions > before && !agent_hello.empty(); }));
  }

  int sessions = 0, ended = 0;
  std::string agent_hello;

 private:
  void begin(Connection::Socket socket) {
    ++sessions;
    agent_hello.clear();
    wire::Hello hello;
    hello.set_role(wire::PEER_ROLE_GUEST);
    hello.set_name(name_);
    Connection::Callbacks callbacks;
    callbacks.on_up = [this](const wire::Hello&) {
      wire::Envelope message;
      message.mutable_guest_report()->set_whole(true);
      wire::GuestRow& row = *message.mutable_guest_report()->add_rows();
      row.set_id(1);
      row.set_name("of " + name_);
      host_->notify(std::move(message));
    };
    callbacks.on_message = [this](wire::Envelope& message) {
      if (message.has_agent_info()) agent_hello = message.agent_info().hello();
    };
    callbacks.on_down = [this](const std::string&) { ++ended; };
    host_ = Connection::start(std::move(socket), hello, std::move(callbacks));
  }

  const std::string name_;
  asio::io_context io_;
  std::shared_ptr<GuestChannel> channel_;
  std::shared_ptr<Connection> host_;
};

class GuestsOfOneHost : public Cluster {
 protected:
  void SetUp() override {
    Cluster::SetUp();
    kill(a_.daemon);
    // Nobody serves web's channel: its broker is away.
    start_daemon(a_, {"--guest-listen", guests(), "--guest-channel", "web=" + (a_.dir / "web.sock").string()});
  }
  [[nodiscard]] std::string guests() const { return a_.dir / "guests.sock"; }
  [[nodiscard]] std::size_t known(const std::string& name) {
    wire::Envelope request;
    request.mutable_ps_request();
    const wire::PsReply all = call(a_, request).ps_reply();
    return static_cast<std::size_t>(std::count_if(all.enclaves().begin(), all.enclaves().end(),
                                                  [&](const auto& each) { return each.guest() == name; }));
  }
};

TEST_F(GuestsOfOneHost, NobodyTakesTheNameOfAnAttachedGuest) {
  FakeBroker other(guests(), "other");
  EXPECT_TRUE(other.until([&] { return known("other") == 1; }));
  FakeBroker liar(guests(), "web");
  EXPECT_TRUE(liar.until([&] { return liar.ended > 0; })) << "it was not refused";
  EXPECT_EQ(known("web"), 0u);
  FakeBroker odd(guests(), "two\nlines");
  EXPECT_TRUE(odd.until([&] { return odd.ended > 0; })) << "it was not refused";
}

// The agent has sessions for all of its machine: what a guest leaves open counts, however often it comes anew.
TEST_F(GuestsOfOneHost, SessionsWithTheAgentAreCountedOverReconnects) {
  const agent::testing::TestCpu cpu('a');  // host a's
  FakeBroker guest(guests(), "greedy");
  ASSERT_TRUE(guest.until([&] { return !guest.agent_hello.empty(); }));
  const auto hello = [&](std::uint32_t number) {
    agent::Attempt attempt{};
    attempt.fill(1);
    std::memcpy(attempt.data(), &number, sizeof number);
    agent::testing::TestEnclave enclave(cpu, agent::testing::TestEnclave::Role::kSource, attempt, 7);
    const agent::Bytes bytes = enclave.hello(agent::Bytes(guest.agent_hello.begin(), guest.agent_hello.end()));
    wire::Envelope message;
    message.mutable_agent_local_hello()->set_hello(std::string(bytes.begin(), bytes.end()));
    return guest.ask(std::move(message));
  };
  constexpr std::uint32_t kRounds = 4, kEach = 400;  // more than 1024 together
  std::vector<std::uint64_t> ids;
  for (std::uint32_t i = 0; i < kRounds * kEach; ++i) {
    if (i > 0 && i % kEach == 0) guest.hang_up();
    const wire::Envelope reply = hello(i);
    ASSERT_EQ(reply.agent_local_session().errc(), 0u) << i;
    ids.push_back(reply.agent_local_session().session());
  }
  // The last ones are taken up again; the first ones were closed, and stay so.
  guest.hang_up();
  EXPECT_EQ(hello(kRounds * kEach - 1).agent_local_session().session(), ids.back());
  EXPECT_EQ(static_cast<Errc>(hello(0).agent_local_session().errc()), Errc::kNoSession);
}

}  // namespace
}  // namespace sealift::daemon::testing

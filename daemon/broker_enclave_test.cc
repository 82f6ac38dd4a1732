// A BrokerEnclave between a program and an agent that are played here. What is asked of it overlaps, as it does when a
// host gives a move up: the enclave's answer to the commit comes while it is being resumed.
#include "daemon/broker_enclave.h"

#include <gtest/gtest.h>

#include <asio/io_context.hpp>
#include <asio/local/connect_pair.hpp>
#include <asio/local/stream_protocol.hpp>
#include <asio/post.hpp>
#include <chrono>
#include <cstring>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "migration/messages.h"

namespace sealift::daemon {
namespace {

using Row = wire::GuestRow;

// As the agent enclave does it: a hello's session stays the same until it is closed, and then there is none for it.
class PlayedHost final : public BrokerEnclave::Host {
 public:
  explicit PlayedHost(asio::io_context& io) : io_(io) {}
  void agent_request(wire::Envelope message, Connection::ReplyHandler on_reply) override {
    wire::Envelope reply;
    if (!there) {
      reply.mutable_failure()->set_what("no channel");
    } else if (message.has_agent_local_hello()) {
      const std::string& hello = message.agent_local_hello().hello();
      const std::uint64_t session = sessions_.try_emplace(hello, sessions_.size() + 1).first->second;
      const Errc error = closed_.contains(session) ? Errc::kNoSession : Errc::kOk;
      reply.mutable_agent_local_session()->set_errc(static_cast<std::uint32_t>(error));
      reply.mutable_agent_local_session()->set_session(session);
    } else {
      const Errc error = answer(message, *reply.mutable_agent_result()->mutable_sealed());
      reply.mutable_agent_result()->set_errc(static_cast<std::uint32_t>(error));
    }
    asio::post(io_, [reply, on_reply] { on_reply(reply); });
  }
  void agent_notify(wire::Envelope message) override {
    if (message.has_agent_local_close()) closed_.insert(message.agent_local_close().session());
  }
  std::string agent_hello() const override { return there ? "agent" : ""; }
  void enclave_changed(BrokerEnclave&) override {}
  void want_turn(BrokerEnclave& enclave) override {
    asio::post(io_, [&enclave] { enclave.have_turn(); });
  }
  void turn_over() override {}

  bool there = true, another_was_granted = false;
  int tickets = 0;

 private:
  Errc answer(const wire::Envelope& message, std::string& sealed) {
    if (message.has_agent_request_grant() && another_was_granted) return Errc::kAlreadyGranted;
    if (message.has_agent_request_grant()) return tickets == 0 ? Errc::kNoTicket : Errc::kOk;
    if (message.has_agent_local_poll()) sealed = "grant";
    if (!message.has_agent_local_message()) return Errc::kOk;
    if (closed_.contains(message.agent_local_message().session())) return Errc::kNoSession;
    if (message.agent_local_message().sealed() == "ticket") ++tickets;
    if (message.agent_local_message().sealed() == "key?") sealed = "key";
    return Errc::kOk;
  }
  asio::io_context& io_;
  std::map<std::string, std::uint64_t> sessions_;
  std::set<std::uint64_t> closed_;
};

class BrokerEnclaveTest : public ::testing::Test {
 protected:
  void SetUp() override {
    asio::local::stream_protocol::socket near(io_), far(io_);
    asio::local::connect_pair(near, far);
    auto connection = start(std::move(near), {});
    program_ = start(std::move(far), [this](wire::Envelope& message) { play_program(message); });
    until([&] { return connection->up() && program_->up(); });
    wire::Register registration;
    registration.set_local_id(1);
    enclave_ = std::make_shared<BrokerEnclave>(io_, host_, 1, std::make_shared<Enclave>(connection, registration, 1));
  }

  std::shared_ptr<Connection> start(asio::local::stream_protocol::socket socket,
                                    std::function<void(wire::Envelope&)> on_message) {
    wire::Hello hello;
    hello.set_role(wire::PEER_ROLE_PROCESS);
    Connection::Callbacks callbacks;
    callbacks.on_up = [](const wire::Hello&) {};
    callbacks.on_message = std::move(on_message);
    callbacks.on_down = [](const std::string&) {};
    return Connection::start(Connection::Socket(std::move(socket)), hello, std::move(callbacks));
  }

  void until(const std::function<bool()>& condition) {
    const auto patience = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!condition() && std::chrono::steady_clock::now() < patience) {
      io_.restart();
      io_.run_one_for(std::chrono::milliseconds(20));
    }
    ASSERT_TRUE(condition());
  }
  void until_state(Row::State state) {
    until([&] { return enclave_->state() == state; });
  }

  // To where only the answer to the commit is missing.
  void commit() {
    enclave_->prepare([](Errc) {});
    until_state(Row::PREPARED);
    enclave_->hold(1000, [](Errc) {});
    until_state(Row::HELD);
    enclave_->commit([](Errc) {});
    until([&] { return commit_.has_value(); });
    EXPECT_EQ(enclave_->state(), Row::UNTICKETED);
  }
  void answer_commit(Errc error) {
    committed_ = error == Errc::kOk;
    result(*commit_, error, committed_ ? "ticket" : "");
  }

  void play_program(const wire::Envelope& message) {
    if (message.has_hold()) {
      wire::Envelope held;
      held.mutable_held();
      return program_->reply(message.id(), held);
    }
    if (message.has_rebuild()) {
      ++rebuilds_;
      rebuilt_ = committed_;
      return result(message.id(), committed_ ? Errc::kOk : Errc::kNotReady);
    }
    if (message.has_release()) {
      released_ = static_cast<Errc>(message.release().errc());
      return;
    }
    if (message.has_refill()) return result(message.id(), Errc::kOk);
    const auto op = static_cast<abi::ControlOp>(message.control().op());
    if (op == abi::ControlOp::kCommitHeld) {
      commit_ = message.id();
    } else if (op == abi::ControlOp::kAgentHello) {
      std::string hello(sizeof(messages::EnclaveHello), rebuilt_ ? 't' : 's');
      hello.replace(offsetof(messages::EnclaveHello, attempt), sizeof(messages::EnclaveHello::attempt), 16, 'a');
      result(message.id(), Errc::kOk, hello);
    } else if (op == abi::ControlOp::kAgentConfirm) {
      result(message.id(), Errc::kOk, rebuilt_ ? "key?" : "attempt");
    } else if (op == abi::ControlOp::kStatus) {
      result(message.id(), memory_, status());
    } else {
      granted_ = granted_ || op == abi::ControlOp::kGrant;
      cancelled_ = cancelled_ || op == abi::ControlOp::kCancel;
      result(message.id(), Errc::kOk);
    }
  }
  std::string status() const {
    abi::Status status{};
    const abi::GateState closed = committed_ ? abi::GateState::kDestroyed : abi::GateState::kQuiescing;
    status.gate = static_cast<std::uint32_t>(granted_ ? abi::GateState::kOpen : closed);
    return {reinterpret_cast<const char*>(&status), sizeof status};
  }
  void result(std::uint64_t id, Errc error, const std::string& output = "") {
    wire::Envelope reply;
    reply.mutable_control_result()->set_errc(static_cast<std::uint32_t>(error));
    reply.mutable_control_result()->set_output(output);
    program_->reply(id, reply);
  }

  asio::io_context io_;
  PlayedHost host_{io_};
  std::shared_ptr<Connection> program_;
  std::shared_ptr<BrokerEnclave> enclave_;
  std::optional<std::uint64_t> commit_;  // the request that is not answered yet
  bool committed_ = false, rebuilt_ = false, granted_ = false, cancelled_ = false;
  int rebuilds_ = 0;
  Errc memory_ = Errc::kOk;    // what a look at the enclave is answered
  Errc released_ = Errc::kOk;  // what the program was told when its enclave was given up
};

TEST_F(BrokerEnclaveTest, ACommitIsTicketedAndGranted) {
  commit();
  answer_commit(Errc::kOk);
  until_state(Row::COMMITTED);
  enclave_->resume([](Errc) {});
  until_state(Row::RUNNING);
  EXPECT_EQ(host_.tickets, 1);
}

// The session with the agent is the ticket's only way, and is not closed before.
TEST_F(BrokerEnclaveTest, ACommitThatIsAnsweredDuringTheResumeIsTicketed) {
  commit();
  enclave_->resume([](Errc) {});
  until([&] { return rebuilds_ > 0; });
  EXPECT_EQ(enclave_->state(), Row::RESUMING);
  answer_commit(Errc::kOk);
  until_state(Row::RUNNING);
  EXPECT_EQ(host_.tickets, 1);
}

TEST_F(BrokerEnclaveTest, ACommitThatIsRefusedDuringTheResumeLetsItGoOn) {
  commit();
  enclave_->resume([](Errc) {});
  until([&] { return rebuilds_ > 0; });
  answer_commit(Errc::kNotReady);
  until_state(Row::RUNNING);
  EXPECT_TRUE(cancelled_);
  EXPECT_EQ(host_.tickets, 0);
}

TEST_F(BrokerEnclaveTest, WithoutAHostNothingIsRebuiltUntilThereIsOne) {
  commit();
  host_.there = false;
  enclave_->channel_lost();
  enclave_->resume([](Errc) {});
  answer_commit(Errc::kOk);
  bool answered = false;
  enclave_->look_for_loss([&] { answered = true; });  // behind it, on the same way
  until([&] { return answered; });
  EXPECT_EQ(rebuilds_, 0);
  host_.there = true;
  enclave_->channel_up();
  until_state(Row::RUNNING);
  EXPECT_EQ(host_.tickets, 1);
}

// Whoever calls it waits as long as it might come back.
TEST_F(BrokerEnclaveTest, AProgramIsToldThatItsEnclaveIsLost) {
  commit();
  answer_commit(Errc::kOk);
  until_state(Row::COMMITTED);
  host_.another_was_granted = true;
  enclave_->resume([](Errc) {});
  until_state(Row::LOST);
  until([&] { return released_ != Errc::kOk; });
  EXPECT_EQ(released_, Errc::kAlreadyGranted);
}

// The program has nothing to rebuild it from any more: it was granted, and the answer was lost with the channel.
TEST_F(BrokerEnclaveTest, MemoryThatGoesAfterTheGrantIsLost) {
  commit();
  answer_commit(Errc::kOk);
  until_state(Row::COMMITTED);
  memory_ = Errc::kEpcLost;
  committed_ = false;
  enclave_->resume([](Errc) {});
  until_state(Row::LOST);
}

// Its ticket can still be given: not 'committed', which says that an agent has it.
TEST_F(BrokerEnclaveTest, AResumeThatIsGivenUpWithoutATicketSaysSo) {
  commit();
  enclave_->resume([](Errc) {});
  until([&] { return rebuilds_ > 0; });
  enclave_->give_up();
  EXPECT_EQ(enclave_->state(), Row::UNTICKETED);
  answer_commit(Errc::kOk);
  until_state(Row::COMMITTED);
  EXPECT_EQ(host_.tickets, 1);
}

}  // namespace
}  // namespace sealift::daemon

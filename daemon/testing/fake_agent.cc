// An agent process for tests: the real agent's logic (class Agent) behind the real AgentServer, on a CPU of the tests'
// and with links that prove nothing. Arguments: folder, socket, machine letter, instance number.
#include <asio/io_context.hpp>
#include <iostream>
#include <string>

#include "daemon/agent_server.h"
#include "daemon/testing/stage.h"
#include "trusted/agent/testing/wire.h"

namespace {

using sealift::Errc;
using sealift::Result;
using sealift::daemon::AgentPort;
using sealift::daemon::Bytes;
using sealift::daemon::ByteView;
using Attempt = std::array<std::uint8_t, 16>;

class Port final : public AgentPort {
 public:
  Port(std::uint8_t machine, std::uint8_t instance, const sealift::daemon::testing::Stage& stage)
      : cpu_(machine), agent_(cpu_, instance), stage_(stage), instance_(instance) {}

  Info info() override { return {agent_->hello(), Bytes(32, instance_), Bytes(32, 0xa9), Bytes(32, 0x51), true}; }
  Result<LocalReply> local_hello(ByteView hello) override {
    stage_.reach("hello");
    const auto reply = agent_->local_hello(hello);
    if (!reply.ok()) return reply.error();
    return LocalReply{reply->session, reply->confirm};
  }
  Result<Bytes> local_message(std::uint64_t session, ByteView sealed) override {
    sealift::messages::SealedHeader header{};
    if (sealed.size() >= sizeof(header)) std::memcpy(&header, sealed.data(), sizeof(header));
    const std::string step = "message" + std::to_string(header.kind);
    stage_.reach(step);
    auto reply = agent_->local_message(session, sealed);
    stage_.reach(step + "-done");
    return reply;
  }
  Result<Bytes> local_poll(std::uint64_t session) override { return agent_->local_poll(session); }
  void local_close(std::uint64_t session) override { agent_->local_close(session); }
  Result<std::uint64_t> link_open(bool is_server) override { return agent_->link_open(is_server); }
  Errc link_feed(std::uint64_t link, ByteView bytes) override { return agent_->link_feed(link, bytes); }
  Result<Bytes> link_take(std::uint64_t link) override { return agent_->link_take(link); }
  Result<LinkStatus> link_state(std::uint64_t link) override {
    const auto status = agent_->link_state(link);
    if (!status.ok()) return status.error();
    return LinkStatus{static_cast<std::uint32_t>(status->phase), status->error, status->verdict_expires};
  }
  void link_close(std::uint64_t link) override { agent_->link_close(link); }
  Errc offer(const Attempt& attempt, std::uint64_t link) override {
    stage_.reach("offer");
    return agent_->offer(attempt, link);
  }
  Errc cancel(const Attempt& attempt) override { return agent_->cancel(attempt); }
  Errc announce(std::uint64_t session, std::uint64_t link) override { return agent_->announce(session, link); }
  Errc request_grant(std::uint64_t session, std::uint64_t link) override {
    stage_.reach("request");
    const Errc error = agent_->request_grant(session, link);
    stage_.tell("asked", sealift::errc_name(error));
    return error;
  }
  void forget(const Attempt& attempt) override { agent_->forget(attempt); }
  std::optional<Event> next_event() override {
    const auto event = agent_->next_event();
    if (!event) return std::nullopt;
    return Event{static_cast<std::uint32_t>(event->kind), event->error, event->link, event->attempt};
  }
  Result<AttemptStatus> attempt_status(const Attempt& attempt) override {
    const auto status = agent_->attempt_status(attempt);
    if (!status.ok()) return status.error();
    return AttemptStatus{status->as_source, static_cast<std::uint32_t>(status->state), status->holds_key};
  }

 private:
  sealift::agent::testing::TestCpu cpu_;
  sealift::agent::testing::TestAgent agent_;
  const sealift::daemon::testing::Stage& stage_;
  std::uint8_t instance_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) {
    std::cerr << "usage: fake_agent FOLDER SOCKET MACHINE INSTANCE\n";
    return 2;
  }
  const sealift::daemon::testing::Stage stage(argv[1], std::string("agent-") + argv[3]);
  Port port(static_cast<std::uint8_t>(argv[3][0]), static_cast<std::uint8_t>(std::stoi(argv[4])), stage);
  asio::io_context io;
  const sealift::daemon::AgentServer server(io, argv[2], port, "fake agent");
  stage.tell("agent-up");
  io.run();
  return 0;
}

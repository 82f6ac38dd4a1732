// A wire between two agents, for tests of what agents say: each end believes what the other declares of itself, and
// nothing is encrypted. What RA-TLS proves is tested with RA-TLS itself.
#pragma once

#include <cstdint>
#include <memory>

#include "trusted/agent/agent.h"
#include "trusted/agent/testing/cpu.h"

namespace sealift::agent::testing {

class TestChannels final : public ChannelFactory {
 public:
  explicit TestChannels(std::uint8_t instance);
  ReportData report_data() override;
  Errc install_quote(ByteView quote) override;
  Result<std::unique_ptr<Channel>> open(bool is_server) override;

  PeerVerdict declared;  // what the other side will hold of this one
  bool quoted = false;
};

class TestChannel final : public Channel {
 public:
  explicit TestChannel(const PeerVerdict& own);
  void feed(ByteView from_network) override;
  Bytes take() override;
  Errc write(ByteView plain) override;
  Bytes read() override;
  Errc renew(ByteView collateral) override;
  [[nodiscard]] LinkPhase phase() const override { return phase_; }
  [[nodiscard]] Errc error() const override { return Errc::kOk; }
  [[nodiscard]] const PeerVerdict& peer() const override { return peer_; }

 private:
  LinkPhase phase_ = LinkPhase::kHandshaking;
  PeerVerdict peer_;
  Bytes in_, out_;
};

// A machine with one agent instance on it.
struct TestAgent {
  TestAgent(const TestCpu& cpu, std::uint8_t instance);
  TestPlatform platform;
  TestChannels channels;
  std::unique_ptr<Agent> agent;
  Agent* operator->() const { return agent.get(); }
};

// Two agents and a link between them; carry() moves bytes both ways until none are left.
struct TestLink {
  TestLink(TestAgent& client, TestAgent& server);
  void carry();
  // Delivers nothing more: what is under way is lost.
  void cut();
  TestAgent& client;
  TestAgent& server;
  LinkId at_client = 0, at_server = 0;
};

// The events that an agent has, of this kind; others are dropped.
[[nodiscard]] std::optional<agent::Event> event_of(TestAgent& agent, EventKind kind);

}  // namespace sealift::agent::testing

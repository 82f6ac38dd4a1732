#include "trusted/agent/testing/wire.h"

#include <cstring>
#include <stdexcept>

#include "trusted/agent/crypto.h"

namespace sealift::agent::testing {

TestChannels::TestChannels(std::uint8_t instance) {
  declared.report = agent_body();
  declared.tcb_status = tcb::kUpToDate;
  declared.expires = 2'000'000;
  declared.instance.fill(instance);
}

ReportData TestChannels::report_data() {
  ReportData data{};
  data[0] = declared.instance[0];
  return data;
}

Errc TestChannels::install_quote(ByteView quote) {
  if (quote.empty()) return Errc::kNoQuote;
  quoted = true;
  return Errc::kOk;
}

Result<std::unique_ptr<Channel>> TestChannels::open(bool is_server) {
  (void)is_server;
  if (!quoted) return Errc::kNoQuote;
  return std::unique_ptr<Channel>(std::make_unique<TestChannel>(declared));
}

TestChannel::TestChannel(const PeerVerdict& own) {
  const ByteView bytes = bytes_of(own);
  out_.assign(bytes.begin(), bytes.end());
}

void TestChannel::feed(ByteView from_network) {
  in_.insert(in_.end(), from_network.begin(), from_network.end());
  if (phase_ != LinkPhase::kHandshaking || in_.size() < sizeof(peer_)) return;
  std::memcpy(&peer_, in_.data(), sizeof(peer_));
  in_.erase(in_.begin(), in_.begin() + sizeof(peer_));
  phase_ = LinkPhase::kReady;
}

Bytes TestChannel::take() {
  return std::exchange(out_, {});
}

Errc TestChannel::write(ByteView plain) {
  out_.insert(out_.end(), plain.begin(), plain.end());
  return Errc::kOk;
}

Bytes TestChannel::read() {
  if (phase_ == LinkPhase::kHandshaking) return {};
  return std::exchange(in_, {});
}

Errc TestChannel::renew(ByteView collateral) {
  return collateral.empty() ? Errc::kNoQuote : Errc::kOk;
}

TestAgent::TestAgent(const TestCpu& cpu, std::uint8_t instance)
    : platform(cpu, agent_body(), instance), channels(instance) {
  auto created = Agent::create(platform, channels);
  if (!created) throw std::runtime_error(errc_name(created.error()));
  agent = std::move(*created);
  const std::uint8_t quote[] = {1};
  if (agent->install_quote(quote) != Errc::kOk) throw std::runtime_error("quote");
}

TestLink::TestLink(TestAgent& client_, TestAgent& server_) : client(client_), server(server_) {
  at_client = *client->link_open(false);
  at_server = *server->link_open(true);
  carry();
}

void TestLink::carry() {
  for (bool moved = true; moved;) {
    moved = false;
    if (const auto bytes = client->link_take(at_client); bytes.ok() && !bytes->empty()) {
      moved = true;
      (void)server->link_feed(at_server, *bytes);
    }
    if (const auto bytes = server->link_take(at_server); bytes.ok() && !bytes->empty()) {
      moved = true;
      (void)client->link_feed(at_client, *bytes);
    }
  }
}

void TestLink::cut() {
  client->link_close(at_client);
  server->link_close(at_server);
}

std::optional<agent::Event> event_of(TestAgent& agent, EventKind kind) {
  std::optional<agent::Event> found;
  while (const auto event = agent->next_event()) {
    if (event->kind == kind) found = event;
  }
  return found;
}

}  // namespace sealift::agent::testing

// The agent enclave: class Agent behind ecalls, on the real CPU.
#include <sys/random.h>

#include <cstring>
#include <ctime>

#include "attestation/crypto.h"
#include "sealift/trusted.h"
#include "trusted/agent/agent.h"
#include "trusted/agent/calls.h"
#include "trusted/agent/ratls_channel.h"

#ifdef SEALIFT_DEVELOPMENT_ANCHOR
#include "attestation/development_anchor.h"
#endif

namespace sealift::agent {
namespace {

class EnclavePlatform final : public Platform {
 public:
  sgx::Targetinfo self_target() override {
    const sgx::Report own = report({}, {});
    sgx::Targetinfo t{};
    t.measurement = own.body.mrenclave;
    t.attributes = own.body.attributes;
    t.configsvn = own.body.configsvn;
    t.miscselect = own.body.miscselect;
    std::memcpy(t.configid, own.body.configid, sizeof t.configid);
    return t;
  }
  Errc make_report(const sgx::Targetinfo& target, const ReportData& data, sgx::Report* out) override {
    *out = report(target, data);
    return Errc::kOk;
  }
  Errc verify_report(const sgx::Report& report) override {
    return sealift::verify_report(report) ? Errc::kOk : Errc::kBadReport;
  }
  Errc random(std::span<std::uint8_t> out) override {
    return getrandom(out.data(), out.size(), 0) == static_cast<ssize_t>(out.size()) ? Errc::kOk : Errc::kEntropy;
  }
  std::uint64_t now() override { return static_cast<std::uint64_t>(std::time(nullptr)); }
};

attestation::TrustAnchors anchors() {
#ifdef SEALIFT_DEVELOPMENT_ANCHOR
  return attestation::development_anchors();
#else
  return attestation::production_anchors();
#endif
}

// The instance: made at the first ecall, gone with the process. Its keys are never sealed or exported.
struct Instance {
  EnclavePlatform platform;
  std::unique_ptr<RatlsChannels> channels;
  std::unique_ptr<Agent> agent;

  Instance() {
    // Before anything of OpenSSL: its configuration file would be the host's, and may replace algorithms.
    attestation::isolate_crypto();
    auto made_channels = RatlsChannels::create(platform, anchors());
    if (!made_channels) throw std::runtime_error(errc_name(made_channels.error()));
    channels = std::move(*made_channels);
    auto made_agent = Agent::create(platform, *channels);
    if (!made_agent) throw std::runtime_error(errc_name(made_agent.error()));
    agent = std::move(*made_agent);
  }
};

Agent& agent() {
  static Instance instance;
  return *instance.agent;
}

template <typename T>
std::pair<Errc, T> pair_of(const Result<T>& r) {
  return r.ok() ? std::pair<Errc, T>{Errc::kOk, *r} : std::pair<Errc, T>{r.error(), T{}};
}

calls::LocalReply local_hello(const Bytes& hello) {
  const auto r = agent().local_hello(hello);
  if (!r.ok()) return {r.error(), 0, {}};
  return {Errc::kOk, r->session, r->confirm};
}

calls::LinkState link_state(std::uint64_t link) {
  const auto r = agent().link_state(link);
  if (!r.ok()) return {r.error(), 0, Errc::kOk, 0};
  return {Errc::kOk, static_cast<std::uint32_t>(r->phase), r->error, r->verdict_expires};
}

calls::Event next_event() {
  const auto e = agent().next_event();
  if (!e) return {};
  return {true, static_cast<std::uint32_t>(e->kind), e->error, e->link, e->attempt};
}

calls::AttemptState attempt_status(const calls::Id& attempt) {
  const auto r = agent().attempt_status(attempt);
  if (!r.ok()) return {r.error(), false, 0, false};
  return {Errc::kOk, r->as_source, static_cast<std::uint32_t>(r->state), r->holds_key};
}

const Define kDefinitions[] = {
    {calls::kHello, [] { return agent().hello(); }},
    {calls::kQuoteReport, [](const Bytes& qe) { return pair_of(agent().quote_report(qe)); }},
    {calls::kInstallQuote, [](const Bytes& quote) { return calls::Code{agent().install_quote(quote)}; }},
    {calls::kLocalHello, local_hello},
    {calls::kLocalMessage,
     [](std::uint64_t session, const Bytes& sealed) { return pair_of(agent().local_message(session, sealed)); }},
    {calls::kLocalPoll, [](std::uint64_t session) { return pair_of(agent().local_poll(session)); }},
    {calls::kLocalClose, [](std::uint64_t session) { agent().local_close(session); }},
    {calls::kLinkOpen, [](bool is_server) { return pair_of(agent().link_open(is_server)); }},
    {calls::kLinkFeed,
     [](std::uint64_t link, const Bytes& bytes) { return calls::Code{agent().link_feed(link, bytes)}; }},
    {calls::kLinkTake, [](std::uint64_t link) { return pair_of(agent().link_take(link)); }},
    {calls::kLinkState, link_state},
    {calls::kLinkClose, [](std::uint64_t link) { agent().link_close(link); }},
    {calls::kOffer,
     [](const calls::Id& attempt, std::uint64_t link) { return calls::Code{agent().offer(attempt, link)}; }},
    {calls::kCancel, [](const calls::Id& attempt) { return calls::Code{agent().cancel(attempt)}; }},
    {calls::kAnnounce,
     [](std::uint64_t session, std::uint64_t link) { return calls::Code{agent().announce(session, link)}; }},
    {calls::kRequestGrant,
     [](std::uint64_t session, std::uint64_t link) { return calls::Code{agent().request_grant(session, link)}; }},
    {calls::kForget, [](const calls::Id& attempt) { agent().forget(attempt); }},
    {calls::kNextEvent, next_event},
    {calls::kAttemptStatus, attempt_status},
};

}  // namespace
}  // namespace sealift::agent

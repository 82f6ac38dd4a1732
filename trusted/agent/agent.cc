#include "trusted/agent/agent.h"

#include <algorithm>

#include "trusted/agent/agent_impl.h"

namespace sealift::agent {

using Lock = std::lock_guard<std::mutex>;

Agent::Agent(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Agent::~Agent() = default;

Result<std::unique_ptr<Agent>> Agent::create(Platform& platform, ChannelFactory& channels) {
  auto impl = std::make_unique<Impl>(platform, channels);
  Instance& self = impl->self;
  if (const Errc error = platform.random({self.secret.data(), self.secret.size()}); error != Errc::kOk) return error;
  const auto key = x25519_public(self.secret);
  self.hello.version = messages::kVersion;
  std::copy(key.begin(), key.end(), self.hello.instance_key);
  self.hello.target = platform.self_target();
  return std::unique_ptr<Agent>(new Agent(std::move(impl)));
}

std::uint64_t Agent::Impl::now() {
  latest = std::max(latest, platform.now());
  return latest;
}

void Agent::Impl::emit(EventKind kind, LinkId link, const Attempt& attempt, Errc error) {
  if (events.size() == kMaxEvents) events.pop_front();  // a host that does not listen; attempt_status still tells
  events.push_back({kind, error, link, attempt});
}

Result<Bytes> Agent::quote_report(ByteView qe) {
  const Lock lock(impl_->mutex);
  sgx::Targetinfo target{};
  if (qe.size() != sizeof(target)) return Errc::kBadSize;
  std::memcpy(&target, qe.data(), sizeof(target));
  sgx::Report report{};
  const Errc error = impl_->platform.make_report(target, impl_->channels.report_data(), &report);
  if (error != Errc::kOk) return error;
  const ByteView bytes = bytes_of(report);
  return Bytes(bytes.begin(), bytes.end());
}

Errc Agent::install_quote(ByteView evidence) {
  const Lock lock(impl_->mutex);
  return impl_->channels.install_quote(evidence);
}

Bytes Agent::hello() const {
  const ByteView bytes = bytes_of(impl_->self.hello);  // never changes after create()
  return {bytes.begin(), bytes.end()};
}

Result<LocalReply> Agent::local_hello(ByteView enclave_hello) {
  const Lock lock(impl_->mutex);
  return impl_->local_hello(enclave_hello);
}

Result<Bytes> Agent::local_message(SessionId session, ByteView sealed) {
  const Lock lock(impl_->mutex);
  const auto it = impl_->sessions.find(session);
  if (it == impl_->sessions.end()) return Errc::kNoSession;
  return impl_->local_message(it->second, sealed);
}

Result<Bytes> Agent::local_poll(SessionId session) {
  const Lock lock(impl_->mutex);
  const auto it = impl_->sessions.find(session);
  if (it == impl_->sessions.end()) return Errc::kNoSession;
  return impl_->local_poll(it->second);
}

void Agent::local_close(SessionId session) {
  const Lock lock(impl_->mutex);
  if (impl_->sessions.erase(session) == 0) return;
  const auto it = std::find_if(impl_->by_hello.begin(), impl_->by_hello.end(),
                               [&](const auto& entry) { return entry.second == session; });
  impl_->closed.insert(it->first);
  impl_->by_hello.erase(it);
}

Result<LinkId> Agent::link_open(bool is_server) {
  const Lock lock(impl_->mutex);
  if (impl_->links.size() >= kMaxLinks) return Errc::kBadSize;
  auto channel = impl_->channels.open(is_server);
  if (!channel) return channel.error();
  const LinkId id = impl_->next_link++;
  impl_->links.emplace(id, std::make_unique<Link>(std::move(*channel)));
  return id;
}

Errc Agent::link_feed(LinkId link, ByteView from_network) {
  const Lock lock(impl_->mutex);
  const auto it = impl_->links.find(link);
  if (it == impl_->links.end()) return Errc::kNoSession;
  it->second->feed(from_network);
  impl_->pump(link, *it->second);
  return it->second->phase() == LinkPhase::kFailed ? it->second->error() : Errc::kOk;
}

Result<Bytes> Agent::link_take(LinkId link) {
  const Lock lock(impl_->mutex);
  const auto it = impl_->links.find(link);
  if (it == impl_->links.end()) return Errc::kNoSession;
  return it->second->take();
}

Result<LinkStatus> Agent::link_state(LinkId link) {
  const Lock lock(impl_->mutex);
  const auto it = impl_->links.find(link);
  if (it == impl_->links.end()) return Errc::kNoSession;
  LinkStatus status;
  status.phase = it->second->phase();
  if (status.phase == LinkPhase::kFailed) status.error = it->second->error();
  if (status.phase == LinkPhase::kReady) {
    status.verdict_expires = it->second->peer().expires;
    status.peer = it->second->peer().instance;
  }
  return status;
}

Errc Agent::link_renew(LinkId link, ByteView collateral) {
  const Lock lock(impl_->mutex);
  const auto it = impl_->links.find(link);
  return it == impl_->links.end() ? Errc::kNoSession : it->second->renew(collateral);
}

void Agent::link_close(LinkId link) {
  const Lock lock(impl_->mutex);
  impl_->links.erase(link);
}

Errc Agent::offer(const Attempt& attempt, LinkId link) {
  const Lock lock(impl_->mutex);
  return impl_->offer(attempt, link);
}

Errc Agent::cancel(const Attempt& attempt) {
  const Lock lock(impl_->mutex);
  return impl_->cancel(attempt);
}

Errc Agent::announce(SessionId session, LinkId link) {
  const Lock lock(impl_->mutex);
  const auto it = impl_->sessions.find(session);
  return it == impl_->sessions.end() ? Errc::kNoSession : impl_->announce(it->second, link);
}

Errc Agent::request_grant(SessionId session, LinkId link) {
  const Lock lock(impl_->mutex);
  const auto it = impl_->sessions.find(session);
  return it == impl_->sessions.end() ? Errc::kNoSession : impl_->request_grant(it->second, link);
}

void Agent::forget(const Attempt& attempt) {
  const Lock lock(impl_->mutex);
  std::vector<HeldId> doomed;
  for (const auto& [id, entry] : impl_->held) {
    if (id.first == attempt) doomed.push_back(id);
  }
  for (const HeldId& id : doomed) impl_->forget(id);
}

std::optional<Event> Agent::next_event() {
  const Lock lock(impl_->mutex);
  if (impl_->events.empty()) return std::nullopt;
  const Event event = impl_->events.front();
  impl_->events.pop_front();
  return event;
}

Result<AttemptStatus> Agent::attempt_status(const Attempt& attempt) {
  const Lock lock(impl_->mutex);
  AttemptStatus status;
  status.state = impl_->book.state(attempt);
  status.as_source = status.state != ledger::State::kUnknown;
  bool known = status.as_source;
  for (const auto& [id, entry] : impl_->held) {
    if (id.first != attempt) continue;
    known = true;
    status.holds_key = status.holds_key || entry.has_key;
  }
  if (!known) return Errc::kUnknownAttempt;
  return status;
}

}  // namespace sealift::agent

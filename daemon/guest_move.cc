#include "daemon/guest_move.h"

#include <spdlog/spdlog.h>

#include <utility>

#include "daemon/failure.h"

namespace sealift::daemon {

GuestMove::GuestMove(asio::io_context& io, const Options& options, AgentClient& agent, std::shared_ptr<Peer> peer,
                     std::string guest)
    : options_(options), agent_(agent), peer_(std::move(peer)), guest_(std::move(guest)), redial_timer_(io) {
  agent_.watch(this);
}

GuestMove::~GuestMove() {
  *alive_ = false;
  redial_timer_.cancel();
  agent_.unwatch(this);
  peer_->leave(this);
}

void GuestMove::connect(Done done) {
  connected_ = std::move(done);
  peer_->join(this);
}

void GuestMove::offer(const std::string& attempt, const std::string& name) {
  if (!attempts_.try_emplace(attempt, Attempt{name, false}).second) return;
  if (peer_->up()) send_offer(attempt);
}

void GuestMove::withdraw(const std::string& attempt) {
  attempts_.erase(attempt);
  check();
}

void GuestMove::when_accepted(Done done) {
  accepted_ = std::move(done);
  check();
}

void GuestMove::send_offer(const std::string& attempt) {
  wire::Envelope message;
  message.mutable_agent_offer()->set_attempt(attempt);
  message.mutable_agent_offer()->set_link(peer_->agent_link());
  agent_.request(std::move(message), [this, alive = alive_, attempt](const wire::Envelope& reply) {
    if (!*alive || !attempts_.contains(attempt)) return;
    const Errc error = reply.has_agent_result() ? static_cast<Errc>(reply.agent_result().errc()) : Errc::kNoSession;
    if (error == Errc::kOk || error == Errc::kNoSession) return;  // an event follows, or peer_gone and another try
    tell(make_failure(wire::Failure::REFUSED, "the target machine was refused", attempts_.at(attempt).name,
                      "see the enclave's manifest", error));
  });
}

void GuestMove::check() {
  if (!accepted_) return;
  for (const auto& [attempt, state] : attempts_) {
    if (!state.accepted) return;
  }
  tell({});
}

void GuestMove::tell(const wire::Failure& failure) {
  if (const auto done = std::exchange(accepted_, nullptr)) done(failure);
}

void GuestMove::peer_up() {
  for (const auto& [attempt, state] : std::map(attempts_)) send_offer(attempt);
  if (const auto done = std::exchange(connected_, nullptr)) done({});
}

void GuestMove::peer_gone(const wire::Failure& why) {
  for (auto& [attempt, state] : attempts_) state.accepted = false;
  if (const auto done = std::exchange(connected_, nullptr)) return done(why);
  if (accepted_) return tell(why);
  redial_timer_.expires_after(options_.timeouts.retry);
  redial_timer_.async_wait([this, alive = alive_](const std::error_code& error) {
    if (!error && *alive) peer_->join(this);
  });
}

void GuestMove::agent_up(bool same) {
  // Another instance of this machine's agent has never heard of them: those that were ticketed are lost.
  if (!same) attempts_.clear();
}

void GuestMove::agent_event(const wire::AgentEvent& event) {
  const auto found = attempts_.find(event.attempt());
  if (found == attempts_.end()) return;
  switch (event.kind()) {
    case wire::AgentEvent::OFFER_ACCEPTED:
      found->second.accepted = true;
      return check();
    case wire::AgentEvent::OFFER_REFUSED:
      return tell(make_failure(wire::Failure::REFUSED, "the target machine refused an enclave", found->second.name,
                               "see both agents' logs", static_cast<Errc>(event.errc())));
    case wire::AgentEvent::GRANTED:
      spdlog::info("guest {}: {} was granted", guest_, found->second.name);
      return withdraw(event.attempt());
    default:
      return;
  }
}

}  // namespace sealift::daemon

#include "daemon/guest_move.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <asio/post.hpp>
#include <utility>

#include "daemon/failure.h"
#include "daemon/guest_port.h"

namespace sealift::daemon {

namespace {

// Attempts come one by one, and the file is written whole. Whoever hands the VM over flushes before.
constexpr std::chrono::milliseconds kSaveAfter{50};
constexpr std::chrono::milliseconds kAskEvery{500};
// An enclave that was granted, and that the target, asked for an hour, has not seen running, was ended or moved on.
constexpr unsigned kMaxAsked = 7'200;

bool is_over(Errc offer_error) {
  return offer_error == Errc::kUnknownAttempt || offer_error == Errc::kAttemptUsed;
}

}  // namespace

GuestMove::GuestMove(asio::io_context& io, const Options& options, AgentClient& agent, std::shared_ptr<Peer> peer,
                     GuestJournal journal)
    : options_(options),
      agent_(agent),
      peer_(std::move(peer)),
      journal_(std::move(journal)),
      redial_timer_(io),
      save_timer_(io),
      ask_timer_(io),
      redial_(options.timeouts.retry) {
  agent_.watch(this);
}

GuestMove::~GuestMove() {
  *alive_ = false;
  for (asio::steady_timer* timer : {&redial_timer_, &save_timer_, &ask_timer_}) timer->cancel();
  agent_.unwatch(this);
  peer_->leave(this);
  journal_.flush();
}

void GuestMove::connect(Done done) {
  connected_ = std::move(done);
  peer_->join(this);
}

void GuestMove::recover() {
  for (const wire::GuestJournal::Attempt& each : journal_.contents().attempts()) {
    attempts_[each.who().attempt()] = {each.name(), each.who().lineage(), each.who().epoch()};
  }
  spdlog::info("guest {}: found its move to {}, {} enclaves", guest(), target(), attempts_.size());
  if (agent_.up()) learn_states();
  peer_->join(this);
}

void GuestMove::offer(const GuestEnclave& enclave) {
  if (attempts_.size() >= GuestJournal::kMaxAttempts) return;
  const Attempt fresh{enclave.name, enclave.lineage, enclave.epoch};
  if (!attempts_.try_emplace(enclave.attempt, fresh).second) return;
  begun_ = true;
  wire::GuestJournal::Attempt entry;
  entry.set_name(enclave.name);
  entry.mutable_who()->set_attempt(enclave.attempt);
  entry.mutable_who()->set_lineage(enclave.lineage);
  entry.mutable_who()->set_epoch(enclave.epoch);
  journal_.add(entry);
  save_soon();
  peer_->up() ? send_offer(enclave.attempt) : peer_->join(this);
}

// A broker that could not tell the agent that an attempt was given up, as this daemon was away, has done it in the
// enclave. If it lies, and there is a ticket, the agent refuses the cancel.
void GuestMove::saw(const std::vector<GuestEnclave>& enclaves) {
  std::map<std::string, const GuestEnclave*> ended;
  for (const GuestEnclave& each : enclaves) {
    using State = GuestEnclave::State;
    if (each.state == State::kRunning || each.state == State::kLost) ended[each.lineage] = &each;
  }
  for (const auto& [attempt, known] : std::map(attempts_)) {
    const auto found = ended.find(known.lineage);
    if (found == ended.end()) continue;
    if (found->second->attempt == attempt && found->second->state == GuestEnclave::State::kRunning) continue;
    known.granted ? drop(attempt) : take_back(attempt);
  }
}

void GuestMove::take_back(const std::string& attempt) {
  if (std::exchange(attempts_.at(attempt).taken_back, true)) return;
  wire::Envelope message;
  message.mutable_agent_cancel()->set_attempt(attempt);
  agent_.request(std::move(message), [this, alive = alive_, attempt](const wire::Envelope& reply) {
    if (!*alive || !attempts_.contains(attempt)) return;
    const bool done = reply.has_agent_result() && reply.agent_result().errc() == 0;
    done ? drop(attempt) : void(attempts_.at(attempt).taken_back = false);
  });
}

void GuestMove::discard() {
  attempts_.clear();
  journal_.clear();
  journal_.flush();
}

void GuestMove::drop(const std::string& attempt) {
  attempts_.erase(attempt);
  journal_.remove(attempt);
  save_soon();
  // Not from inside whatever found that out: the answer may end this move.
  asio::post(save_timer_.get_executor(), [this, alive = alive_] {
    if (*alive) check();
  });
}

void GuestMove::save_soon() {
  if (std::exchange(saving_, true)) return;
  save_timer_.expires_after(kSaveAfter);
  save_timer_.async_wait([this, alive = alive_](const std::error_code& error) {
    if (error || !*alive) return;
    saving_ = false;
    journal_.flush();
  });
}

void GuestMove::when_accepted(Done done) {
  accepted_ = std::move(done);
  check();
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

// --- This machine's agent -----------------------------------------------------------------------------------------

void GuestMove::send_offer(const std::string& attempt) {
  wire::Envelope message;
  message.mutable_agent_offer()->set_attempt(attempt);
  message.mutable_agent_offer()->set_link(peer_->agent_link());
  agent_.request(std::move(message), [this, alive = alive_, attempt](const wire::Envelope& reply) {
    if (!*alive || !attempts_.contains(attempt)) return;
    const Errc error = reply.has_agent_result() ? static_cast<Errc>(reply.agent_result().errc()) : Errc::kNoSession;
    if (error == Errc::kOk || error == Errc::kNoSession) return;  // an event follows, or peer_gone and another try
    const auto done = std::exchange(accepted_, nullptr);
    const std::string name = attempts_.at(attempt).name;
    if (is_over(error)) drop(attempt);
    if (!done) return;
    done(make_failure(wire::Failure::REFUSED, "the target machine was refused", name, "see the enclave's manifest",
                      error));
  });
}

// What became of the attempts while this daemon was away, or had lost the agent.
void GuestMove::learn_states() {
  const auto left = std::make_shared<std::size_t>(attempts_.size());
  const auto gone = std::make_shared<std::size_t>(0);
  for (const auto& [attempt, state] : attempts_) {
    wire::Envelope message;
    message.mutable_agent_attempt_request()->set_attempt(attempt);
    agent_.request(std::move(message), [this, alive = alive_, attempt = attempt, left,
                                        gone](const wire::Envelope& reply) {
      if (!*alive) return;
      const wire::AgentAttempt& told = reply.agent_attempt();
      const bool unknown = reply.has_agent_attempt() &&
                           (told.errc() != 0 || !told.as_source() || told.state() == wire::AgentAttempt::CANCELLED);
      const auto found = attempts_.find(attempt);
      if (found != attempts_.end() && unknown) {
        ++*gone;
        drop(attempt);
      } else if (found != attempts_.end() && told.state() == wire::AgentAttempt::GRANTED && !found->second.granted) {
        found->second.granted = true;
        ask_target();
      }
      if (--*left == 0 && *gone > 0) {
        spdlog::warn("guest {}: {} attempts to move to {} are unknown to this machine's agent, or given up: forgotten",
                     guest(), *gone, target());
      }
    });
  }
}

void GuestMove::agent_up(bool) {
  learn_states();
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
      if (found->second.granted) return;
      spdlog::info("guest {}: {} was granted", guest(), found->second.name);
      found->second.granted = true;
      return ask_target();
    default:
      return;
  }
}

// --- The target ---------------------------------------------------------------------------------------------------

void GuestMove::peer_up() {
  redial_ = options_.timeouts.retry;
  for (const auto& [attempt, state] : std::map(attempts_)) send_offer(attempt);
  if (const auto done = std::exchange(connected_, nullptr)) done({});
}

void GuestMove::peer_gone(const wire::Failure& why) {
  for (auto& [attempt, state] : attempts_) state.accepted = false;
  if (const auto done = std::exchange(connected_, nullptr)) return done(why);
  if (accepted_) return tell(why);
  if (attempts_.empty()) return;
  redial_timer_.expires_after(redial_);
  redial_ = std::min(redial_ * 2, options_.timeouts.slowest_retry);
  redial_timer_.async_wait([this, alive = alive_](const std::error_code& error) {
    if (!error && *alive) peer_->join(this);
  });
}

// Until it says that they run: it, or the grant on its way to it, may be lost at any moment.
void GuestMove::ask_target() {
  if (std::exchange(asking_, true)) return;
  ask_timer_.expires_after(kAskEvery);
  ask_timer_.async_wait([this, alive = alive_](const std::error_code& error) {
    if (error || !*alive) return;
    asking_ = false;
    forget_unseen();
    wire::Envelope message;
    for (auto& [attempt, state] : attempts_) {
      if (!state.granted) continue;
      state.asked += peer_->up() ? 1 : 0;
      wire::Attach& each = *message.mutable_guest_ask()->add_attempts();
      each.set_attempt(attempt);
      each.set_lineage(state.lineage);
      each.set_epoch(state.epoch);
    }
    if (!message.has_guest_ask()) return;
    message.mutable_guest_ask()->set_guest(guest());
    peer_->notify(std::move(message));
    ask_target();
  });
}

void GuestMove::forget_unseen() {
  std::size_t forgotten = 0;
  for (const auto& [attempt, state] : std::map(attempts_)) {
    if (!state.granted || state.asked < kMaxAsked) continue;
    ++forgotten;
    drop(attempt);
  }
  if (forgotten == 0) return;
  spdlog::warn("guest {}: {} enclaves were granted on {} and never seen running there: forgotten", guest(), forgotten,
               target());
}

void GuestMove::peer_guest_told(const wire::GuestTold& told) {
  for (const std::string& attempt : told.attempts()) {
    const auto found = attempts_.find(attempt);
    if (found == attempts_.end() || !found->second.granted) continue;
    spdlog::info("guest {}: {} runs on {}", guest(), found->second.name, target());
    drop(attempt);
  }
}

}  // namespace sealift::daemon

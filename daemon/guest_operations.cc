// GuestPort's operations: each is a command to the guest's broker, and what this host adds to it.
#include <spdlog/spdlog.h>

#include <map>
#include <utility>

#include "daemon/endpoint.h"
#include "daemon/guest_claims.h"
#include "daemon/guest_port_impl.h"

namespace sealift::daemon {

namespace {

using Op = wire::GuestCommand;

wire::GuestCommand command_of(Op::Op op) {
  wire::GuestCommand out;
  out.set_op(op);
  return out;
}

std::uint32_t milliseconds(std::chrono::milliseconds time) {
  return static_cast<std::uint32_t>(std::max<std::int64_t>(0, time.count()));
}

}  // namespace

// --- Any operation ------------------------------------------------------------------------------------------------

GuestState* GuestPort::Impl::begin(const std::string& name, const std::string& what, std::chrono::milliseconds limit,
                                   OnEvent on_event, Done done) {
  GuestState* guest = find(name);
  wire::Failure failure;
  if (guest == nullptr) {
    failure = make_failure(wire::Failure::NOT_FOUND, "no such guest on this host", name, "");
  } else if (!guest->known.connected) {
    failure = make_failure(wire::Failure::UNREACHABLE, "the guest's broker is not connected", name,
                           "is `sealiftd --guest` running in it?");
  } else if (!guest->known.operation.empty()) {
    failure = make_failure(wire::Failure::BUSY, "the guest is busy with " + guest->known.operation, name, "");
  }
  if (failure.kind() != wire::Failure::KIND_UNSPECIFIED) {
    GuestResult result{failure, guest != nullptr ? guest->known : Guest{}};
    asio::post(parts.io, [done = std::move(done), result] { done(result); });
    return nullptr;
  }
  guest->known.operation = what;
  const std::uint64_t operation = ++guest->operation;
  guest->on_event = std::move(on_event);
  guest->done = std::move(done);
  guest->deadline.expires_after(limit);
  guest->deadline.async_wait([this, weak = weak_from_this(), name, operation](const std::error_code& error) {
    const auto self = weak.lock();
    if (error || !self) return;
    finish(name, operation, make_failure(wire::Failure::UNREACHABLE, "the guest's broker does not answer", name, ""));
  });
  return guest;
}

void GuestPort::Impl::finish(const std::string& name, std::uint64_t operation, wire::Failure failure) {
  GuestState* guest = find(name);
  if (guest == nullptr || guest->operation != operation || guest->known.operation.empty()) return;
  ++guest->operation;
  guest->deadline.cancel();
  guest->known.operation.clear();
  guest->on_event = nullptr;
  // Before anybody hands the guest over.
  if (guest->move) guest->move->flush();
  sweep_moves();
  GuestResult result{std::move(failure), guest->known};
  if (!result.ok()) spdlog::info("guest {}: {}", name, to_line(result.failure));
  asio::post(parts.io, [done = std::exchange(guest->done, nullptr), result = std::move(result)] {
    if (done) done(result);
  });
}

void GuestPort::Impl::command(const std::string& name, std::uint64_t operation, const wire::GuestCommand& command,
                              std::function<void(const wire::Failure&)> then) {
  const GuestState* guest = find(name);
  if (guest == nullptr || !guest->session) return;  // session_down has told
  guest->session->command(command,
                          [this, weak = weak_from_this(), name, operation, session = std::weak_ptr(guest->session),
                           then = std::move(then)](const wire::Envelope& reply) {
                            const auto self = weak.lock();
                            const GuestState* now = self ? find(name) : nullptr;
                            if (now == nullptr || now->operation != operation || now->session != session.lock()) return;
                            if (!reply.has_guest_report()) return then(one_line(reply.failure()));
                            if (!credible(reply.guest_report())) return now->session->close("no report of a broker");
                            report(name, reply.guest_report());
                            then(one_line(reply.guest_report().failure()));
                          });
}

// --- Prepare ------------------------------------------------------------------------------------------------------

void GuestPort::prepare(const std::string& guest, const std::string& target, Done done) {
  impl_->prepare(guest, target, std::move(done));
}

void GuestPort::Impl::prepare(const std::string& name, const std::string& target, Done done) {
  const Timeouts& t = parts.options.timeouts;
  GuestState* guest = begin(name, "prepare", t.connect + 2 * t.session, nullptr, std::move(done));
  if (guest == nullptr) return;
  const std::uint64_t operation = guest->operation;
  const auto ask = [this, name, operation] {
    command(name, operation, command_of(Op::PREPARE), [this, name, operation](const wire::Failure& failure) {
      if (failure.kind() != wire::Failure::KIND_UNSPECIFIED) return undo(name, operation, failure);
      GuestState* now = find(name);
      if (!now->move) return finish(name, operation, {});
      now->move->when_accepted([this, name, operation](const wire::Failure& refused) {
        if (refused.kind() != wire::Failure::KIND_UNSPECIFIED) return undo(name, operation, refused);
        finish(name, operation, {});
      });
    });
  };
  keep_move(*guest);
  if (target.empty()) return ask();
  const auto where = parse_host_port(target);
  if (!where || where->host.empty()) {
    return finish(name, operation,
                  make_failure(wire::Failure::BAD_REQUEST, "not a host", target, "give HOST or HOST:PORT"));
  }
  guest->move = new_move(*where, GuestJournal(parts.options.state_dir, name, where->str()));
  guest->move->connect([this, name, operation, ask](const wire::Failure& failure) {
    const GuestState* now = find(name);
    if (now == nullptr || now->operation != operation) return;
    if (failure.kind() == wire::Failure::KIND_UNSPECIFIED) return ask();
    finish(name, operation, failure);
  });
}

void GuestPort::Impl::undo(const std::string& name, std::uint64_t operation, const wire::Failure& why) {
  GuestState* guest = find(name);
  if (guest == nullptr || guest->operation != operation) return;
  command(name, operation, command_of(Op::ABORT), [this, name, operation, why](const wire::Failure&) {
    if (GuestState* now = find(name)) end_move(*now);
    finish(name, operation, why);
  });
}

std::unique_ptr<GuestMove> GuestPort::Impl::new_move(const HostPort& where, GuestJournal journal) {
  return std::make_unique<GuestMove>(parts.io, parts.options, parts.agent, parts.peer_for(where), std::move(journal));
}

void GuestPort::Impl::end_move(GuestState& guest) {
  if (guest.move) guest.move->discard();
  guest.move.reset();
}

// Another begins, or the guest goes.
void GuestPort::Impl::keep_move(GuestState& guest) {
  if (guest.move) moves.push_back(std::move(guest.move));
  sweep_moves();
  if (moves.size() <= GuestJournal::kMaxMoves) return;
  spdlog::warn("guest {}: too many moves wait for grants: the oldest, to {}, is given up", moves.front()->guest(),
               moves.front()->target());
  moves.front()->discard();
  moves.erase(moves.begin());
}

void GuestPort::Impl::sweep_moves() {
  std::erase_if(moves, [](const auto& move) { return move->over(); });
  for (const auto& [name, guest] : guests) {
    const bool idle = guest->known.operation.empty() && guest->move;
    if (idle && guest->move->begun() && guest->move->over()) guest->move.reset();
  }
}

void GuestPort::recover() {
  for (GuestJournal& journal : GuestJournal::read_all(impl_->parts.options.state_dir)) {
    const auto where = parse_host_port(journal.contents().target());
    impl_->moves.push_back(impl_->new_move(*where, std::move(journal)));
    impl_->moves.back()->recover();
  }
}

// By the guest's own word, as no other's counts.
wire::GuestTold GuestPort::running(const wire::GuestAsk& ask) const {
  using State = GuestEnclave::State;
  wire::GuestTold out;
  const GuestState* guest = impl_->find(ask.guest());
  if (guest == nullptr) return out;
  std::map<std::string, const GuestEnclave*> known;
  for (const GuestEnclave& each : guest->known.enclaves) known[each.lineage] = &each;
  for (const wire::Attach& asked : ask.attempts()) {
    const auto found = known.find(asked.lineage());
    if (found == known.end()) continue;
    const GuestEnclave& enclave = *found->second;
    const bool runs = enclave.state == State::kRunning || enclave.state == State::kPrepared;
    if ((runs && enclave.epoch > asked.epoch()) || enclave.state == State::kLost) out.add_attempts(asked.attempt());
  }
  return out;
}

// An attempt that was made since, by an enclave that was opened since, or made anew.
void GuestPort::Impl::offer_new(GuestState& guest) const {
  if (!guest.move || !guest.session) return;
  for (const GuestEnclave& enclave : guest.known.enclaves) {
    using State = GuestEnclave::State;
    if (enclave.attempt.empty() || enclave.state == State::kRunning || enclave.state == State::kLost) continue;
    // Of another guest's, a liar would have the key sent to its own target.
    if (!guest.move->knows(enclave.attempt) && !guest.session->owns(enclave.attempt)) continue;
    guest.move->offer(enclave);
  }
}

// --- The others ---------------------------------------------------------------------------------------------------

void GuestPort::checkpoint(const std::string& guest, const CheckpointOptions& options, OnEvent on_event, Done done) {
  const GuestState* before = impl_->find(guest);
  const std::size_t known = before == nullptr ? 0 : before->known.enclaves.size();
  const Timeouts& t = impl_->parts.options.timeouts;
  const auto limit = 2 * t.session + t.stall + options.quiesce * static_cast<int>(known + 1);
  GuestState* state = impl_->begin(guest, "checkpoint", limit, std::move(on_event), std::move(done));
  if (state == nullptr) return;
  wire::GuestCommand command = command_of(Op::CHECKPOINT);
  command.set_quiesce_ms(milliseconds(options.quiesce));
  command.set_force(options.force);
  impl_->command(
      guest, state->operation, command,
      [impl = impl_.get(), guest, operation = state->operation, force = options.force](const wire::Failure& failure) {
        if (failure.kind() != wire::Failure::KIND_UNSPECIFIED) {
          return impl->finish(guest, operation, failure);
        }
        impl->confirm_tickets(guest, operation, force);
      });
}

// That enclaves have committed is the broker's word. What is left behind is lost when the VM leaves, so it is held
// against what the agent has.
void GuestPort::Impl::confirm_tickets(const std::string& name, std::uint64_t operation, bool force) {
  using State = GuestEnclave::State;
  struct Asked {
    std::size_t waiting = 1;
    wire::Failure failure;
  };
  const auto asked = std::make_shared<Asked>();
  const auto one_less = [this, weak = weak_from_this(), name, operation, asked] {
    const auto self = weak.lock();
    if (--asked->waiting == 0 && self) finish(name, operation, asked->failure);
  };
  for (const GuestEnclave& enclave : find(name)->known.enclaves) {
    if (enclave.state == State::kLost || (force && enclave.state != State::kCommitted)) continue;
    if (enclave.state != State::kCommitted) {
      asked->failure = make_failure(wire::Failure::FAILED, "an enclave was not checkpointed", enclave.name,
                                    std::string("it is ") + name_of(enclave.state) + "; move the VM again");
      continue;
    }
    ++asked->waiting;
    wire::Envelope message;
    message.mutable_agent_attempt_request()->set_attempt(enclave.attempt);
    parts.agent.request(std::move(message), [asked, one_less, who = enclave.name](const wire::Envelope& reply) {
      if (!reply.agent_attempt().as_source() || reply.agent_attempt().state() != wire::AgentAttempt::TICKETED) {
        asked->failure = make_failure(wire::Failure::FAILED, "the agent has no ticket of an enclave", who,
                                      "though the guest's broker says that it has committed");
      }
      one_less();
    });
  }
  one_less();
}

void GuestPort::abort(const std::string& guest, Done done) {
  if (GuestState* state = impl_->find(guest); state != nullptr && state->known.operation != "resume") {
    impl_->finish(guest, state->operation, make_failure(wire::Failure::CANCELLED, "aborted", guest, ""));
  }
  const Timeouts& t = impl_->parts.options.timeouts;
  GuestState* state = impl_->begin(guest, "abort", t.quiesce + 2 * t.session, nullptr, std::move(done));
  if (state == nullptr) return;
  impl_->command(guest, state->operation, command_of(Op::ABORT),
                 [impl = impl_.get(), guest, operation = state->operation](const wire::Failure& failure) {
                   GuestState* now = impl->find(guest);
                   if (failure.kind() == wire::Failure::KIND_UNSPECIFIED && now != nullptr) impl->end_move(*now);
                   impl->finish(guest, operation, failure);
                 });
}

void GuestPort::resume(const std::string& guest, std::chrono::milliseconds patience, OnEvent on_event, Done done) {
  const auto limit = patience + impl_->parts.options.timeouts.session;
  GuestState* state = impl_->begin(guest, "resume", limit, std::move(on_event), std::move(done));
  if (state == nullptr) return;
  wire::GuestCommand command = command_of(Op::RESUME);
  command.set_patience_ms(milliseconds(patience));
  impl_->command(guest, state->operation, command,
                 [impl = impl_.get(), guest, operation = state->operation](const wire::Failure& failure) {
                   impl->finish(guest, operation, failure);
                 });
}

void GuestPort::refresh(const std::string& name, std::function<void()> done) {
  constexpr std::chrono::milliseconds kPatience{500};
  const auto once = std::make_shared<std::function<void()>>(std::move(done));
  const auto timer = std::make_shared<asio::steady_timer>(impl_->parts.io, kPatience);
  const auto tell = [once, timer] {
    timer->cancel();
    if (const auto now = std::exchange(*once, nullptr)) now();
  };
  timer->async_wait([tell](const std::error_code&) { tell(); });
  const GuestState* guest = impl_->find(name);
  if (guest == nullptr || !guest->known.connected) return asio::post(impl_->parts.io, tell);
  guest->session->command(
      command_of(Op::REFRESH),
      [impl = std::weak_ptr(impl_), name, tell, session = std::weak_ptr(guest->session)](const wire::Envelope& reply) {
        const auto self = impl.lock();
        const GuestState* now = self ? self->find(name) : nullptr;
        const bool same = now != nullptr && now->session == session.lock();
        if (same && reply.has_guest_report() && credible(reply.guest_report()))
          self->report(name, reply.guest_report());
        tell();
      });
}

}  // namespace sealift::daemon

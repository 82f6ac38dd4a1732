#include "daemon/vm_guest.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <asio/post.hpp>
#include <utility>
#include <vector>

#include "daemon/failure.h"
#include "daemon/vm_wire.h"

namespace sealift::daemon {

namespace {

constexpr std::chrono::seconds kAskAgain{2};
// Another move must wait for the answer; but many enclaves are not rebuilt in two seconds.
constexpr std::chrono::seconds kLongestAsk{16};
// A restarted daemon's guest finds its channel within this, if it lives.
constexpr std::chrono::seconds kFirstContact{5};

vm::EnclaveReports reports_of(const Guest& guest) {
  vm::EnclaveReports out;
  for (const GuestEnclave& enclave : guest.enclaves) {
    vm::EnclaveReport report{enclave.lineage, enclave.name, enclave.epoch, enclave.records, enclave.downtime_ms() / 1e3,
                             std::nullopt};
    if (enclave.error != Errc::kOk || enclave.state == GuestEnclave::State::kLost) {
      report.problem =
          vm::Problem{vm::Problem::Kind::kFailed, enclave.text.empty() ? name_of(enclave.state) : enclave.text,
                      std::string("(") + errc_name(enclave.error) + ")", ""};
    }
    out.push_back(std::move(report));
  }
  return out;
}

// Where the enclaves' downtime went, for the log: medians, as they queue for the guest's CPUs at each step.
void tell_times(const Guest& guest) {
  const auto median = [&](double GuestEnclave::*from, double GuestEnclave::*to) {
    std::vector<double> all;
    for (const GuestEnclave& enclave : guest.enclaves) {
      if (enclave.downtime_ms() > 0) all.push_back(enclave.*to - enclave.*from);
    }
    if (all.empty()) return 0.0;
    std::nth_element(all.begin(), all.begin() + std::ssize(all) / 2, all.end());
    return all[all.size() / 2];
  };
  using E = GuestEnclave;
  spdlog::info(
      "guest {}: {} enclaves, medians in ms: {:.0f} to rest and lay down records, {:.0f} to commit, {:.0f} until "
      "rebuilt, {:.0f} "
      "until granted",
      guest.name, guest.enclaves.size(), median(&E::gate_closed_ms, &E::held_ms), median(&E::held_ms, &E::committed_ms),
      median(&E::committed_ms, &E::rebuilt_ms), median(&E::rebuilt_ms, &E::gate_opened_ms));
}

bool nobody_waits(const Guest& guest) {
  using State = GuestEnclave::State;
  return std::all_of(guest.enclaves.begin(), guest.enclaves.end(), [](const GuestEnclave& each) {
    return each.state == State::kRunning || each.state == State::kLost;
  });
}

std::optional<vm::Problem> problem_of(const GuestResult& result) {
  return result.ok() ? std::nullopt : std::optional(from_wire(result.failure));
}

}  // namespace

VmGuest::VmGuest(asio::io_context& io, daemon::GuestPort& guests, std::string name, const std::string& channel,
                 std::chrono::milliseconds patience)
    : io_(io),
      guests_(guests),
      name_(std::move(name)),
      patience_(patience),
      timer_(io),
      owed_timer_(io),
      ask_patience_(kAskAgain) {
  guests_.watch(this);
  guests_.attach(name_, channel);
}

VmGuest::~VmGuest() {
  guests_.unwatch(this);
  guests_.detach(name_);
}

bool VmGuest::connected() const {
  const auto guest = guests_.guest(name_);
  return guest && guest->connected;
}

void VmGuest::survey(Surveyed done) {
  guests_.refresh(name_, alive([this, done = std::move(done)] {
                    const auto guest = guests_.guest(name_);
                    if (!guest || !guest->connected) {
                      return done({}, vm::Problem{vm::Problem::Kind::kUnreachable, "no broker answers in this VM",
                                                  name_, "start sealiftd --guest in it"});
                    }
                    done({.enclaves = static_cast<std::uint32_t>(guest->enclaves.size()),
                          .epc_bytes = guest->epc_bytes(),
                          .untouched_bytes = guest->untouched_bytes,
                          .checkpoint_seconds = guest->checkpoint_ms() / 1e3},
                         std::nullopt);
                  }));
}

void VmGuest::prepare(const std::string& peer, Done done) {
  owe_nothing();
  moving_ = true;
  if (asking_) {
    next_ = [this, peer, done = std::move(done)] { prepare(peer, done); };
    return;
  }
  guests_.prepare(name_, peer, alive([done = std::move(done)](const GuestResult& result) {
                    done(reports_of(result.guest), problem_of(result));
                  }));
}

void VmGuest::checkpoint(bool force, Done done) {
  CheckpointOptions options;
  options.force = force;
  guests_.checkpoint(name_, options, {}, alive([force, done = std::move(done)](const GuestResult& result) {
                       // Not ticketed: its ticket would be lost with the way back.
                       for (const GuestEnclave& enclave : result.guest.enclaves) {
                         if (enclave.state != GuestEnclave::State::kUnticketed) continue;
                         return done(reports_of(result.guest), vm::Problem{vm::Problem::Kind::kFailed,
                                                                           "an enclave's ticket is not with the agent",
                                                                           enclave.name, "see the agent's log"});
                       }
                       auto problem = problem_of(result);
                       if (force && result.failure.kind() == wire::Failure::REFUSED) problem.reset();
                       done(reports_of(result.guest), problem);
                     }));
}

// What has not committed opens its gate again; what has, is rebuilt here.
void VmGuest::stay(Done done) {
  moving_ = false;
  const auto told = [done = std::move(done)](const GuestResult& result) {
    done(reports_of(result.guest), problem_of(result));
  };
  seen_ || connected() ? bring_back(patience_, told) : await(kFirstContact, told);
}

void VmGuest::bring_back(std::chrono::milliseconds patience, daemon::GuestPort::Done done) {
  owes_ = true;
  guests_.abort(name_, alive([this, patience, done = std::move(done)](const GuestResult& result) {
                  if (result.failure.kind() == wire::Failure::BUSY && owes_) return resume(patience, done);
                  settle(result);
                  done(result);
                }));
}

// A broker that was silent, or is started again, finds enclaves that stand still for a move that is over.
void VmGuest::settle(const GuestResult& result) {
  const bool asked = result.failure.kind() != wire::Failure::UNREACHABLE;
  if (asked && nobody_waits(result.guest)) owe_nothing();
  if (owes_) ask_later();
}

void VmGuest::ask_later() {
  owed_timer_.expires_after(kAskAgain);
  owed_timer_.async_wait(alive([this](const std::error_code& error) {
    if (error || !owes_) return;
    asking_ = true;
    bring_back(std::exchange(ask_patience_, std::min<std::chrono::milliseconds>(2 * ask_patience_, kLongestAsk)),
               [this](const GuestResult&) {
                 asking_ = false;
                 if (const auto next = std::exchange(next_, nullptr)) next();
               });
  }));
}

void VmGuest::gone() {
  owe_nothing();
  moving_ = false;
}

void VmGuest::owe_nothing() {
  owes_ = false;
  ask_patience_ = kAskAgain;
  owed_timer_.cancel();
}

// The guest's broker finds the new host's end of its channel by itself.
void VmGuest::arrive(const std::string& peer, Done done) {
  owe_nothing();
  moving_ = false;
  if (asking_) {
    next_ = [this, peer, done = std::move(done)] { arrive(peer, done); };
    return;
  }
  const auto told = [done = std::move(done)](const GuestResult& result) {
    done(reports_of(result.guest), problem_of(result));
  };
  connected() ? resume(patience_, told) : await(patience_, told);
}

void VmGuest::await(std::chrono::milliseconds patience, daemon::GuestPort::Done told) {
  waiting_ = std::move(told);
  timer_.expires_after(patience);
  timer_.async_wait(alive([this](const std::error_code& error) {
    if (error || !waiting_) return;
    owes_ = true;
    const GuestResult silent{make_failure(wire::Failure::UNREACHABLE, "the VM's broker has not come up on this host",
                                          name_, "its enclaves wait; see sealiftd --guest in it"),
                             {}};
    settle(silent);
    std::exchange(waiting_, nullptr)(silent);
  }));
}

void VmGuest::guest_up(const std::string& guest) {
  if (guest != name_) return;
  seen_ = true;
  if (!waiting_) {
    const auto known = guests_.guest(name_);
    if (moving_ || owes_ || !known || nobody_waits(*known)) return;
    owes_ = true;
    return ask_later();  // a VM that comes in is about to be told
  }
  timer_.cancel();
  asio::post(io_, alive([this] {
               if (waiting_) resume(patience_, std::exchange(waiting_, nullptr));
             }));
}

void VmGuest::resume(std::chrono::milliseconds patience, daemon::GuestPort::Done done) {
  owes_ = true;
  guests_.resume(name_, patience, {}, alive([this, done = std::move(done)](const GuestResult& result) {
                   tell_times(result.guest);
                   settle(result);
                   done(result);
                 }));
}

}  // namespace sealift::daemon

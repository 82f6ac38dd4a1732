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

std::optional<vm::Problem> problem_of(const GuestResult& result) {
  return result.ok() ? std::nullopt : std::optional(from_wire(result.failure));
}

}  // namespace

VmGuest::VmGuest(asio::io_context& io, daemon::GuestPort& guests, std::string name, const std::string& channel,
                 std::chrono::milliseconds patience)
    : io_(io), guests_(guests), name_(std::move(name)), patience_(patience), timer_(io) {
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
                    done({static_cast<std::uint32_t>(guest->enclaves.size()), guest->epc_bytes()}, std::nullopt);
                  }));
}

void VmGuest::prepare(const std::string& peer, Done done) {
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
  guests_.abort(name_, alive([this, done = std::move(done)](const GuestResult& result) {
                  if (result.failure.kind() == wire::Failure::BUSY) return resume(done);
                  done(reports_of(result.guest), problem_of(result));
                }));
}

// The guest's broker finds the new host's end of its channel by itself.
void VmGuest::arrive(const std::string&, Done done) {
  if (connected()) return resume(std::move(done));
  waiting_ = std::move(done);
  timer_.expires_after(patience_);
  timer_.async_wait(alive([this](const std::error_code& error) {
    if (error || !waiting_) return;
    std::exchange(waiting_, nullptr)(
        {}, vm::Problem{vm::Problem::Kind::kUnreachable, "the VM's broker has not come up on this host", name_,
                        "its enclaves wait; see sealiftd --guest in it"});
  }));
}

void VmGuest::guest_up(const std::string& guest) {
  if (guest != name_ || !waiting_) return;
  timer_.cancel();
  asio::post(io_, alive([this] {
               if (waiting_) resume(std::exchange(waiting_, nullptr));
             }));
}

void VmGuest::resume(Done done) {
  guests_.resume(name_, patience_, {}, alive([done = std::move(done)](const GuestResult& result) {
                   tell_times(result.guest);
                   done(reports_of(result.guest), problem_of(result));
                 }));
}

}  // namespace sealift::daemon

#include "daemon/testing/vm_call.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>

namespace sealift::daemon::testing {

VmCall::VmCall(std::string socket, wire::Envelope request, std::chrono::seconds patience) : patience_(patience) {
  thread_ = std::thread([this, socket = std::move(socket), request = std::move(request)]() mutable {
    wire::VmMoveInfo end;
    try {
      auto client = std::make_unique<cli::Client>(socket);
      {
        const std::lock_guard lock(mutex_);
        client_ = std::move(client);
      }
      end = client_
                ->call(std::move(request),
                       [this](const wire::Envelope& notice) {
                         const std::lock_guard lock(mutex_);
                         const wire::VmMoveInfo& info = notice.vm_move_info();
                         // RAM flows on in the two steps behind pre-copy, which may be there within milliseconds.
                         const bool flows = info.detail() == "checkpoint" || info.detail() == "converge" ||
                                            (info.detail() == "precopy" && info.ram_transferred() > 0);
                         if (flows) seen_.emplace_back("precopy");
                         if (info.detail() != "precopy") seen_.push_back(info.detail());
                         changed_.notify_all();
                       })
                .vm_move_info();
    } catch (const cli::CommandError& error) {
      *end.mutable_failure() = error.failure();
    }
    const std::lock_guard lock(mutex_);
    end_ = end;
    changed_.notify_all();
  });
}

VmCall::~VmCall() {
  if (::testing::Test::HasFailure()) {
    const std::lock_guard lock(mutex_);
    if (client_) client_->interrupt();
  }
  thread_.join();
}

bool VmCall::reach(const std::string& detail) {
  std::unique_lock lock(mutex_);
  const auto seen = [&] { return std::find(seen_.begin(), seen_.end(), detail) != seen_.end(); };
  changed_.wait_for(lock, patience_, [&] { return seen() || end_; });
  return seen();
}

wire::VmMoveInfo VmCall::end() {
  std::unique_lock lock(mutex_);
  if (!changed_.wait_for(lock, patience_, [&] { return end_.has_value(); })) {
    ADD_FAILURE() << "the move does not end; it was in: " << (seen_.empty() ? "nothing" : seen_.back());
    return {};
  }
  return *end_;
}

}  // namespace sealift::daemon::testing

// VmCall: a `sealift vm migrate` under way, as a person would watch it.
#pragma once

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "cli/client.h"
#include "daemon/wire.pb.h"

namespace sealift::daemon::testing {

class VmCall {
 public:
  VmCall(std::string socket, wire::Envelope request, std::chrono::seconds patience = std::chrono::seconds(60));
  // Waits for the end; in a test that has failed, which may be why there is none, only for the thread.
  ~VmCall();
  // A notice in this step (MoveState's name; pre-copy once RAM has moved); false when patience ends, or when it ended
  // before.
  [[nodiscard]] bool reach(const std::string& detail);
  // How it ended; a refusal is one with phase VM_PHASE_UNSPECIFIED and a failure.
  [[nodiscard]] wire::VmMoveInfo end();

 private:
  const std::chrono::seconds patience_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> seen_;
  std::optional<wire::VmMoveInfo> end_;
  std::unique_ptr<cli::Client> client_;
  std::thread thread_;
};

}  // namespace sealift::daemon::testing

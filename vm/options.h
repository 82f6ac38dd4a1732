// What a person may say about a move, and what QEMU is set to for it.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "vm/problem.h"
#include "vm/qmp_client.h"

namespace sealift::vm {

struct MoveOptions {
  std::uint64_t bandwidth = 0;                    // bytes a second; 0: as much as there is
  std::chrono::milliseconds downtime_limit{300};  // QEMU's own default
  std::chrono::seconds timeout{0};                // until the VM is handed over; 0: none
  std::uint32_t multifd = 0;                      // connections for RAM; 0: the one
  std::string compress;                           // "", "zlib", "zstd" (of multifd)
  bool without_enclaves = false;                  // nobody asks the guest; what enclaves it has are lost
  bool force = false;                             // move even if some enclave cannot
};

[[nodiscard]] std::optional<Problem> invalid(const MoveOptions& options);

// The same on both sides.
//  x-ignore-shared: EPC, memory shared with the host, stays behind.
//  pause-before-switchover: QEMU waits for our word between pausing the guest and sending the rest.
//  return-path: the source learns whether the target has loaded the VM; without it a target that hangs passes for good.
//  events: MIGRATION events.
[[nodiscard]] std::vector<QmpCommand> set_up_both(const MoveOptions& options);

}  // namespace sealift::vm

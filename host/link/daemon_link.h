// DaemonLink: a process's connection to the sealiftd of its machine. It registers the process's enclaves and lets the
// daemon migrate them, through each enclave's ControlPort.
//
// Without a daemon everything else works: the link tries again in the background, ever more slowly, and says nothing.
// When the daemon is lost during an attempt, a source that has not committed gets kCancel and runs on; a target that is
// not restored yet is abandoned; the others wait for the daemon to come back.
//
// Threads: any thread may call any method, except from inside a ControlPort call. One thread of the link serves the
// socket, some make the calls (host/link/job_threads.h). All block the asynchronous signals, so that the program's
// handlers run on the program's threads; faults and real-time signals stay open, as the enclave entry needs them.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "host/link/control_port.h"
#include "migration/errc.h"
#include "migration/result.h"

namespace sealift::host {

// How this program can be started again on another host.
struct Program {
  std::string exe;
  std::vector<std::string> argv;
  std::string cwd;
  std::vector<std::string> env;  // NAME=value
};
// This process's own, as it was started. Call early: a program may rewrite its argv or environment.
[[nodiscard]] Program this_program();

struct EnclaveInfo {
  std::string name;
  std::string image;  // path of the signed enclave image
  Program program;
  std::uint64_t elrange_base = 0;
  std::uint64_t elrange_size = 0;
  std::uint64_t epc_bytes = 0;  // that building it takes, its SECS included
  std::array<std::uint8_t, 32> mrenclave{};
};

// What an instance must be built like to take over from a source.
struct Adoption {
  std::uint64_t elrange_base = 0;
  std::uint64_t elrange_size = 0;
  std::array<std::uint8_t, 16> attempt{};
  std::array<std::uint8_t, 32> mrenclave{};
  std::string image;
  std::string name;
};

class DaemonLink {
 public:
  struct Options {
    std::string socket;  // empty: $SEALIFT_SOCKET, or the usual places
    std::chrono::milliseconds first_retry{50};
    std::chrono::milliseconds last_retry{2000};  // well below the time that a restarted daemon waits for its processes
  };
  using EnclaveId = std::uint64_t;

  DaemonLink();
  explicit DaemonLink(Options options);
  // Removes what is still added.
  ~DaemonLink();
  DaemonLink(const DaemonLink&) = delete;
  DaemonLink& operator=(const DaemonLink&) = delete;

  // Registers an enclave, now or whenever there is a daemon. `port` must outlive it. `adopt_token`: it was built for
  // adopt(), and the daemon now restores it.
  EnclaveId add(EnclaveInfo info, ControlPort& port, std::string adopt_token = {});
  // Its status has changed in a way that `sealift ps` should show: started, renamed.
  void updated(EnclaveId id);
  // When it returns, no call to the port is under way and none comes. Waits for the one that is.
  void remove(EnclaveId id);

  // Started with SEALIFT_ADOPT: what the token stands for. kUnknownAttempt: the daemon does not know it (any more);
  // kNoSession: no daemon within `timeout`.
  [[nodiscard]] Result<Adoption> adopt(const std::string& token, std::chrono::milliseconds timeout);
  // The instance could not be built: the source hears why, and runs on.
  void adopt_failed(const std::string& token, Errc error, const std::string& text);

  [[nodiscard]] bool connected() const;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace sealift::host

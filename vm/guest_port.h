// GuestPort: what a VM's move asks of the enclaves inside. One for each VM and host; the daemon implements it over the
// guest's broker.
//
// Threads: the io_context's. Every call is answered once, not from inside the call, unless the port dies first: whoever
// asks has a timer. A port's answers are a guest's word and bounded by the port; nothing that matters to an enclave's
// safety hangs on them.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "vm/problem.h"

namespace sealift::vm {

struct GuestSurvey {
  std::uint32_t enclaves = 0;
  std::uint64_t epc_bytes = 0;        // that these enclaves need, SECS pages and all
  std::uint64_t untouched_bytes = 0;  // of the guest's RAM, about: zeros that lie together
  double checkpoint_seconds = 0;      // that the last checkpoint took, of all together; 0: there was none
};

struct EnclaveReport {
  std::string lineage;  // 16 bytes
  std::string name;
  std::uint64_t epoch = 0;
  std::uint64_t bytes = 0;         // of its checkpoint
  double downtime_seconds = 0;     // 0: not known (yet)
  std::optional<Problem> problem;  // it was left as it is
};

using EnclaveReports = std::vector<EnclaveReport>;

class GuestPort {
 public:
  virtual ~GuestPort() = default;

  using Surveyed = std::function<void(const GuestSurvey&, const std::optional<Problem>&)>;
  using Done = std::function<void(const EnclaveReports&, const std::optional<Problem>&)>;

  // Who is in there. A guest without a broker is a problem.
  virtual void survey(Surveyed done) = 0;

  // On the source. `peer` names the target, with whose agent the enclaves' agent has a link.
  // Attempts, keys, offers: nothing stands still.
  virtual void prepare(const std::string& peer, Done done) = 0;
  // Every enclave stops, lays its records into guest memory, commits; the agent here has the tickets. `force`: an
  // enclave that cannot is reported, and the others go on; otherwise the first such problem is the answer.
  virtual void checkpoint(bool force, Done done) = 0;
  // The VM stays here: what has not committed runs on, what has is rebuilt here. Also after nothing was begun.
  virtual void stay(Done done) = 0;
  // The VM has gone to the other host for good.
  virtual void gone() = 0;

  // On the target: the VM begins to run here. Its enclaves are rebuilt and granted. `peer` names the source.
  virtual void arrive(const std::string& peer, Done done) = 0;
};

}  // namespace sealift::vm

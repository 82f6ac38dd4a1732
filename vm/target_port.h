// TargetPort: the target, as the source's driver of a move sees it: the other host's daemon behind a connection. The
// answers are Move's own calls (vm/driver.h).
#pragma once

#include <cstdint>

#include "vm/facts.h"
#include "vm/guest_port.h"
#include "vm/options.h"

namespace sealift::vm {

class TargetPort {
 public:
  virtual ~TargetPort() = default;
  virtual void connect() = 0;  // → peer_up or peer_gone, which may also come later at any time
  // Check, set up, listen. → target_listening or target_failed
  virtual void open(const Facts& source, const GuestSurvey& guest, const MoveOptions& options) = 0;
  virtual void start() = 0;   // → target_started, then target_activated; or target_failed
  virtual void attach() = 0;  // after a reconnect → target_waiting, target_started, target_activated or target_failed
  virtual void close() = 0;   // the VM stays with the source
  [[nodiscard]] virtual std::string name() const = 0;
};

}  // namespace sealift::vm

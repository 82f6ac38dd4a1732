// ControlPort: what the daemon link may ask of one enclave in this process. The host runtime implements it; the link
// (host/link/daemon_link.h) calls it.
//
// Threads: calls for one enclave never overlap, except `status`, which may come at any time from another thread. They
// come from a worker thread of the link, so each may block as long as it says. None may call back into the DaemonLink.
//
// Order, as the enclave sees it (design §7):
//   source: kAgentHello, kAgentConfirm, quiesce, kDump …, kCommit [, kTicketAgain], then `destroyed`
//           and any time before kCommit: kCancel, then `resumed`
//   target: (kRestore, by the host runtime itself before it registers) kAgentHello, kAgentConfirm, kInstallKey, kRecord
//   …, kReady, kGrant, then `resumed`
//           and any time before kGrant succeeds: `abandoned`
//   in a VM, where one port is both: kAgentHello, kAgentConfirm, quiesce, settle, kDump …, kCommitHeld; then, wherever
//   the VM runs by then: rebuild, and the target's order from kAgentHello to `resumed`. kCommitHeld until `resumed`,
//   the enclave's memory may vanish; a rebuild that failed, or whose instance vanished too, may be repeated.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "migration/abi.h"
#include "migration/errc.h"

namespace sealift::host {

class ControlPort {
 public:
  virtual ~ControlPort() = default;

  // One operation of the control thread, to its end. `in` is the input as abi::ControlOp documents it; `out` is
  // replaced by the output (empty unless kOk is returned). Returns the enclave's answer unchanged, or kCrashed or
  // kEpcLost when there is no enclave to answer.
  [[nodiscard]] virtual Errc control(abi::ControlOp op, std::span<const std::byte> in, std::vector<std::byte>& out) = 0;

  // kDump, for who keeps the output: it is shown where it lies, and gone when this returns.
  using Output = std::function<void(std::span<const std::byte>)>;
  [[nodiscard]] virtual Errc dump(const Output& output) {
    std::vector<std::byte> out;
    const Errc error = control(abi::ControlOp::kDump, {}, out);
    if (error == Errc::kOk) output(out);
    return error;
  }

  // Brings the enclave to a quiescent point: kQuiesce again and again, kicking running threads in between, until none
  // runs. kNotQuiescent when `budget` is over first; the gate is then still closed, and kCancel is what comes next.
  [[nodiscard]] virtual Errc quiesce(std::chrono::milliseconds budget) = 0;

  // After quiesce: waits until nothing depends on the enclave's memory any more: every host thread has left it, or
  // waits parked. kNotQuiescent when `budget` is over first.
  [[nodiscard]] virtual Errc settle(std::chrono::milliseconds /*budget*/) { return Errc::kBadRequest; }

  // After kCommitHeld: builds the enclave again, at the same addresses, and latches the role *restore* for `attempt`.
  // This process's threads stay where they are. `text`: one line for a person, unless kOk.
  [[nodiscard]] virtual Errc rebuild(const std::array<std::uint8_t, 16>& /*attempt*/, std::string& text) {
    text = "this program cannot rebuild its enclave";
    return Errc::kBadRequest;
  }

  // What lies in the control slot is not needed any more, and not worth memory until the next call.
  virtual void trim() {}

  // The gate is open again, after kCancel (source) or kGrant (target): let the host threads that wait for it go on.
  virtual void resumed() = 0;

  // The instance is destroyed and its ticket is safe with the agent: nothing will be asked of this enclave any more.
  virtual void destroyed() = 0;

  // Target only: the attempt ended before the grant, so this instance will never run. `why` is the cause.
  virtual void abandoned(Errc why) = 0;

  // abi::ControlOp::kStatus. May be called at any time, also while another call is being made.
  [[nodiscard]] virtual Errc status(abi::Status& out) = 0;
};

}  // namespace sealift::host

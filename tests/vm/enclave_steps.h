// EnclaveSteps: ways to bring the move of a VM with enclaves inside to a given step and to keep it there, so that a
// test can break it just then. Whatever holds it is a part of the world that stands still: a program of the guest, a
// daemon or an agent that sleeps, a wire that is slow. No step is waited for by time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "tests/vm/enclave_world.h"

namespace sealift::vm_test {

class EnclaveSteps : public EnclaveWorld {
 protected:
  // In prepare, and in the middle of a checkpoint, as long as a program of the guest does not answer: the other one's
  // enclaves are prepared, or held, by then.
  [[nodiscard]] std::unique_ptr<VmCall> stand_in_prepare();
  [[nodiscard]] std::unique_ptr<VmCall> stand_in_the_checkpoint();
  void program_goes_on();
  // So slow that it lasts.
  [[nodiscard]] std::unique_ptr<VmCall> stand_in_precopy();
  // The guest is paused with seconds' worth of RAM left.
  [[nodiscard]] std::unique_ptr<VmCall> stand_in_the_switch();
  // The target's daemon sleeps from pre-copy on: the order to start the VM has reached its host, and is not heard.
  [[nodiscard]] std::unique_ptr<VmCall> hand_over_to_a_sleeper();
  // Between the daemons nothing passes since pre-copy: the order to start the VM has not arrived.
  [[nodiscard]] std::unique_ptr<VmCall> hand_over_to_a_daemon_out_of_reach();
  // The VM runs there; its enclaves are rebuilt, and nothing is granted as the agent there sleeps.
  [[nodiscard]] std::unique_ptr<VmCall> stand_in_activate();

  // It failed, in one line, and everything is as it was.
  void expect_back(VmCall& call, std::uint64_t newer, std::uint64_t newest = 0);
  // It came through after all.
  void expect_done(VmCall& call);

  // 3 MiB/s, from here to the others.
  void slow_wire();
  void fast_wire();
  // What this host says to other daemons is lost; QEMU's stream is not.
  void cut_daemons();
  void join_daemons();

 private:
  [[nodiscard]] std::unique_ptr<VmCall> move_slowly(std::uint64_t bandwidth, std::uint32_t downtime_limit_ms = 0);
};

}  // namespace sealift::vm_test

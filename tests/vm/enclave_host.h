// A host of an EnclaveWorld, in a network namespace of its own, with everything real: a software SGX machine, its
// quoting service, an agent enclave, a sealiftd, room for a QEMU.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "daemon/wire.pb.h"
#include "tests/guest/process.h"
#include "tests/vm/eventually.h"
#include "tests/vm/json_socket.h"

namespace sealift::vm_test {

inline constexpr const char* kIp = "/sbin/ip";

struct EnclaveHost : guest_test::SgxHost {
  EnclaveHost(const std::string& called, const std::filesystem::path& where, std::string space, std::string address);
  // What a guest runs: so many programs with so many enclaves each.
  static constexpr std::size_t kPrograms = 2, kEach = 2;

  void start_daemon();
  void start_qemu(const std::vector<std::string>& options, const std::string& epc = "64M");
  // Its daemon's answer; cli::CommandError.
  [[nodiscard]] wire::Envelope call(wire::Envelope request) const;
  // Its daemon answers, and has its agent.
  [[nodiscard]] bool agent_up() const;
  // "gone", or QEMU's run state, by a monitor that nobody else uses.
  [[nodiscard]] std::string run_state() const;
  // Moves of guests that its daemon would go on with after a restart.
  [[nodiscard]] std::size_t journals() const;
  [[nodiscard]] std::string socket() const { return dir / "sealiftd.sock"; }
  [[nodiscard]] std::string peer() const { return address_ + ":7419"; }
  [[nodiscard]] std::filesystem::path vm() const { return dir / "vm"; }
  [[nodiscard]] GuestAgent guest() const { return GuestAgent(vm() / "org.qemu.guest_agent.0.sock"); }

  const std::string space_, address_;
  std::unique_ptr<guest_test::Process> daemon, qemu;
};

}  // namespace sealift::vm_test

// VmCluster: two hosts in network namespaces of their own, joined by one wire that a test can slow down or cut; on each
// a real sealiftd, an agent with fake links, and a real QEMU whose guest counts (vm/testing/guest.S).
//
// Needs root, for the namespaces; without, every test is skipped and says so.
#pragma once

#include <nlohmann/json.hpp>

#include "daemon/testing/cluster.h"
#include "daemon/testing/vm_call.h"

namespace sealift::daemon::testing {

class VmCluster : public Cluster {
 protected:
  void SetUp() override;
  void TearDown() override;
  void make_hosts() override;

  static constexpr const char* kCpu = "max,-pku";
  // Its monitors: qmp.sock for sealiftd, look.sock for the test. Killed by TearDown.
  pid_t start_qemu(Host& host, const std::vector<std::string>& more = {}, const char* cpu = kCpu);
  // Both QEMUs, B's with -incoming defer, both known as "web".
  void start_both(const std::vector<std::string>& more = {});
  void add(Host& host, const std::string& channel = "", const std::string& qmp = "");
  [[nodiscard]] std::unique_ptr<VmCall> move(Host& from, Host& to, const wire::VmOptions& options = plain());
  wire::VmMoveInfo cancel(Host& host);
  [[nodiscard]] wire::VmRow row(Host& host);
  [[nodiscard]] static wire::VmOptions plain();  // without enclaves

  void slow_wire();  // 2 MiB/s, and the guest writes more
  void cut_wire();
  void join_wire();

  // QEMU's run state by its second monitor; "gone".
  std::string run_state(Host& host);
  // QEMU says that a migration is completed before its run state does.
  void expect_reaches(Host& host, const std::string& state);
  nlohmann::json ask(Host& host, const std::string& command,
                     const nlohmann::json& arguments = nlohmann::json::object());
  // The guest's last count on this host; 0: it has never run here.
  std::uint64_t count(Host& host);
  // It counts there, its memory is what it wrote, and it does not count on the other host.
  void expect_runs_only_on(Host& host);

  std::map<std::string, pid_t> qemu_;

 private:
  void ip(const std::string& arguments);
  [[nodiscard]] std::string space(const Host& host) const;
  std::string prefix_;
  int started_ = 0;  // QEMUs
};

}  // namespace sealift::daemon::testing

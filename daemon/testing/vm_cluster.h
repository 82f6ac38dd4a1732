// VmCluster: two hosts in network namespaces of their own, joined by one wire that a test can slow down or cut; on each
// a real sealiftd, an agent with fake links, and a real QEMU whose guest counts (vm/testing/guest.S).
//
// Needs root, for the namespaces; without, every test is skipped and says so.
#pragma once

#include <condition_variable>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "daemon/testing/cluster.h"

namespace sealift::daemon::testing {

// A `sealift vm migrate` under way, as a person would watch it.
class VmCall {
 public:
  VmCall(std::string socket, wire::Envelope request);
  ~VmCall();
  // A notice in this step (MoveState's name; pre-copy once RAM has moved); false after a minute, or when it ended
  // before.
  [[nodiscard]] bool reach(const std::string& detail);
  // How it ended; a refusal is one with phase VM_PHASE_UNSPECIFIED and a failure.
  [[nodiscard]] wire::VmMoveInfo end();

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> seen_;
  std::optional<wire::VmMoveInfo> end_;
  std::thread thread_;
};

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

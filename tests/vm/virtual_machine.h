// Hosts and virtual machines of a test: real QEMU processes under TCG, started by scripts/vm-run.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "tests/vm/eventually.h"
#include "tests/vm/json_socket.h"

namespace sealift::vm_test {

// A folder under /dev/shm that goes with the object.
class TestFolder {
 public:
  TestFolder();
  ~TestFolder();
  TestFolder(const TestFolder&) = delete;
  TestFolder& operator=(const TestFolder&) = delete;
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// Runs a command of the host to its end.
struct Finished {
  int status = -1;
  std::string output;  // stdout and stderr
};
Finished run_on_host(const std::string& command);

// One host: an SGX machine, and the EPC section that waits for a VM. No daemon.
class Host {
 public:
  Host(const TestFolder& folder, const std::string& name);
  [[nodiscard]] const std::filesystem::path& folder() const { return folder_; }
  [[nodiscard]] std::string machine() const { return folder_ / "host.machine"; }
  [[nodiscard]] std::string section() const { return folder_ / "vm.section"; }

 private:
  std::filesystem::path folder_;
};

struct GuestOptions {
  std::string script;              // runs in the guest at its start
  std::vector<std::string> files;  // FILE=PATH: put into the guest
};

// A QEMU. Killed with the object.
class VirtualMachine {
 public:
  // Boots.
  VirtualMachine(const Host& host, const GuestOptions& options);
  // Waits for a migration.
  explicit VirtualMachine(const Host& host);
  ~VirtualMachine();
  VirtualMachine(const VirtualMachine&) = delete;
  VirtualMachine& operator=(const VirtualMachine&) = delete;

  [[nodiscard]] Qmp& qmp() { return *qmp_; }
  [[nodiscard]] GuestAgent guest() const { return GuestAgent(folder_ / "org.qemu.guest_agent.0.sock"); }
  [[nodiscard]] std::string console() const;
  // Until the console has shown `text`; throws with the console's end if it does not come.
  void wait_for_console(const std::string& text, std::chrono::seconds patience = kPatience) const;
  // What somebody who knows QEMU and nothing of Sealift does; returns when `to` runs.
  void migrate_plainly(VirtualMachine& to);

 private:
  void start_qemu(const Host& host, const std::vector<std::string>& options);
  std::filesystem::path folder_;
  pid_t pid_ = -1;
  std::unique_ptr<Qmp> qmp_;
};

}  // namespace sealift::vm_test

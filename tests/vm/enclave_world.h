// EnclaveWorld: hosts in network namespaces of their own, on one switch, each with everything real: a software SGX
// machine, its quoting service, an agent enclave, a sealiftd, room for a QEMU. One VM with enclaves inside, in several
// processes, and a checker of guest memory beside them. A test breaks something, then looks at both sides.
//
// The hosts and the VM stay from test to test, wherever the last one left it: here() is where it runs, there() the
// other host, in whose QEMU nothing runs. After a failed test all is made anew.
//
// Needs root, for the namespaces; without, every test is skipped and says so.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "daemon/testing/vm_call.h"
#include "daemon/wire.pb.h"
#include "tests/vm/enclave_host.h"

namespace sealift::vm_test {

using daemon::testing::VmCall;

// What a guest's program says of one of its enclaves.
struct Counted {
  std::uint64_t acked = 0, value = 0, epoch = 0;
  bool consistent = false;
  std::string error;
};

[[nodiscard]] std::string to_hex(const std::string& bytes);
[[nodiscard]] std::string from_hex(const std::string& digits);

class EnclaveWorld : public ::testing::Test {
 public:
  static constexpr std::size_t kPrograms = EnclaveHost::kPrograms, kEach = EnclaveHost::kEach;
  static constexpr std::size_t kEnclaves = kPrograms * kEach;

 protected:
  static void TearDownTestSuite();
  void SetUp() override;
  void TearDown() override;

  [[nodiscard]] EnclaveHost& here() const { return *hosts_[at_]; }
  [[nodiscard]] EnclaveHost& there() const { return *hosts_[1 - at_]; }
  // A third host, for the time of a test.
  [[nodiscard]] std::unique_ptr<EnclaveHost> another_host();

  // Both daemons know the VM as "web".
  void add(const EnclaveHost& host, const std::string& qmp = "", const std::string& channel = "");
  [[nodiscard]] wire::VmRow row(const EnclaveHost& host);
  std::unique_ptr<VmCall> move(const EnclaveHost& from, const EnclaveHost& to, const wire::VmOptions& options = {});
  wire::VmMoveInfo cancel(const EnclaveHost& host);
  // A QEMU there that waits for the VM, whatever was there before.
  void wait_there(const std::string& epc = "64M");
  // It writes what is there already, more than may be sent: QEMU does not switch over. expect_all_run_here() ends it.
  void write_in_guest();
  // Its enclaves have committed, and as the guest writes more than may be sent QEMU does not switch over.
  [[nodiscard]] std::unique_ptr<VmCall> move_and_stand_after_the_commit();

  void cut_wire(const EnclaveHost& host);
  void join_wire(const EnclaveHost& host);
  // A command in the host's network namespace.
  static void in_space(const EnclaveHost& host, const std::string& command);

  // A program of the guest stands still, as if what is inside did not come to rest.
  static constexpr const char* kStopProgram = "kill -STOP $(cat /run/program.1.pid)";
  static constexpr const char* kProgramGoesOn = "kill -CONT $(cat /run/program.1.pid)";

  // A command in the guest, where it runs now.
  std::string in_guest(const std::string& command);
  std::vector<Counted> ask(std::size_t program);
  void wait_enclaves(const EnclaveHost& host, std::size_t count = kEnclaves);
  // QEMU says that a migration is completed before its run state does.
  static void expect_reaches(const EnclaveHost& host, const std::string& state);
  // The VM runs here and nowhere else; every enclave answers, counts on from where it was and is so many epochs on (or,
  // where a test cannot know, so many at the least and at most); guest memory is what was written to it.
  void expect_all_run_here(std::uint64_t newer, std::uint64_t newest = 0);
  // One program's.
  void expect_enclaves(std::size_t program, std::uint64_t newer = 0, std::uint64_t newest = 0);
  // The VM can still be moved: it is, and runs there.
  void expect_moves_on();
  // It has been moved: here() and there() change places.
  void arrived_there();
  // It is not asked any more; the next test begins with another VM.
  void lose_program(std::size_t program);

 private:
  static void ip(const std::string& arguments);
  static void make_hosts();
  static std::unique_ptr<EnclaveHost> make_host(const std::string& name, int last);

  static std::string prefix_;
  static std::filesystem::path root_;
  static std::vector<std::unique_ptr<EnclaveHost>> hosts_;
  static std::size_t at_;
  // Of each enclave, by program and number.
  struct Seen {
    std::uint64_t value = 0, epoch = 1;
  };
  static std::map<std::pair<std::size_t, std::size_t>, Seen> seen_;
  static std::set<std::size_t> lost_;
};

}  // namespace sealift::vm_test

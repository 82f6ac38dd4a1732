// A VM with an enclave, on real QEMUs, moved by somebody who knows QEMU and nothing of Sealift.
#include <gtest/gtest.h>

#include "tests/vm/eventually.h"
#include "tests/vm/virtual_machine.h"

namespace sealift::vm_test {
namespace {

const std::string kIntegrity = "vm-integrity --mib 48 >/run/integrity.log & echo $! >/run/integrity.pid\n";

// Ends the integrity checker of the guest; what it said last.
std::string integrity_verdict(GuestAgent& guest) {
  return guest
      .run(
          "kill -TERM $(cat /run/integrity.pid); until grep -qE 'clean|CORRUPT' /run/integrity.log; do usleep 20000; "
          "done;"
          "tail -n 1 /run/integrity.log")
      .output;
}

constexpr std::size_t kProcesses = 4;

std::size_t occurrences(const std::string& text, const std::string& what) {
  std::size_t n = 0;
  for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++n;
  return n;
}

// What an enclave of the guest says about itself to an enclave of the same identity on its machine.
std::string guest_report(GuestAgent& guest) {
  const auto made =
      guest.run("ABI_KEY=/key.pem ABI_ENCLAVE=/opt/sealift/bin/test_enclave softsgx run auto -- vm-report make");
  EXPECT_EQ(made.status, 0) << made.output;
  return made.output.substr(0, made.output.find('\n'));
}

std::string check_report(const Host& host, const std::string& report) {
  const std::string bin = SEALIFT_BIN_DIR;
  return run_on_host(bin + "/softsgx run " + host.machine() + " -- " + bin + "/vm-report check " + report).output;
}

TEST(PlainMigration, LosesTheEnclaveAndTheProcessSaysSoAndGoesOn) {
  const TestFolder folder;
  const Host a(folder, "a"), b(folder, "b");
  // Several processes at once: whoever builds anew first must not hurt those that have not noticed yet.
  const std::string enclaves =
      "for i in 1 2 3 4; do softsgx run auto -- vm-enclave /opt/sealift/bin/tiny.enclave >/run/enclave.$i 2>&1 & done\n"
      "until [ $(cat /run/enclave.* | grep -c counting) -ge 4 ]; do usleep 20000; done; echo all count\n"
      "until [ $(cat /run/enclave.* | grep -c 'a new enclave') -ge 4 ]; do usleep 20000; done; echo all count again\n";
  auto source = std::make_unique<VirtualMachine>(a, GuestOptions{.script = kIntegrity + enclaves, .files = {}});
  VirtualMachine target(b);
  source->wait_for_console("all count");

  source->migrate_plainly(target);
  target.wait_for_console("all count again");
  const std::string said = target.guest().run("cat /run/enclave.*").output;
  EXPECT_EQ(occurrences(said, "memory is gone"), kProcesses) << said;
  EXPECT_EQ(occurrences(said, "goes on"), kProcesses) << said;
  EXPECT_EQ(occurrences(said, "a new enclave counted to 1000"), kProcesses) << said;

  // The source's section is as the source left it; the target's was the one in use.
  const std::string softsgx = std::string(SEALIFT_BIN_DIR) + "/softsgx info --json ";
  EXPECT_NE(run_on_host(softsgx + a.section()).output.find("\"enclaves\": 4"), std::string::npos);
  // The programs told of their new enclaves just before they let go of them.
  std::string there;
  const auto gone = [&] {
    there = run_on_host(softsgx + b.section()).output;
    return there.find("\"enclaves\": 0") != std::string::npos;
  };
  EXPECT_TRUE(eventually(gone, std::chrono::seconds(60))) << there;

  // Back on the first host it does not find the enclave that it left there.
  source.reset();
  VirtualMachine back(a);
  target.migrate_plainly(back);
  GuestAgent guest = back.guest();
  const std::string info = guest.run("softsgx info --json auto").output;
  EXPECT_NE(info.find("\"enclaves\": 0"), std::string::npos) << info;
  EXPECT_NE(info.find("\"epc_free_bytes\": 67108864"), std::string::npos) << info;
  EXPECT_EQ(integrity_verdict(guest), "integrity: clean\n");
}

TEST(LocalAttestation, OfAGuestsEnclaveHoldsOnItsHostAndNowhereElse) {
  const TestFolder folder;
  const Host a(folder, "a"), b(folder, "b");
  const std::string key = folder.path() / "key.pem";
  ASSERT_EQ(run_on_host(
                "openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:3072 -pkeyopt rsa_keygen_pubexp:3 -out " + key)
                .status,
            0);
  VirtualMachine source(a, {.script = kIntegrity, .files = {key + "=/key.pem"}});
  VirtualMachine target(b);
  source.wait_for_console("sealift-guest: up");
  GuestAgent on_a = source.guest();
  const std::string before = guest_report(on_a);
  EXPECT_EQ(check_report(a, before), "verified\n");
  EXPECT_EQ(check_report(b, before), "refused\n");

  source.migrate_plainly(target);
  GuestAgent on_b = target.guest();
  const std::string after = guest_report(on_b);
  EXPECT_EQ(check_report(a, after), "refused\n");
  EXPECT_EQ(check_report(b, after), "verified\n");
  EXPECT_EQ(integrity_verdict(on_b), "integrity: clean\n");
}

}  // namespace
}  // namespace sealift::vm_test

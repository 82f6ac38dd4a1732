// An application process for tests: the real link, a fake enclave. Arguments: folder, name, lineage, records. Which
// machine it is on, it reads from its environment, as with softsgx.
#include <cstdlib>
#include <iostream>
#include <string>

#include "daemon/testing/fake_enclave.h"
#include "daemon/testing/stage.h"
#include "host/link/daemon_link.h"

int main(int argc, char** argv) {
  using namespace sealift;
  if (argc != 5) {
    std::cerr << "usage: fake_program FOLDER NAME LINEAGE RECORDS\n";
    return 2;
  }
  const char* machine = std::getenv("SOFTSGX_TEST_MACHINE");
  const char* token = std::getenv("SEALIFT_ADOPT");
  const std::string where = machine != nullptr ? machine : "a";
  const daemon::testing::Stage stage(argv[1], std::string(token != nullptr ? "target-" : "source-") + where);
  stage.tell("started");
  daemon::testing::FakeOptions options;
  options.machine = static_cast<std::uint8_t>(where[0]);
  options.lineage = static_cast<std::uint8_t>(std::stoi(argv[3]));
  options.records = static_cast<std::uint32_t>(std::stoi(argv[4]));
  daemon::testing::FakeEnclave enclave(options, stage);

  host::DaemonLink link;
  host::EnclaveInfo info;
  info.name = argv[2];
  info.image = "fake.enclave";
  info.program = host::this_program();
  info.elrange_base = 0x100000000;
  info.elrange_size = 0x10000000;
  if (token == nullptr) {
    enclave.start();
  } else {
    stage.reach("adopt");
    const auto adoption = link.adopt(token, std::chrono::seconds(60));
    if (!adoption.ok()) {
      stage.tell("orphaned", errc_name(adoption.error()));
      return 1;
    }
    info.elrange_base = adoption->elrange_base;
    enclave.restore(adoption->attempt);
  }
  const auto id = link.add(info, enclave, token != nullptr ? token : "");
  enclave.wait_until_over();
  link.remove(id);
  return 0;
}

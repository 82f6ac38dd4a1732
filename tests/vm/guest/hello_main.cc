// vm-hello IMAGE HELLO: what an enclave answers to an agent's hello (messages::AgentHello, in hexadecimal digits): a
// messages::EnclaveHello with a REPORT that is addressed to that agent, as the machine makes it on which this runs.
#include <iostream>
#include <span>
#include <string>
#include <vector>

#include "host/image.h"
#include "host/instance.h"

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: vm-hello IMAGE HELLO\n";
    return 2;
  }
  try {
    const std::string hex = argv[2];
    std::vector<std::byte> hello, answer;
    for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
      hello.push_back(static_cast<std::byte>(std::stoul(hex.substr(i, 2), nullptr, 16)));
    }
    sealift::host::Instance instance(sealift::host::Image::load(argv[1]), std::nullopt);
    instance.start({});
    const sealift::Errc error = instance.control(sealift::abi::ControlOp::kAgentHello, hello, answer);
    if (error != sealift::Errc::kOk) {
      std::cerr << "vm-hello: " << sealift::errc_name(error) << '\n';
      return 1;
    }
    static constexpr char kDigits[] = "0123456789abcdef";
    for (const std::byte each : answer) {
      std::cout << kDigits[std::to_integer<unsigned>(each) >> 4] << kDigits[std::to_integer<unsigned>(each) & 15];
    }
    std::cout << std::endl;
  } catch (const std::exception& error) {
    std::cerr << "vm-hello: " << error.what() << '\n';
    return 1;
  }
  return 0;
}

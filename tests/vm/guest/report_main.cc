// vm-report make | vm-report check HEX: local attestation between two instances of one enclave.
//
// `make` prints a REPORT that is addressed to an enclave of the same identity; `check` builds one on this machine, gets
// its report key by EGETKEY and verifies the MAC. The enclave is the one of softsgx's ABI tests, which does what it is
// told, so that the attestation is the CPU's alone.
#include <openssl/evp.h>

#include <array>
#include <cstring>
#include <iostream>
#include <string>

#include "sgx/arch.h"
#include "softsgx/tests/abi/call.h"
#include "softsgx/tests/abi/enclave/interface.h"
#include "softsgx/tests/abi/loader.h"

namespace {

using namespace third_party;

// Heap pages that serve as operands of ENCLU.
constexpr std::uint64_t kIn = 0, kData = 0x1000, kOut = 0x2000, kHeapPages = 4;

class Prover {
 public:
  Prover() : enclave_({.xfrm = sgx::xfrm::kLegacy | sgx::xfrm::kAvx, .heap_pages = kHeapPages}) {}
  [[nodiscard]] bool ready() const {
    if (enclave_.error() == 0) return true;
    std::cerr << "vm-report: cannot build the enclave: " << enclave_.failed_step() << ": "
              << std::strerror(enclave_.error()) << '\n';
    return false;
  }

  sgx::Report report(const sgx::Targetinfo& target) {
    put(kIn, &target, sizeof target);
    leaf(sgx::Enclu::kEreport, {at(kIn), at(kData), at(kOut)});
    sgx::Report r;
    get(kOut, &r, sizeof r);
    return r;
  }
  std::array<std::uint8_t, 16> report_key(const sgx::Report& r) {
    sgx::Keyrequest request{};
    request.keyname = sgx::KeyName::kReport;
    std::memcpy(request.keyid, r.keyid, sizeof request.keyid);
    put(kIn, &request, sizeof request);
    leaf(sgx::Enclu::kEgetkey, {at(kIn), at(kOut), 0});
    std::array<std::uint8_t, 16> key;
    get(kOut, key.data(), key.size());
    return key;
  }

 private:
  [[nodiscard]] std::uint64_t at(std::uint64_t offset) const { return enclave_.heap() + offset; }
  void leaf(sgx::Enclu number, const EncluCall& operands) {
    run(enclave_.tcs(), kEnclu, static_cast<std::uint64_t>(number), reinterpret_cast<std::uint64_t>(&operands));
  }
  void put(std::uint64_t offset, const void* from, std::size_t bytes) {
    for (std::size_t i = 0; i < bytes; ++i) {
      run(enclave_.tcs(), kWrite, at(offset) + i, static_cast<const std::uint8_t*>(from)[i]);
    }
  }
  void get(std::uint64_t offset, void* to, std::size_t bytes) {
    for (std::size_t i = 0; i < bytes; ++i) {
      static_cast<std::uint8_t*>(to)[i] = static_cast<std::uint8_t>(run(enclave_.tcs(), kRead, at(offset) + i));
    }
  }
  TestEnclave enclave_;
};

int make() {
  Prover prover;
  if (!prover.ready()) return 2;
  const sgx::Report self = prover.report({});
  sgx::Targetinfo target{};
  target.measurement = self.body.mrenclave;
  target.attributes = self.body.attributes;
  target.miscselect = self.body.miscselect;
  const sgx::Report report = prover.report(target);
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  for (std::size_t i = 0; i < sizeof report; ++i) {
    const std::uint8_t byte = reinterpret_cast<const std::uint8_t*>(&report)[i];
    hex += {kDigits[byte >> 4], kDigits[byte & 15]};
  }
  std::cout << hex << std::endl;
  return 0;
}

int check(const std::string& hex) {
  sgx::Report report;
  if (hex.size() != 2 * sizeof report || hex.find_first_not_of("0123456789abcdef") != std::string::npos) {
    std::cerr << "vm-report: that is no report\n";
    return 2;
  }
  for (std::size_t i = 0; i < sizeof report; ++i) {
    reinterpret_cast<std::uint8_t*>(&report)[i] =
        static_cast<std::uint8_t>(std::stoul(hex.substr(2 * i, 2), nullptr, 16));
  }
  Prover prover;
  if (!prover.ready()) return 2;
  const auto key = prover.report_key(report);
  std::array<std::uint8_t, 16> mac{};
  std::size_t length = 0;
  const bool computed = EVP_Q_mac(nullptr, "CMAC", nullptr, "AES-128-CBC", nullptr, key.data(), key.size(),
                                  reinterpret_cast<const std::uint8_t*>(&report.body), sizeof report.body, mac.data(),
                                  mac.size(), &length);
  const bool good = computed && std::memcmp(mac.data(), report.mac, mac.size()) == 0;
  std::cout << (good ? "verified" : "refused") << std::endl;
  return good ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && std::string(argv[1]) == "make") return make();
  if (argc == 3 && std::string(argv[1]) == "check") return check(argv[2]);
  std::cerr << "usage: vm-report make | vm-report check HEX\n";
  return 2;
}

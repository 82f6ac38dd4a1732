// Builds enclaves in a real machine file, for the tests of this folder.
#pragma once

#include <gtest/gtest.h>
#include <openssl/evp.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "softsgx/isa/encls.h"
#include "softsgx/isa/enclu.h"
#include "softsgx/isa/leaf.h"
#include "softsgx/isa/machine.h"

namespace softsgx::test {

using Page = std::array<std::byte, sgx::kPageSize>;

// A page table: what the driver implements for real.
class PageTable : public AddressSpace {
 public:
  [[nodiscard]] EpcIndex epc_page(std::uint64_t linaddr) const noexcept override {
    const auto it = pages_.find(linaddr / sgx::kPageSize);
    return it == pages_.end() ? kNotEpc : it->second;
  }
  void map(std::uint64_t linaddr, EpcIndex page) { pages_[linaddr / sgx::kPageSize] = page; }
  void unmap(std::uint64_t linaddr) { pages_.erase(linaddr / sgx::kPageSize); }

 private:
  std::map<std::uint64_t, EpcIndex> pages_;
};

// Signs with a key made once for the process (RSA-3072, exponent 3).
EVP_PKEY* signing_key();
EVP_PKEY* other_signing_key();
// Fills in modulus, signature, q1 and q2.
void sign(sgx::Sigstruct& sigstruct, EVP_PKEY* key);
// Header, attributes and hash as SECS `secs` wants them, unsigned.
sgx::Sigstruct unsigned_sigstruct(const sgx::Secs& secs, const sgx::Measurement& mrenclave);

inline constexpr std::uint64_t kBase = 0x7f0000000000;
inline constexpr std::uint64_t kSize = 0x20000;

sgx::Secs plain_secs();
sgx::Secinfo secinfo(sgx::PageType type, std::uint64_t flags = 0);

// An enclave under construction. Layout: 0 code (R X), 1 data (R W), 2 TCS, 3 and 4 SSA frames, 5 second TCS and 6, 7
// its SSA frames. EAUG and more EADDs may use the rest of ELRANGE.
class Enclave {
 public:
  enum Offset : std::uint64_t {
    kCode = 0,
    kData = 0x1000,
    kTcs = 0x2000,
    kSsa = 0x3000,
    kTcs2 = 0x5000,
    kSsa2 = 0x6000,
    kFree = 0x8000
  };

  explicit Enclave(Machine& m, const sgx::Secs& secs = plain_secs());
  // The pages above, measured.
  void add_layout();
  EpcIndex add(std::uint64_t offset, const Page& page, const sgx::Secinfo& info, bool measured = true);
  EpcIndex augment(std::uint64_t offset);
  // EINIT with a correct SIGSTRUCT; `edit` may change it before it is signed.
  Leaf init(const std::function<void(sgx::Sigstruct&)>& edit = {}, EVP_PKEY* key = signing_key());

  [[nodiscard]] EpcIndex page(std::uint64_t offset) const { return table.epc_page(kBase + offset); }
  [[nodiscard]] std::byte* bytes(std::uint64_t offset) const { return m.page(page(offset)) + offset % sgx::kPageSize; }
  template <typename T>
  void put(std::uint64_t offset, const T& value) {
    std::memcpy(bytes(offset), &value, sizeof(value));
  }
  template <typename T>
  [[nodiscard]] T get(std::uint64_t offset) const {
    T value;
    std::memcpy(&value, bytes(offset), sizeof(value));
    return value;
  }
  EpcIndex allocate();

  Machine& m;
  EpcIndex secs = kNotEpc;
  PageTable table;
};

// A thread of the host program.
struct Thread {
  LogicalProcessor lp;
  Registers regs;
  XsaveImage xsave;
  Thread();
  Leaf enter(Enclave& e, std::uint64_t tcs = Enclave::kTcs);
  Leaf exit(Enclave& e);
  Leaf resume(Enclave& e, std::uint64_t tcs = Enclave::kTcs);
  void interrupt(Enclave& e, const enclu::AexEvent& event = {});
  // Any leaf, by number.
  Leaf execute(Enclave& e, sgx::Enclu leaf);
};

inline constexpr std::uint64_t kAep = 0x401000;

class MachineTest : public testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;
  std::unique_ptr<Machine> create(const std::string& name, CreateOptions options = {});
  [[nodiscard]] std::string file(const std::string& name) const { return directory_ / name; }

  std::filesystem::path directory_;
  std::unique_ptr<Machine> machine_;  // 256 pages, all of XFRM up to AVX-512 allowed
};

inline bool gp(const Leaf& l) {
  return l.fault.kind == Fault::Kind::kGp;
}
inline bool pf(const Leaf& l) {
  return l.fault.kind == Fault::Kind::kPf;
}
inline bool pf_at(const Leaf& l, std::uint64_t address) {
  return pf(l) && l.fault.address == address;
}
inline bool returns(const Leaf& l, sgx::Error e) {
  return !l.faulted() && l.error == e;
}

}  // namespace softsgx::test

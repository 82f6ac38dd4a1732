// CMAC and EGETKEY.
#include "softsgx/isa/keys.h"

#include <atomic>
#include <cstdlib>
#include <set>
#include <thread>

#include "softsgx/isa/key_fixture.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MALLOC_IS_THE_SANITIZERS 1
#else
namespace {
std::atomic<int> allocations{0};
}
// The whole program's, by which every library comes.
extern "C" void* __libc_malloc(std::size_t n);
extern "C" void* __libc_calloc(std::size_t n, std::size_t size);
extern "C" void* __libc_realloc(void* p, std::size_t n);
extern "C" void* malloc(std::size_t n) {
  ++allocations;
  return __libc_malloc(n);
}
extern "C" void* calloc(std::size_t n, std::size_t size) {
  ++allocations;
  return __libc_calloc(n, size);
}
extern "C" void* realloc(void* p, std::size_t n) {
  ++allocations;
  return __libc_realloc(p, n);
}
#endif

namespace softsgx::test {
namespace {

namespace policy = sgx::keypolicy;

std::vector<std::byte> from_hex(const std::string& hex) {
  std::vector<std::byte> out;
  for (std::size_t i = 0; i < hex.size(); i += 2)
    out.push_back(static_cast<std::byte>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  return out;
}
Key key_from_hex(const std::string& hex) {
  const auto bytes = from_hex(hex);
  Key k;
  std::memcpy(k.data(), bytes.data(), k.size());
  return k;
}

// NIST SP 800-38B, appendix D.1 (the same vectors are in RFC 4493, section 4).
TEST(Cmac, IsNists) {
  const Key k = key_from_hex("2b7e151628aed2a6abf7158809cf4f3c");
  const std::string m =
      "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17"
      "ad2b417"
      "be66c3710";
  EXPECT_EQ(keys::cmac(k, {}), key_from_hex("bb1d6929e95937287fa37d129b756746"));
  EXPECT_EQ(keys::cmac(k, from_hex(m.substr(0, 32))), key_from_hex("070a16b46b4d4144f79bdd9dd04a287c"));
  EXPECT_EQ(keys::cmac(k, from_hex(m.substr(0, 80))), key_from_hex("dfa66747de9ae63030ca32611497c827"));
  EXPECT_EQ(keys::cmac(k, from_hex(m)), key_from_hex("51f0bebf7e3b9d92fc49741779363cfe"));
}

TEST(Cmac, DoesNotAllocate) {
#ifdef MALLOC_IS_THE_SANITIZERS
  GTEST_SKIP() << "allocations cannot be counted under a sanitizer";
#else
  const Key k{};
  const int at_first = allocations;
  void* volatile some = std::malloc(1);
  std::free(some);
  const int before = allocations;
  EXPECT_GT(before, at_first) << "they are counted";
  for (int i = 0; i < 100; ++i) static_cast<void>(keys::cmac(k, std::as_bytes(std::span(&k, 1))));
  EXPECT_EQ(allocations, before);
#endif
}

TEST(Cmac, ManyThreadsAtOnce) {
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 100; ++i) {
    threads.emplace_back([i, &wrong] {
      Key k{};
      k[0] = static_cast<std::uint8_t>(i);
      const Key expected = keys::cmac(k, {});
      for (int n = 0; n < 200; ++n) wrong += keys::cmac(k, {}) != expected;
    });
  }
  for (auto& t : threads) t.join();
  EXPECT_EQ(wrong, 0);
}

TEST_F(KeyTest, IsStable) {
  const auto r = request(KeyName::kSeal);
  EXPECT_EQ(key(r), key(r));
  EXPECT_EQ(thread_.regs.rax, 0u);
  EXPECT_EQ(thread_.regs.rflags & rflags::kZf, 0u);
}

TEST_F(KeyTest, EverythingInTheRequestMatters) {
  std::set<Key> keys;
  std::size_t n = 0;
  const auto expect_new = [&](const sgx::Keyrequest& r, const char* what) {
    keys.insert(key(r));
    EXPECT_EQ(keys.size(), ++n) << what;
  };
  auto r = request(KeyName::kSeal);
  expect_new(r, "MRSIGNER");
  expect_new(request(KeyName::kSeal, policy::kMrenclave), "MRENCLAVE");
  expect_new(request(KeyName::kSeal, policy::kMrsigner | policy::kMrenclave), "both");
  expect_new(request(KeyName::kSeal, policy::kMrsigner | policy::kNoIsvprodid), "NOISVPRODID");
  expect_new(request(KeyName::kSeal, policy::kMrsigner | policy::kConfigid), "CONFIGID");
  expect_new(request(KeyName::kSeal, policy::kMrsigner | policy::kIsvfamilyid), "ISVFAMILYID");
  expect_new(request(KeyName::kSeal, policy::kMrsigner | policy::kIsvextprodid), "ISVEXTPRODID");
  r.isvsvn = 4;
  expect_new(r, "ISVSVN");
  r.keyid[31] = 1;
  expect_new(r, "KEYID");
  r.cpusvn[0] = 1;
  expect_new(r, "CPUSVN");
  r.attributemask.flags = 0;
  expect_new(r, "ATTRIBUTEMASK");
  r.attributemask.xfrm = 0;
  expect_new(r, "XFRM mask");
  r.miscmask = 0;
  expect_new(r, "MISCMASK");
  r.keypolicy |= policy::kConfigid;
  expect_new(r, "CONFIGID, CONFIGSVN 0");
  r.configsvn = 2;
  expect_new(r, "CONFIGSVN");
  expect_new(request(KeyName::kProvision), "provisioning");
  expect_new(request(KeyName::kProvisionSeal), "provisioning seal");
  expect_new(request(KeyName::kReport), "report");
}

TEST_F(KeyTest, SealKeyToSignerIsSharedByItsEnclaves) {
  const auto sibling = make(*machine_, kss_secs(), [](auto& s) { s.swdefined = 1; });
  Enclave other(*machine_, kss_secs());
  other.add_layout();
  other.add(Enclave::kFree, {}, secinfo(sgx::PageType::kReg, sgx::secinfo::kR));
  ASSERT_TRUE(other.init().ok());
  const auto stranger = make(*machine_, kss_secs(), {}, other_signing_key());
  const Key by_signer = key(request(KeyName::kSeal));
  const Key by_enclave = key(request(KeyName::kSeal, policy::kMrenclave));
  EXPECT_EQ(key_in(*sibling, request(KeyName::kSeal)), by_signer);
  EXPECT_EQ(key_in(*sibling, request(KeyName::kSeal, policy::kMrenclave)), by_enclave);
  EXPECT_EQ(key_in(other, request(KeyName::kSeal)), by_signer);
  EXPECT_NE(key_in(other, request(KeyName::kSeal, policy::kMrenclave)), by_enclave);
  EXPECT_NE(key_in(*stranger, request(KeyName::kSeal)), by_signer);
  EXPECT_EQ(key_in(*stranger, request(KeyName::kSeal, policy::kMrenclave)), by_enclave);
}

TEST_F(KeyTest, DebugEnclavesNeverShareKeysWithProductionOnes) {
  sgx::Secs debug = kss_secs();
  debug.attributes.flags |= sgx::attribute::kDebug;
  auto r = request(KeyName::kSeal);
  r.attributemask = {};  // even if the mask leaves it out
  EXPECT_NE(key_in(*make(*machine_, debug), r), key(r));
}

TEST_F(KeyTest, AttributesOutsideTheMaskDoNotMatter) {
  sgx::Secs wider = kss_secs();
  wider.attributes.xfrm |= sgx::xfrm::kAvx512;
  auto r = request(KeyName::kSeal);
  EXPECT_NE(key_in(*make(*machine_, wider), r), key(r));
  r.attributemask.xfrm = sgx::xfrm::kLegacy;
  EXPECT_EQ(key_in(*make(*machine_, wider), r), key(r));
}

TEST_F(KeyTest, TheMasksThemselvesMatter) {
  // Bits that this enclave does not have set: what they mask is the same, the key is not.
  for (const auto name : {KeyName::kSeal, KeyName::kProvision, KeyName::kProvisionSeal}) {
    auto r = request(name);
    r.miscmask = ~(1u << 5);
    EXPECT_NE(key(r), key(request(name)));
    r = request(name);
    r.attributemask.flags = ~(1ull << 40);
    EXPECT_NE(key(r), key(request(name)));
  }
}

TEST_F(KeyTest, FamilyAndExtendedProductMatterOnlyIfAskedFor) {
  const auto family = make(*machine_, kss_secs(), [](auto& s) { s.isvfamilyid[0] = 1; });
  const auto product = make(*machine_, kss_secs(), [](auto& s) { s.isvextprodid[0] = 1; });
  const auto number = make(*machine_, kss_secs(), [](auto& s) { s.isvprodid = 99; });
  const auto plain = request(KeyName::kSeal);
  const auto by_family = request(KeyName::kSeal, policy::kMrsigner | policy::kIsvfamilyid);
  const auto by_product = request(KeyName::kSeal, policy::kMrsigner | policy::kIsvextprodid);
  const auto by_none = request(KeyName::kSeal, policy::kMrsigner | policy::kNoIsvprodid);
  EXPECT_EQ(key_in(*family, plain), key(plain));
  EXPECT_NE(key_in(*family, by_family), key(by_family));
  EXPECT_EQ(key_in(*product, plain), key(plain));
  EXPECT_NE(key_in(*product, by_product), key(by_product));
  EXPECT_NE(key_in(*number, plain), key(plain));
  EXPECT_EQ(key_in(*number, by_none), key(by_none));
}

TEST_F(KeyTest, ConfigidMattersOnlyIfAskedFor) {
  sgx::Secs other = kss_secs();
  other.configid[3] = 1;
  const auto e = make(*machine_, other);
  EXPECT_EQ(key_in(*e, request(KeyName::kSeal)), key(request(KeyName::kSeal)));
  const auto by_config = request(KeyName::kSeal, policy::kMrsigner | policy::kConfigid);
  EXPECT_NE(key_in(*e, by_config), key(by_config));
}

TEST_F(KeyTest, AnotherMachineHasOtherKeys) {
  const auto machine = create("other");
  const auto e = make(*machine);
  for (const auto name : {KeyName::kSeal, KeyName::kReport, KeyName::kProvision, KeyName::kProvisionSeal}) {
    EXPECT_NE(key_in(*e, request(name)), key(request(name)));
  }
}

TEST_F(KeyTest, ASectionOfTheMachineHasTheSameKeys) {
  const auto section =
      create("section", {.epc_bytes = 0, .cpusvn = {}, .xfrm_allowed = {}, .section_of = file("machine")});
  EXPECT_EQ(key_in(*make(*section), request(KeyName::kSeal)), key(request(KeyName::kSeal)));
}

TEST_F(KeyTest, KeysSurviveAPowerCycle) {
  const Key before = key(request(KeyName::kSeal));
  machine_->power_cycle();
  EXPECT_EQ(key_in(*make(*machine_), request(KeyName::kSeal)), before);
}

TEST_F(KeyTest, RefusesACpusvnBeyondThePlatforms) {
  for (const auto name : {KeyName::kSeal, KeyName::kProvision, KeyName::kProvisionSeal}) {
    auto r = request(name);
    r.cpusvn[3] = 3;
    EXPECT_EQ(refusal(r), Error::kInvalidCpusvn);
  }
}
TEST_F(KeyTest, RefusesAnIsvsvnBeyondTheEnclaves) {
  for (const auto name : {KeyName::kSeal, KeyName::kProvision, KeyName::kProvisionSeal}) {
    auto r = request(name);
    r.isvsvn = 6;
    EXPECT_EQ(refusal(r), Error::kInvalidIsvsvn);
  }
}
TEST_F(KeyTest, RefusesAConfigsvnBeyondTheEnclaves) {
  auto r = request(KeyName::kSeal);
  r.configsvn = 4;
  EXPECT_EQ(refusal(r), Error::kInvalidIsvsvn);
}
TEST_F(KeyTest, RefusesAnUnknownName) {
  EXPECT_EQ(refusal(request(static_cast<KeyName>(5))), Error::kInvalidKeyname);
}
TEST_F(KeyTest, RefusesTheLaunchKeyWithoutItsAttribute) {
  EXPECT_EQ(refusal(request(KeyName::kEinitToken)), Error::kInvalidAttribute);
}
TEST_F(KeyTest, RefusesProvisioningKeysWithoutTheAttribute) {
  sgx::Secs secs = kss_secs();
  secs.attributes.flags &= ~sgx::attribute::kProvisionKey;
  ASSERT_TRUE(thread_.exit(*enclave_).ok());
  enclave_ = make(*machine_, secs);
  ASSERT_TRUE(thread_.enter(*enclave_).ok());
  EXPECT_EQ(refusal(request(KeyName::kProvision)), Error::kInvalidAttribute);
  EXPECT_EQ(refusal(request(KeyName::kProvisionSeal)), Error::kInvalidAttribute);
}
TEST_F(KeyTest, GivesTheLaunchKeyWithItsAttribute) {
  sgx::Secs secs = kss_secs();
  secs.attributes.flags |= sgx::attribute::kEinitTokenKey;
  EXPECT_NE(key_in(*make(*machine_, secs), request(KeyName::kEinitToken)), Key{});
}

// Faults of EGETKEY.
TEST_F(KeyTest, FaultsOnReservedRequestBits) {
  Key k;
  auto r = request(KeyName::kSeal);
  r.keypolicy |= 1u << 6;
  EXPECT_TRUE(gp(get(*enclave_, thread_, r, k)));
  r = request(KeyName::kSeal);
  r.reserved1[1] = 1;
  EXPECT_TRUE(gp(get(*enclave_, thread_, r, k)));
  r = request(KeyName::kSeal);
  r.reserved2[433] = 1;
  EXPECT_TRUE(gp(get(*enclave_, thread_, r, k)));
}
TEST_F(KeyTest, FaultsOnKssPoliciesWithoutKss) {
  sgx::Secs secs = plain_secs();
  const auto e = make(*machine_, secs);
  Thread t;
  ASSERT_TRUE(t.enter(*e).ok());
  Key k;
  EXPECT_TRUE(gp(get(*e, t, request(KeyName::kSeal, policy::kMrsigner | policy::kConfigid), k)));
  auto r = request(KeyName::kSeal);
  r.configsvn = 1;
  EXPECT_TRUE(gp(get(*e, t, r, k)));
  EXPECT_TRUE(get(*e, t, request(KeyName::kSeal), k).ok());
}
TEST_F(KeyTest, FaultsOutsideAnEnclave) {
  ASSERT_TRUE(thread_.exit(*enclave_).ok());
  Key k;
  EXPECT_TRUE(gp(get(*enclave_, thread_, request(KeyName::kSeal), k)));
}
TEST_F(KeyTest, FaultsOnBadOperands) {
  enclave_->put(Enclave::kData, request(KeyName::kSeal));
  const auto egetkey = [&](std::uint64_t rbx, std::uint64_t rcx) {
    thread_.regs.rbx = rbx, thread_.regs.rcx = rcx;
    return thread_.execute(*enclave_, sgx::Enclu::kEgetkey);
  };
  const std::uint64_t data = kBase + Enclave::kData;
  EXPECT_TRUE(gp(egetkey(data + 256, data + 0x400))) << "KEYREQUEST not aligned";
  EXPECT_TRUE(gp(egetkey(data, data + 0x408))) << "output not aligned";
  EXPECT_TRUE(gp(egetkey(kBase + kSize, data + 0x400))) << "KEYREQUEST outside";
  EXPECT_TRUE(gp(egetkey(data, kBase - 16))) << "output outside";
  EXPECT_TRUE(pf_at(egetkey(kBase + 0x10000, data), kBase + 0x10000)) << "no page there";
  EXPECT_TRUE(pf_at(egetkey(data, kBase + Enclave::kCode), kBase + Enclave::kCode)) << "output not writable";
  EXPECT_TRUE(pf(egetkey(kBase + Enclave::kTcs, data))) << "a TCS";
  EXPECT_TRUE(egetkey(data, data + 0x400).ok());
}

}  // namespace
}  // namespace softsgx::test

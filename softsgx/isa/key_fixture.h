// What the tests of EGETKEY and EREPORT share.
#pragma once

#include <memory>

#include "softsgx/isa/keys.h"
#include "softsgx/isa/test_support.h"

namespace softsgx::test {

using keys::Key;
using sgx::Error;
using sgx::KeyName;

class KeyTest : public MachineTest {
 protected:
  static constexpr std::uint64_t kAttributes =
      sgx::attribute::kMode64Bit | sgx::attribute::kKss | sgx::attribute::kProvisionKey;
  void SetUp() override {
    MachineTest::SetUp();
    enclave_ = make(*machine_);
    ASSERT_TRUE(thread_.enter(*enclave_).ok());
  }
  static sgx::Secs kss_secs() {
    sgx::Secs secs = plain_secs();
    secs.attributes.flags = kAttributes;
    secs.miscselect = 1;
    secs.configid[0] = 11, secs.configid[7] = 12;
    secs.configsvn = 3;
    return secs;
  }
  static std::unique_ptr<Enclave> make(Machine& m, const sgx::Secs& secs = kss_secs(),
                                       const std::function<void(sgx::Sigstruct&)>& edit = {},
                                       EVP_PKEY* key = signing_key()) {
    auto e = std::make_unique<Enclave>(m, secs);
    e->add_layout();
    EXPECT_TRUE(e->init(edit, key).ok());
    return e;
  }
  // EGETKEY in `e` by a thread that is inside.
  static Leaf get(Enclave& e, Thread& t, const sgx::Keyrequest& request, Key& key) {
    e.put(Enclave::kData, request);
    e.put(Enclave::kData + 0x400, Key{});
    t.regs.rbx = kBase + Enclave::kData;
    t.regs.rcx = kBase + Enclave::kData + 0x400;
    const Leaf l = t.execute(e, sgx::Enclu::kEgetkey);
    key = e.get<Key>(Enclave::kData + 0x400);
    return l;
  }
  Key key(const sgx::Keyrequest& request) {
    Key k;
    EXPECT_TRUE(get(*enclave_, thread_, request, k).ok());
    return k;
  }
  static Key key_in(Enclave& e, const sgx::Keyrequest& request) {
    Thread t;
    Key k;
    EXPECT_TRUE(t.enter(e).ok());
    EXPECT_TRUE(get(e, t, request, k).ok());
    EXPECT_TRUE(t.exit(e).ok());
    return k;
  }
  Error refusal(const sgx::Keyrequest& request) {
    Key k;
    const Leaf l = get(*enclave_, thread_, request, k);
    EXPECT_FALSE(l.faulted());
    EXPECT_EQ(thread_.regs.rax, static_cast<std::uint64_t>(l.error));
    EXPECT_EQ((thread_.regs.rflags & rflags::kZf) != 0, l.error != Error::kSuccess);
    EXPECT_EQ(k, Key{}) << "nothing is written";
    return l.error;
  }
  static sgx::Keyrequest request(KeyName name, std::uint16_t policies = sgx::keypolicy::kMrsigner) {
    sgx::Keyrequest r{};
    r.keyname = name;
    r.keypolicy = policies;
    r.isvsvn = 5;
    r.attributemask = {~0ull, ~0ull};
    r.miscmask = ~0u;
    return r;
  }
  std::unique_ptr<Enclave> enclave_;
  Thread thread_;
};

}  // namespace softsgx::test

// EINIT: what it verifies, field by field.
#include "softsgx/isa/encls.h"

#include <openssl/sha.h>

#include "softsgx/isa/measurement.h"
#include "softsgx/isa/test_support.h"

namespace softsgx::test {
namespace {

using sgx::Error;

class EinitTest : public MachineTest {
 protected:
  void SetUp() override {
    MachineTest::SetUp();
    enclave_ = std::make_unique<Enclave>(*machine_);
    enclave_->add_layout();
  }
  [[nodiscard]] sgx::Sigstruct good() const {
    sgx::Sigstruct s =
        unsigned_sigstruct(machine_->secs(enclave_->secs), measurement::digest(machine_->secs_state(enclave_->secs)));
    sign(s, signing_key());
    return s;
  }
  // A good SIGSTRUCT, spoilt after it was signed.
  Leaf init_spoilt(const std::function<void(sgx::Sigstruct&)>& edit) {
    sgx::Sigstruct s = good();
    edit(s);
    return encls::einit(*machine_, enclave_->secs, s);
  }
  std::unique_ptr<Enclave> enclave_;
};

TEST_F(EinitTest, FixesIdentity) {
  const sgx::Sigstruct s = good();
  ASSERT_TRUE(encls::einit(*machine_, enclave_->secs, s).ok());
  const sgx::Secs& secs = machine_->secs(enclave_->secs);
  EXPECT_NE(secs.attributes.flags & sgx::attribute::kInit, 0u);
  EXPECT_EQ(secs.mrenclave, s.enclavehash);
  EXPECT_EQ(secs.isvprodid, 7);
  EXPECT_EQ(secs.isvsvn, 5);
  sgx::Measurement signer;
  SHA256(s.modulus, sizeof(s.modulus), signer.bytes);
  EXPECT_EQ(secs.mrsigner, signer);
}
TEST_F(EinitTest, AcceptsIntelsVendor) {
  EXPECT_TRUE(enclave_->init([](auto& s) { s.vendor = 0x8086; }).ok());
}

// SGX_INVALID_SIG_STRUCT
TEST_F(EinitTest, RefusesAnotherHeader) {
  EXPECT_TRUE(returns(enclave_->init([](auto& s) { s.header[0] = 7; }), Error::kInvalidSigStruct));
}
TEST_F(EinitTest, RefusesAnotherHeader2) {
  EXPECT_TRUE(returns(enclave_->init([](auto& s) { s.header2[15] = 1; }), Error::kInvalidSigStruct));
}
TEST_F(EinitTest, RefusesAnotherVendor) {
  EXPECT_TRUE(returns(enclave_->init([](auto& s) { s.vendor = 1; }), Error::kInvalidSigStruct));
}
TEST_F(EinitTest, RefusesAnotherExponent) {
  EXPECT_TRUE(returns(init_spoilt([](auto& s) { s.exponent = 65537; }), Error::kInvalidSigStruct));
}
TEST_F(EinitTest, RefusesReservedBytes) {
  EXPECT_TRUE(returns(enclave_->init([](auto& s) { s.reserved1[83] = 1; }), Error::kInvalidSigStruct));
  EXPECT_TRUE(returns(enclave_->init([](auto& s) { s.reserved2[0] = 1; }), Error::kInvalidSigStruct));
  EXPECT_TRUE(returns(enclave_->init([](auto& s) { s.reserved3[0] = 1; }), Error::kInvalidSigStruct));
  EXPECT_TRUE(returns(enclave_->init([](auto& s) { s.reserved4[0] = 1; }), Error::kInvalidSigStruct));
}
TEST_F(EinitTest, RefusesAFamilyIdWithoutKss) {
  EXPECT_TRUE(returns(enclave_->init([](auto& s) { s.isvfamilyid[3] = 1; }), Error::kInvalidSigStruct));
}

// SGX_INVALID_SIGNATURE
TEST_F(EinitTest, RefusesAChangedSignature) {
  EXPECT_TRUE(returns(init_spoilt([](auto& s) { s.signature[100] ^= 1; }), Error::kInvalidSignature));
}
TEST_F(EinitTest, RefusesAChangedSignedField) {
  EXPECT_TRUE(returns(init_spoilt([](auto& s) { s.isvsvn ^= 1; }), Error::kInvalidSignature));
  EXPECT_TRUE(returns(init_spoilt([](auto& s) { s.date ^= 1; }), Error::kInvalidSignature));
  EXPECT_TRUE(returns(init_spoilt([](auto& s) { s.isvextprodid[0] ^= 1; }), Error::kInvalidSignature));
}
TEST_F(EinitTest, RefusesAnotherModulus) {
  EXPECT_TRUE(returns(init_spoilt([](auto& s) { s.modulus[10] ^= 2; }), Error::kInvalidSignature));
}
TEST_F(EinitTest, RefusesAZeroModulus) {
  EXPECT_TRUE(
      returns(init_spoilt([](auto& s) { std::fill(std::begin(s.modulus), std::end(s.modulus), std::uint8_t{0}); }),
              Error::kInvalidSignature));
}
TEST_F(EinitTest, RefusesAWrongQ1) {
  EXPECT_TRUE(returns(init_spoilt([](auto& s) { s.q1[0] ^= 1; }), Error::kInvalidSignature));
}
TEST_F(EinitTest, RefusesAWrongQ2) {
  EXPECT_TRUE(returns(init_spoilt([](auto& s) { s.q2[0] ^= 1; }), Error::kInvalidSignature));
}
TEST_F(EinitTest, RefusesAnotherKeysSignature) {
  EXPECT_TRUE(returns(init_spoilt([this](auto& s) {
                        sgx::Sigstruct other = good();
                        sign(other, other_signing_key());
                        std::copy(std::begin(other.modulus), std::end(other.modulus), s.modulus);
                      }),
                      Error::kInvalidSignature));
}

// The rest
TEST_F(EinitTest, RefusesAnotherMeasurement) {
  EXPECT_TRUE(returns(enclave_->init([](auto& s) { s.enclavehash.bytes[0] ^= 1; }), Error::kInvalidMeasurement));
}
TEST_F(EinitTest, RefusesOtherAttributes) {
  EXPECT_TRUE(
      returns(enclave_->init([](auto& s) { s.attributes.flags ^= sgx::attribute::kDebug; }), Error::kInvalidAttribute));
}
TEST_F(EinitTest, RefusesAnotherXfrm) {
  EXPECT_TRUE(returns(enclave_->init([](auto& s) { s.attributes.xfrm ^= sgx::xfrm::kAvx; }), Error::kInvalidAttribute));
}
TEST_F(EinitTest, RefusesAnotherMiscselect) {
  EXPECT_TRUE(returns(enclave_->init([](auto& s) { s.miscselect ^= 1; }), Error::kInvalidAttribute));
}
TEST_F(EinitTest, ComparesOnlyWhatTheMasksSay) {
  EXPECT_TRUE(enclave_
                  ->init([](auto& s) {
                    s.attributes.flags ^= sgx::attribute::kDebug;
                    s.attributemask.flags = ~sgx::attribute::kDebug;
                    s.attributes.xfrm ^= sgx::xfrm::kAvx;
                    s.attributemask.xfrm = ~sgx::xfrm::kAvx;
                    s.miscselect = 1;
                    s.miscmask = 0;
                  })
                  .ok());
}
TEST_F(EinitTest, ARefusalLeavesTheEnclaveUninitialised) {
  EXPECT_TRUE(returns(enclave_->init([](auto& s) { s.enclavehash.bytes[0] ^= 1; }), Error::kInvalidMeasurement));
  EXPECT_EQ(machine_->secs(enclave_->secs).attributes.flags & sgx::attribute::kInit, 0u);
  EXPECT_EQ(machine_->epcm(enclave_->secs).state.load() & epcm::kLocked, 0u);
  EXPECT_TRUE(enclave_->init().ok());
}
TEST_F(EinitTest, FaultsTheSecondTime) {
  ASSERT_TRUE(enclave_->init().ok());
  EXPECT_TRUE(gp(encls::einit(*machine_, enclave_->secs, good())));
}
TEST_F(EinitTest, FaultsOnAPageThatIsNoSecs) {
  const EpcIndex data = enclave_->page(Enclave::kData);
  EXPECT_TRUE(pf_at(encls::einit(*machine_, data, good()), machine_->file_offset(data)));
}
TEST_F(EinitTest, FaultsOutsideTheEpc) {
  EXPECT_TRUE(pf(encls::einit(*machine_, 256, good())));
}
TEST_F(EinitTest, FaultsWhileTheSecsIsInUse) {
  machine_->epcm(enclave_->secs).state.fetch_or(epcm::kLocked);
  EXPECT_TRUE(gp(encls::einit(*machine_, enclave_->secs, good())));
}

}  // namespace
}  // namespace softsgx::test

// ECREATE, EADD, EEXTEND, EREMOVE: results and every fault.
#include "softsgx/isa/encls.h"

#include <openssl/sha.h>

#include <functional>

#include "softsgx/isa/measurement.h"
#include "softsgx/isa/test_support.h"

namespace softsgx::test {
namespace {

using sgx::Error;
using sgx::PageType;
using namespace sgx::secinfo;

class EcreateTest : public MachineTest {
 protected:
  Leaf create_with(const std::function<void(sgx::Secs&)>& edit) {
    sgx::Secs secs = plain_secs();
    edit(secs);
    const auto page = machine_->allocate_run(1, Owner::self());
    return encls::ecreate(*machine_, *page, secs, secinfo(PageType::kSecs));
  }
};

TEST_F(EcreateTest, MakesAnUninitialisedSecs) {
  Enclave e(*machine_);
  const std::uint64_t state = machine_->epcm(e.secs).state.load();
  EXPECT_EQ(state, epcm::kValid | epcm::of_type(PageType::kSecs));
  EXPECT_EQ(machine_->secs(e.secs).attributes, plain_secs().attributes);
}

TEST_F(EcreateTest, IgnoresWhatTheCallerSaysOfIdentity) {
  const auto page = *machine_->allocate_run(1, Owner::self());
  sgx::Secs secs = plain_secs();
  secs.isvsvn = 9, secs.isvprodid = 9;
  secs.mrenclave.bytes[0] = 1, secs.mrsigner.bytes[0] = 1;
  ASSERT_TRUE(encls::ecreate(*machine_, page, secs, secinfo(PageType::kSecs)).ok());
  EXPECT_EQ(machine_->secs(page).isvsvn, 0);
  EXPECT_EQ(machine_->secs(page).isvprodid, 0);
  EXPECT_EQ(machine_->secs(page).mrsigner, sgx::Measurement{});
}

TEST_F(EcreateTest, FaultsOnAPageOutsideTheEpc) {
  EXPECT_TRUE(pf(encls::ecreate(*machine_, 256, plain_secs(), secinfo(PageType::kSecs))));
}
TEST_F(EcreateTest, FaultsOnAValidPage) {
  Enclave e(*machine_);
  const Leaf l = encls::ecreate(*machine_, e.secs, plain_secs(), secinfo(PageType::kSecs));
  EXPECT_TRUE(pf_at(l, machine_->file_offset(e.secs)));
  EXPECT_NE(l.fault.error_code & pfec::kSgx, 0u);
}
TEST_F(EcreateTest, FaultsOnALockedPage) {
  const auto page = *machine_->allocate_run(1, Owner::self());
  machine_->epcm(page).state.store(epcm::kLocked);
  EXPECT_TRUE(gp(encls::ecreate(*machine_, page, plain_secs(), secinfo(PageType::kSecs))));
}
TEST_F(EcreateTest, FaultsOnAnotherPageType) {
  EXPECT_TRUE(gp(encls::ecreate(*machine_, 0, plain_secs(), secinfo(PageType::kReg))));
}
TEST_F(EcreateTest, FaultsOnReservedSecinfoBits) {
  EXPECT_TRUE(gp(encls::ecreate(*machine_, 0, plain_secs(), secinfo(PageType::kSecs, 1u << 6))));
  sgx::Secinfo info = secinfo(PageType::kSecs);
  info.reserved[6] = 1;
  EXPECT_TRUE(gp(encls::ecreate(*machine_, 0, plain_secs(), info)));
}
TEST_F(EcreateTest, FaultsOnXfrmWithoutX87OrSse) {
  EXPECT_TRUE(gp(create_with([](auto& s) { s.attributes.xfrm = sgx::xfrm::kX87; })));
  EXPECT_TRUE(gp(create_with([](auto& s) { s.attributes.xfrm = sgx::xfrm::kSse; })));
}
TEST_F(EcreateTest, FaultsOnAvx512InParts) {
  EXPECT_TRUE(gp(create_with([](auto& s) { s.attributes.xfrm |= sgx::xfrm::kOpmask; })));
  EXPECT_TRUE(gp(create_with([](auto& s) { s.attributes.xfrm |= sgx::xfrm::kOpmask | sgx::xfrm::kZmmHi256; })));
}
TEST_F(EcreateTest, FaultsOnAvx512WithoutAvx) {
  EXPECT_TRUE(gp(create_with([](auto& s) { s.attributes.xfrm = sgx::xfrm::kLegacy | sgx::xfrm::kAvx512; })));
}
TEST_F(EcreateTest, AcceptsAllOfAvx512) {
  EXPECT_TRUE(create_with([](auto& s) { s.attributes.xfrm |= sgx::xfrm::kAvx512; }).ok());
}
TEST_F(EcreateTest, FaultsOnXfrmThatTheMachineLacks) {
  machine_ = create("small", {.epc_bytes = 0, .cpusvn = {}, .xfrm_allowed = sgx::xfrm::kLegacy, .section_of = {}});
  EXPECT_TRUE(gp(create_with([](auto&) {})));
  EXPECT_TRUE(create_with([](auto& s) { s.attributes.xfrm = sgx::xfrm::kLegacy; }).ok());
}
TEST_F(EcreateTest, FaultsOnUnknownMiscselect) {
  EXPECT_TRUE(gp(create_with([](auto& s) { s.miscselect = 2; })));
}
TEST_F(EcreateTest, FaultsOnAnSsaFrameTooSmall) {
  EXPECT_TRUE(gp(create_with([](auto& s) { s.ssaframesize = 0; })));
}
TEST_F(EcreateTest, FaultsOnANonCanonicalBase) {
  EXPECT_TRUE(gp(create_with([](auto& s) { s.baseaddr = 1ull << 52; })));
}
TEST_F(EcreateTest, FaultsOnASizeThatIsNoPowerOfTwo) {
  EXPECT_TRUE(gp(create_with([](auto& s) { s.size = 0x3000; })));
}
TEST_F(EcreateTest, FaultsOnASizeBelowTwoPages) {
  EXPECT_TRUE(gp(create_with([](auto& s) { s.size = 0x1000; })));
}
TEST_F(EcreateTest, FaultsOnASizeBeyondTheAddressSpace) {
  EXPECT_TRUE(gp(create_with([](auto& s) { s.size = 1ull << 46, s.baseaddr = 0; })));
}
TEST_F(EcreateTest, FaultsOnAMisalignedBase) {
  EXPECT_TRUE(gp(create_with([](auto& s) { s.baseaddr += 0x10000; })));
}
TEST_F(EcreateTest, FaultsOnUnsupportedAttributes) {
  EXPECT_TRUE(gp(create_with([](auto& s) { s.attributes.flags |= sgx::attribute::kInit; })));
  EXPECT_TRUE(gp(create_with([](auto& s) { s.attributes.flags |= sgx::attribute::kCet; })));
  EXPECT_TRUE(gp(create_with([](auto& s) { s.attributes.flags |= 1ull << 40; })));
}
TEST_F(EcreateTest, FaultsOnA32BitEnclave) {
  EXPECT_TRUE(gp(create_with([](auto& s) { s.attributes.flags = 0; })));
}
TEST_F(EcreateTest, FaultsOnReservedBytes) {
  EXPECT_TRUE(gp(create_with([](auto& s) { s.reserved1[23] = 1; })));
  EXPECT_TRUE(gp(create_with([](auto& s) { s.reserved2[0] = 1; })));
  EXPECT_TRUE(gp(create_with([](auto& s) { s.reserved3[0] = 1; })));
  EXPECT_TRUE(gp(create_with([](auto& s) { s.reserved4[3833] = 1; })));
}
TEST_F(EcreateTest, FaultsOnConfigidWithoutKss) {
  EXPECT_TRUE(gp(create_with([](auto& s) { s.configid[7] = 1; })));
  EXPECT_TRUE(gp(create_with([](auto& s) { s.configsvn = 1; })));
  EXPECT_TRUE(create_with([](auto& s) {
                s.configid[7] = 1, s.configsvn = 1;
                s.attributes.flags |= sgx::attribute::kKss;
              }).ok());
}

TEST(SsaFrameSize, IsIntelsLayout) {
  using namespace sgx::xfrm;
  EXPECT_EQ(enclu::xsave_size(kLegacy), 576u);
  EXPECT_EQ(enclu::xsave_size(kLegacy | kAvx), 832u);
  EXPECT_EQ(enclu::xsave_size(kLegacy | kAvx | kAvx512), 2688u);
  EXPECT_EQ(enclu::xsave_size(kLegacy | kPkru), 2696u);
  EXPECT_EQ(enclu::min_ssaframesize(kLegacy | kAvx | kAvx512 | kPkru, sgx::miscselect::kExinfo), 1u);
}

class EaddTest : public MachineTest {
 protected:
  void SetUp() override {
    MachineTest::SetUp();
    enclave_ = std::make_unique<Enclave>(*machine_);
    page_ = enclave_->allocate();
  }
  Leaf add(std::uint64_t linaddr, const sgx::Secinfo& info, const Page& source = {}) {
    return encls::eadd(*machine_, page_, enclave_->secs, linaddr, source.data(), info);
  }
  static Page tcs_page(const std::function<void(sgx::Tcs&)>& edit) {
    sgx::Tcs tcs{};
    edit(tcs);
    Page page;
    std::memcpy(page.data(), &tcs, sizeof(tcs));
    return page;
  }
  std::unique_ptr<Enclave> enclave_;
  EpcIndex page_ = kNotEpc;
};

TEST_F(EaddTest, AddsAPageWithItsRights) {
  Page source;
  source.fill(std::byte{7});
  ASSERT_TRUE(add(kBase + 0x3000, secinfo(PageType::kReg, kR | kX), source).ok());
  EXPECT_EQ(machine_->epcm(page_).state.load(),
            epcm::kValid | epcm::kR | epcm::kX | epcm::of_type(PageType::kReg) | epcm::of_secs(enclave_->secs));
  EXPECT_EQ(machine_->epcm(page_).enclave_address.load(), kBase + 0x3000);
  EXPECT_EQ(std::memcmp(machine_->page(page_), source.data(), source.size()), 0);
}
TEST_F(EaddTest, ForcesATcsToItsInitialState) {
  const Page source = tcs_page([](auto& t) { t.flags = 1, t.cssa = 3, t.aep = 4, t.state = 5, t.nssa = 2; });
  ASSERT_TRUE(add(kBase, secinfo(PageType::kTcs, kR | kW), source).ok());
  const sgx::Tcs& tcs = machine_->tcs(page_);
  EXPECT_EQ(tcs.flags, 0u);
  EXPECT_EQ(tcs.cssa, 0u);
  EXPECT_EQ(tcs.aep, 0u);
  EXPECT_EQ(tcs.state, 0u);
  EXPECT_EQ(machine_->epcm(page_).state.load() & epcm::kRights, 0u);
}
TEST_F(EaddTest, FaultsOnAMisalignedAddress) {
  EXPECT_TRUE(gp(add(kBase + 1, secinfo(PageType::kReg, kR))));
}
TEST_F(EaddTest, FaultsOnReservedSecinfoBits) {
  EXPECT_TRUE(gp(add(kBase, secinfo(PageType::kReg, kR | 1u << 7))));
}
TEST_F(EaddTest, FaultsOnAnotherPageType) {
  EXPECT_TRUE(gp(add(kBase, secinfo(PageType::kSecs))));
  EXPECT_TRUE(gp(add(kBase, secinfo(PageType::kVa))));
  EXPECT_TRUE(gp(add(kBase, secinfo(PageType::kTrim))));
}
TEST_F(EaddTest, FaultsOnAPageOutsideTheEpc) {
  const Page source{};
  EXPECT_TRUE(pf(encls::eadd(*machine_, 256, enclave_->secs, kBase, source.data(), secinfo(PageType::kReg, kR))));
}
TEST_F(EaddTest, FaultsOnAValidPage) {
  ASSERT_TRUE(add(kBase, secinfo(PageType::kReg, kR)).ok());
  EXPECT_TRUE(pf_at(add(kBase, secinfo(PageType::kReg, kR)), machine_->file_offset(page_)));
}
TEST_F(EaddTest, FaultsOnAnInvalidSecs) {
  const EpcIndex none = enclave_->allocate();
  const Page source{};
  EXPECT_TRUE(pf_at(encls::eadd(*machine_, page_, none, kBase, source.data(), secinfo(PageType::kReg, kR)),
                    machine_->file_offset(none)));
}
TEST_F(EaddTest, FaultsOnASecsThatIsNone) {
  const EpcIndex other = enclave_->add(0x1000, {}, secinfo(PageType::kReg, kR));
  const Page source{};
  EXPECT_TRUE(pf(encls::eadd(*machine_, page_, other, kBase, source.data(), secinfo(PageType::kReg, kR))));
}
TEST_F(EaddTest, FaultsOnASecsInUse) {
  machine_->epcm(enclave_->secs).state.fetch_or(epcm::kLocked);
  EXPECT_TRUE(gp(add(kBase, secinfo(PageType::kReg, kR))));
}
TEST_F(EaddTest, FaultsOnWriteWithoutRead) {
  EXPECT_TRUE(gp(add(kBase, secinfo(PageType::kReg, kW))));
}
TEST_F(EaddTest, FaultsOutsideElrange) {
  EXPECT_TRUE(gp(add(kBase + kSize, secinfo(PageType::kReg, kR))));
  EXPECT_TRUE(gp(add(kBase - 0x1000, secinfo(PageType::kReg, kR))));
}
TEST_F(EaddTest, FaultsOnReservedTcsBytes) {
  EXPECT_TRUE(gp(add(kBase, secinfo(PageType::kTcs), tcs_page([](auto& t) { t.reserved[4023] = 1; }))));
}
TEST_F(EaddTest, FaultsAfterEinit) {
  ASSERT_TRUE(enclave_->init().ok());
  EXPECT_TRUE(gp(add(kBase, secinfo(PageType::kReg, kR))));
}
TEST_F(EaddTest, AFaultLeavesNoTrace) {
  const auto before = measurement::digest(machine_->secs_state(enclave_->secs));
  EXPECT_TRUE(gp(add(kBase + kSize, secinfo(PageType::kReg, kR))));
  EXPECT_EQ(measurement::digest(machine_->secs_state(enclave_->secs)), before);
  EXPECT_EQ(machine_->epcm(page_).state.load(), 0u);
  EXPECT_EQ(machine_->epcm(enclave_->secs).children.load(), 0u);
  EXPECT_EQ(machine_->epcm(enclave_->secs).state.load() & epcm::kLocked, 0u);
}

class EextendTest : public EaddTest {
 protected:
  void SetUp() override {
    EaddTest::SetUp();
    ASSERT_TRUE(add(kBase + 0x1000, secinfo(PageType::kReg, kR)).ok());
  }
};

TEST_F(EextendTest, SixteenChunksAreAPage) {
  Enclave other(*machine_);
  const EpcIndex twin = other.add(0x1000, {}, secinfo(PageType::kReg, kR));
  static_cast<void>(twin);
  for (unsigned chunk = 0; chunk < 16; ++chunk)
    ASSERT_TRUE(encls::eextend(*machine_, page_, enclave_->secs, chunk).ok());
  EXPECT_EQ(measurement::digest(machine_->secs_state(enclave_->secs)),
            measurement::digest(machine_->secs_state(other.secs)));
}
TEST_F(EextendTest, FaultsOnAChunkBeyondThePage) {
  EXPECT_TRUE(gp(encls::eextend(*machine_, page_, enclave_->secs, 16)));
}
TEST_F(EextendTest, FaultsOnAnInvalidPage) {
  EXPECT_TRUE(pf(encls::eextend(*machine_, enclave_->allocate(), enclave_->secs, 0)));
}
TEST_F(EextendTest, FaultsOnASecsPage) {
  EXPECT_TRUE(pf(encls::eextend(*machine_, enclave_->secs, enclave_->secs, 0)));
}
TEST_F(EextendTest, FaultsOnAnotherEnclavesSecs) {
  const Enclave other(*machine_);
  EXPECT_TRUE(gp(encls::eextend(*machine_, page_, other.secs, 0)));
}
TEST_F(EextendTest, FaultsOnALockedPage) {
  machine_->epcm(page_).state.fetch_or(epcm::kLocked);
  EXPECT_TRUE(gp(encls::eextend(*machine_, page_, enclave_->secs, 0)));
}
TEST_F(EextendTest, FaultsWhileTheSecsIsInUse) {
  machine_->epcm(enclave_->secs).state.fetch_or(epcm::kLocked);
  EXPECT_TRUE(gp(encls::eextend(*machine_, page_, enclave_->secs, 0)));
}
TEST_F(EextendTest, FaultsAfterEinit) {
  ASSERT_TRUE(enclave_->init().ok());
  EXPECT_TRUE(gp(encls::eextend(*machine_, page_, enclave_->secs, 0)));
}
TEST_F(EextendTest, FaultsOnAPageOutsideTheEpc) {
  EXPECT_TRUE(pf(encls::eextend(*machine_, 999, enclave_->secs, 0)));
}

// MRENCLAVE once more, from the SDM's byte layouts alone: nothing of the machine's code or headers is used.
class PlainMrenclave {
 public:
  PlainMrenclave(std::uint32_t ssaframesize, std::uint64_t size) {
    bytes("ECREATE", 8);
    number(ssaframesize, 4);
    number(size, 8);
    zeros(44);
  }
  void eadd(std::uint64_t offset, std::uint64_t secinfo_flags) {
    bytes("EADD\0\0\0", 8);
    number(offset, 8);
    number(secinfo_flags, 8);
    zeros(40);
  }
  void eextend(std::uint64_t offset, const std::byte* chunk) {
    bytes("EEXTEND", 8);
    number(offset, 8);
    zeros(48);
    bytes(reinterpret_cast<const char*>(chunk), 256);
  }
  [[nodiscard]] sgx::Measurement digest() const {
    sgx::Measurement out;
    SHA256(reinterpret_cast<const unsigned char*>(log_.data()), log_.size(), out.bytes);
    return out;
  }

 private:
  void bytes(const char* p, std::size_t n) { log_.append(p, n); }
  void zeros(std::size_t n) { log_.append(n, '\0'); }
  void number(std::uint64_t v, int n) {
    for (int i = 0; i < n; ++i) log_.push_back(static_cast<char>(v >> 8 * i));
  }
  std::string log_;
};

TEST_F(MachineTest, MrenclaveIsWhatTheSdmSays) {
  Enclave e(*machine_);
  PlainMrenclave plain(1, kSize);
  Page code, tcs{};
  for (std::size_t i = 0; i < code.size(); ++i) code[i] = static_cast<std::byte>(i * 7 + i / 256);
  tcs[0x20] = std::byte{0x80};  // some OENTRY

  const EpcIndex first = e.add(0x4000, code, secinfo(PageType::kReg, kR | kX), false);
  plain.eadd(0x4000, 0x205);
  for (const unsigned chunk : {0u, 5u, 15u}) {  // partly measured, as a loader may choose
    ASSERT_TRUE(encls::eextend(*machine_, first, e.secs, chunk).ok());
    plain.eextend(0x4000 + 256 * chunk, code.data() + 256 * chunk);
  }
  e.add(0x5000, tcs, secinfo(PageType::kTcs, kR | kW));  // the rights of a TCS are forced to none
  plain.eadd(0x5000, 0x100);
  for (unsigned chunk = 0; chunk < 16; ++chunk) plain.eextend(0x5000 + 256 * chunk, tcs.data() + 256 * chunk);
  e.add(0x6000, {}, secinfo(PageType::kReg, kR | kW), false);  // not measured at all
  plain.eadd(0x6000, 0x203);

  ASSERT_TRUE(e.init([&](auto& s) { s.enclavehash = plain.digest(); }).ok());
  EXPECT_EQ(machine_->secs(e.secs).mrenclave, plain.digest());
}

TEST_F(MachineTest, AnotherProcessMayContinueTheMeasurement) {
  Enclave here(*machine_), there(*machine_);
  here.add_layout();
  const Page page{};
  there.add_layout();
  std::string error;
  const auto second = Machine::open(file("machine"), {}, error);
  const EpcIndex i = there.allocate(), j = here.allocate();
  ASSERT_TRUE(
      encls::eadd(*second, i, there.secs, kBase + Enclave::kFree, page.data(), secinfo(PageType::kReg, kR)).ok());
  ASSERT_TRUE(
      encls::eadd(*machine_, j, here.secs, kBase + Enclave::kFree, page.data(), secinfo(PageType::kReg, kR)).ok());
  EXPECT_EQ(measurement::digest(machine_->secs_state(here.secs)), measurement::digest(second->secs_state(there.secs)));
}

class EremoveTest : public MachineTest {
 protected:
  void SetUp() override {
    MachineTest::SetUp();
    enclave_ = std::make_unique<Enclave>(*machine_);
    enclave_->add_layout();
    ASSERT_TRUE(enclave_->init().ok());
  }
  std::unique_ptr<Enclave> enclave_;
};

TEST_F(EremoveTest, RemovesAPage) {
  const EpcIndex page = enclave_->page(Enclave::kData);
  const auto children = machine_->epcm(enclave_->secs).children.load();
  EXPECT_TRUE(encls::eremove(*machine_, page).ok());
  EXPECT_EQ(machine_->epcm(page).state.load(), 0u);
  EXPECT_EQ(machine_->epcm(enclave_->secs).children.load(), children - 1);
}
TEST_F(EremoveTest, OfAnUnusedPageDoesNothing) {
  EXPECT_TRUE(encls::eremove(*machine_, 255).ok());
}
TEST_F(EremoveTest, OfASecsWithPagesIsChildPresent) {
  EXPECT_TRUE(returns(encls::eremove(*machine_, enclave_->secs), Error::kChildPresent));
}
TEST_F(EremoveTest, OfASecsAfterItsPagesWorks) {
  for (std::uint64_t offset = 0; offset < Enclave::kFree; offset += sgx::kPageSize) {
    ASSERT_TRUE(encls::eremove(*machine_, enclave_->page(offset)).ok());
  }
  EXPECT_TRUE(encls::eremove(*machine_, enclave_->secs).ok());
}
TEST_F(EremoveTest, WhileAThreadIsInsideIsEnclaveAct) {
  Thread t;
  ASSERT_TRUE(t.enter(*enclave_).ok());
  EXPECT_TRUE(returns(encls::eremove(*machine_, enclave_->page(Enclave::kData)), Error::kEnclaveAct));
  ASSERT_TRUE(t.exit(*enclave_).ok());
  EXPECT_TRUE(encls::eremove(*machine_, enclave_->page(Enclave::kData)).ok());
}
TEST_F(EremoveTest, OfALockedPageFaults) {
  machine_->epcm(enclave_->page(Enclave::kData)).state.fetch_or(epcm::kLocked);
  EXPECT_TRUE(gp(encls::eremove(*machine_, enclave_->page(Enclave::kData))));
}
TEST_F(EremoveTest, OutsideTheEpcFaults) {
  EXPECT_TRUE(pf(encls::eremove(*machine_, 256)));
}

}  // namespace
}  // namespace softsgx::test

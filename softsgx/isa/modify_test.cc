// SGX2 and debugging: EAUG, EMODPR, EMODT, EBLOCK, ETRACK, EDBGRD, EDBGWR, and EACCEPT, EMODPE, EACCEPTCOPY.
#include <sys/mman.h>

#include "softsgx/isa/test_support.h"

namespace softsgx::test {
namespace {

using sgx::Error;
using sgx::PageType;
using namespace sgx::secinfo;

class ModifyTest : public MachineTest {
 protected:
  void SetUp() override {
    MachineTest::SetUp();
    enclave_ = std::make_unique<Enclave>(*machine_);
    enclave_->add_layout();
    ASSERT_TRUE(enclave_->init().ok());
    ASSERT_TRUE(thread_.enter(*enclave_).ok());
  }
  // One of the leaves that take a SECINFO in RBX and a page in RCX.
  Leaf inside(sgx::Enclu leaf, const sgx::Secinfo& info, std::uint64_t offset, std::uint64_t source = 0) {
    enclave_->put(Enclave::kData, info);
    thread_.regs.rbx = kBase + Enclave::kData;
    thread_.regs.rcx = kBase + offset;
    thread_.regs.rdx = kBase + source;
    return thread_.execute(*enclave_, leaf);
  }
  Leaf accept(const sgx::Secinfo& info, std::uint64_t offset) { return inside(sgx::Enclu::kEaccept, info, offset); }
  Leaf extend(std::uint64_t flags, std::uint64_t offset) {
    return inside(sgx::Enclu::kEmodpe, secinfo(PageType::kReg, flags), offset);
  }
  std::atomic<std::uint64_t>& state(std::uint64_t offset) { return machine_->epcm(enclave_->page(offset)).state; }
  void leave_and_return() {
    ASSERT_TRUE(thread_.exit(*enclave_).ok());
    ASSERT_TRUE(thread_.enter(*enclave_).ok());
  }
  // What the driver does after EMODPR and EMODT.
  void track() {
    ASSERT_TRUE(encls::etrack(*machine_, enclave_->secs).ok());
    leave_and_return();
  }
  // An accepted R|W page at kFree.
  EpcIndex accepted_page(std::uint64_t offset = Enclave::kFree) {
    const EpcIndex page = enclave_->augment(offset);
    EXPECT_TRUE(accept(pending(), offset).ok());
    return page;
  }
  static sgx::Secinfo pending() { return secinfo(PageType::kReg, kR | kW | kPending); }
  std::unique_ptr<Enclave> enclave_;
  Thread thread_;
};

TEST_F(ModifyTest, EaugGivesAZeroedPendingPage) {
  const EpcIndex page = enclave_->allocate();
  machine_->page(page)[9] = std::byte{1};
  ASSERT_TRUE(encls::eaug(*machine_, page, enclave_->secs, kBase + Enclave::kFree).ok());
  EXPECT_EQ(machine_->page(page)[9], std::byte{0});
  EXPECT_EQ(machine_->epcm(page).state.load(), epcm::kValid | epcm::kPending | epcm::kR | epcm::kW |
                                                   epcm::of_type(PageType::kReg) | epcm::of_secs(enclave_->secs));
}
TEST_F(ModifyTest, EaugFaultsBeforeEinit) {
  Enclave raw(*machine_);
  const auto children = machine_->epcm(raw.secs).children.load();
  EXPECT_TRUE(gp(encls::eaug(*machine_, raw.allocate(), raw.secs, kBase)));
  EXPECT_EQ(machine_->epcm(raw.secs).children.load(), children);
}
TEST_F(ModifyTest, EaugFaultsOutsideElrange) {
  EXPECT_TRUE(gp(encls::eaug(*machine_, enclave_->allocate(), enclave_->secs, kBase + kSize)));
}
TEST_F(ModifyTest, EaugFaultsOnAMisalignedAddress) {
  EXPECT_TRUE(gp(encls::eaug(*machine_, enclave_->allocate(), enclave_->secs, kBase + 8)));
}
TEST_F(ModifyTest, EaugFaultsOnAValidPage) {
  EXPECT_TRUE(pf(encls::eaug(*machine_, enclave_->page(Enclave::kData), enclave_->secs, kBase + Enclave::kFree)));
}
TEST_F(ModifyTest, EaugFaultsOnASecsThatIsNone) {
  EXPECT_TRUE(pf(encls::eaug(*machine_, enclave_->allocate(), enclave_->page(Enclave::kData), kBase)));
}
TEST_F(ModifyTest, EaugFaultsOnASecsInUse) {
  machine_->epcm(enclave_->secs).state.fetch_or(epcm::kLocked);
  EXPECT_TRUE(gp(encls::eaug(*machine_, enclave_->allocate(), enclave_->secs, kBase + Enclave::kFree)));
  machine_->epcm(enclave_->secs).state.fetch_and(~epcm::kLocked);
}

TEST_F(ModifyTest, EacceptTakesAPendingPage) {
  const EpcIndex page = enclave_->augment(Enclave::kFree);
  EXPECT_TRUE(accept(pending(), Enclave::kFree).ok());
  EXPECT_EQ(machine_->page_rights(page), PROT_READ | PROT_WRITE);
  EXPECT_EQ(thread_.regs.rax, 0u);
}
TEST_F(ModifyTest, EacceptAgainIsAMismatch) {
  accepted_page();
  EXPECT_TRUE(returns(accept(pending(), Enclave::kFree), Error::kPageAttributesMismatch));
  EXPECT_NE(thread_.regs.rflags & rflags::kZf, 0u);
  EXPECT_EQ(thread_.regs.rax, 19u);
}
TEST_F(ModifyTest, EacceptOfOtherRightsIsAMismatch) {
  enclave_->augment(Enclave::kFree);
  EXPECT_TRUE(returns(accept(secinfo(PageType::kReg, kR | kPending), Enclave::kFree), Error::kPageAttributesMismatch));
  EXPECT_TRUE(returns(accept(secinfo(PageType::kReg, kR | kW | kX | kPending), Enclave::kFree),
                      Error::kPageAttributesMismatch));
}
TEST_F(ModifyTest, EacceptOfAPageFromElsewhereIsAMismatch) {
  // A hostile kernel maps the page of one address at another.
  enclave_->augment(Enclave::kFree);
  enclave_->table.map(kBase + Enclave::kFree + 0x1000, enclave_->page(Enclave::kFree));
  EXPECT_TRUE(returns(accept(pending(), Enclave::kFree + 0x1000), Error::kPageAttributesMismatch));
}
TEST_F(ModifyTest, EacceptFaultsOnAnIllegalRequest) {
  enclave_->augment(Enclave::kFree);
  EXPECT_TRUE(gp(accept(secinfo(PageType::kReg, kR | kW), Enclave::kFree))) << "neither PR nor PENDING";
  EXPECT_TRUE(gp(accept(secinfo(PageType::kReg, kR | kW | kPending | kModified), Enclave::kFree)));
  EXPECT_TRUE(gp(accept(secinfo(PageType::kTrim, kModified | kPending), Enclave::kFree)));
  EXPECT_TRUE(gp(accept(secinfo(PageType::kTcs, kModified | kPr), Enclave::kFree)));
  EXPECT_TRUE(gp(accept(secinfo(PageType::kTcs), Enclave::kFree)));
  EXPECT_TRUE(gp(accept(secinfo(PageType::kSecs, kPending), Enclave::kFree)));
  EXPECT_TRUE(gp(accept(secinfo(PageType::kReg, kPending | 1u << 6), Enclave::kFree))) << "reserved";
}
TEST_F(ModifyTest, EacceptFaultsOnBadPages) {
  EXPECT_TRUE(gp(accept(pending(), Enclave::kFree + 8))) << "not aligned";
  EXPECT_TRUE(gp(accept(pending(), kSize))) << "outside ELRANGE";
  EXPECT_TRUE(pf_at(accept(pending(), Enclave::kFree), kBase + Enclave::kFree)) << "not mapped";
  Enclave other(*machine_);
  other.add_layout();
  ASSERT_TRUE(other.init().ok());
  enclave_->table.map(kBase + Enclave::kFree, other.augment(Enclave::kFree));
  EXPECT_TRUE(pf(accept(pending(), Enclave::kFree))) << "another enclave's";
}
TEST_F(ModifyTest, EacceptFaultsOnABlockedOrLockedPage) {
  enclave_->augment(Enclave::kFree);
  state(Enclave::kFree).fetch_or(epcm::kLocked);
  EXPECT_TRUE(gp(accept(pending(), Enclave::kFree)));
  state(Enclave::kFree).fetch_xor(epcm::kLocked | epcm::kBlocked);
  EXPECT_TRUE(pf(accept(pending(), Enclave::kFree)));
}
TEST_F(ModifyTest, EacceptFaultsOnABadSecinfoAddress) {
  enclave_->augment(Enclave::kFree);
  thread_.regs.rcx = kBase + Enclave::kFree;
  thread_.regs.rbx = kBase + Enclave::kData + 8;
  EXPECT_TRUE(gp(thread_.execute(*enclave_, sgx::Enclu::kEaccept)));
  thread_.regs.rbx = 0x1000;
  EXPECT_TRUE(gp(thread_.execute(*enclave_, sgx::Enclu::kEaccept)));
  thread_.regs.rbx = kBase + Enclave::kFree;
  EXPECT_TRUE(pf(thread_.execute(*enclave_, sgx::Enclu::kEaccept))) << "SECINFO in a pending page";
}

TEST_F(ModifyTest, EmodprTakesRightsAwayUntilAccepted) {
  const EpcIndex page = accepted_page();
  ASSERT_TRUE(encls::emodpr(*machine_, page, secinfo(PageType::kReg, kR)).ok());
  EXPECT_EQ(machine_->epcm(page).state.load() & (epcm::kRights | epcm::kPr), epcm::kR | epcm::kPr);
  track();
  EXPECT_TRUE(returns(accept(secinfo(PageType::kReg, kR | kW | kPr), Enclave::kFree), Error::kPageAttributesMismatch));
  EXPECT_TRUE(accept(secinfo(PageType::kReg, kR | kPr), Enclave::kFree).ok());
  EXPECT_EQ(machine_->epcm(page).state.load() & epcm::kPr, 0u);
}
TEST_F(ModifyTest, EmodprNeverGivesRights) {
  const EpcIndex page = accepted_page();
  ASSERT_TRUE(encls::emodpr(*machine_, page, secinfo(PageType::kReg, kR | kX)).ok());
  EXPECT_EQ(machine_->epcm(page).state.load() & epcm::kRights, epcm::kR);
}
TEST_F(ModifyTest, EmodprOfAPendingPageIsNotModifiable) {
  EXPECT_TRUE(returns(encls::emodpr(*machine_, enclave_->augment(Enclave::kFree), secinfo(PageType::kReg, kR)),
                      Error::kPageNotModifiable));
}
TEST_F(ModifyTest, EmodprFaults) {
  const EpcIndex page = accepted_page();
  EXPECT_TRUE(gp(encls::emodpr(*machine_, page, secinfo(PageType::kReg, kW)))) << "W without R";
  EXPECT_TRUE(gp(encls::emodpr(*machine_, page, secinfo(PageType::kReg, kR | 1u << 7)))) << "reserved";
  EXPECT_TRUE(pf(encls::emodpr(*machine_, enclave_->page(Enclave::kTcs), secinfo(PageType::kReg, kR)))) << "a TCS";
  EXPECT_TRUE(pf(encls::emodpr(*machine_, enclave_->allocate(), secinfo(PageType::kReg, kR)))) << "invalid";
  EXPECT_TRUE(pf(encls::emodpr(*machine_, 256, secinfo(PageType::kReg, kR)))) << "no EPC";
  Enclave raw(*machine_);
  raw.add_layout();
  EXPECT_TRUE(gp(encls::emodpr(*machine_, raw.page(Enclave::kData), secinfo(PageType::kReg, kR)))) << "before EINIT";
  machine_->epcm(page).state.fetch_or(epcm::kLocked);
  EXPECT_TRUE(returns(encls::emodpr(*machine_, page, secinfo(PageType::kReg, kR)), Error::kLockfail));
}

TEST_F(ModifyTest, EmodtTrimsAPageThatMayThenBeRemovedWhileRunning) {
  const EpcIndex page = accepted_page();
  ASSERT_TRUE(encls::emodt(*machine_, page, secinfo(PageType::kTrim)).ok());
  EXPECT_EQ(machine_->page_rights(page), PROT_NONE);
  track();
  EXPECT_TRUE(returns(encls::eremove(*machine_, page), Error::kEnclaveAct)) << "not accepted yet";
  ASSERT_TRUE(accept(secinfo(PageType::kTrim, kModified), Enclave::kFree).ok());
  EXPECT_TRUE(encls::eremove(*machine_, page).ok());
  EXPECT_EQ(machine_->epcm(page).state.load(), 0u);
}
TEST_F(ModifyTest, EmodtMakesATcsThatCanBeEntered) {
  const EpcIndex page = accepted_page();
  sgx::Tcs tcs{};
  tcs.ossa = Enclave::kSsa2;
  tcs.nssa = 1;
  enclave_->put(Enclave::kFree, tcs);
  ASSERT_TRUE(encls::emodt(*machine_, page, secinfo(PageType::kTcs)).ok());
  track();
  Thread other;
  EXPECT_TRUE(pf(other.enter(*enclave_, Enclave::kFree))) << "not accepted yet";
  ASSERT_TRUE(accept(secinfo(PageType::kTcs, kModified), Enclave::kFree).ok());
  EXPECT_TRUE(other.enter(*enclave_, Enclave::kFree).ok());
}
TEST_F(ModifyTest, EacceptRefusesATcsThatIsNotPristine) {
  const auto expect_gp = [&](const std::function<void(sgx::Tcs&)>& edit, const char* what) {
    SCOPED_TRACE(what);
    static std::uint64_t offset = Enclave::kFree;
    offset += 0x1000;
    const EpcIndex page = accepted_page(offset);
    sgx::Tcs tcs{};
    tcs.nssa = 1;
    edit(tcs);
    enclave_->put(offset, tcs);
    ASSERT_TRUE(encls::emodt(*machine_, page, secinfo(PageType::kTcs)).ok());
    track();
    EXPECT_TRUE(gp(accept(secinfo(PageType::kTcs, kModified), offset)));
  };
  expect_gp([](auto& t) { t.reserved[0] = 1; }, "reserved");
  expect_gp([](auto& t) { t.flags = 1; }, "DBGOPTIN");
  expect_gp([](auto& t) { t.cssa = 1; }, "CSSA not below NSSA");
  expect_gp([](auto& t) { t.aep = 1; }, "AEP");
  expect_gp([](auto& t) { t.state = 1; }, "STATE");
}
TEST_F(ModifyTest, EmodtFaults) {
  const EpcIndex page = accepted_page();
  EXPECT_TRUE(gp(encls::emodt(*machine_, page, secinfo(PageType::kReg)))) << "to PT_REG";
  EXPECT_TRUE(gp(encls::emodt(*machine_, page, secinfo(PageType::kTrim, 1u << 6)))) << "reserved";
  EXPECT_TRUE(pf(encls::emodt(*machine_, enclave_->page(Enclave::kTcs2), secinfo(PageType::kTcs)))) << "a TCS to a TCS";
  EXPECT_TRUE(pf(encls::emodt(*machine_, enclave_->secs, secinfo(PageType::kTrim)))) << "a SECS";
  EXPECT_TRUE(pf(encls::emodt(*machine_, enclave_->allocate(), secinfo(PageType::kTrim)))) << "invalid";
  EXPECT_TRUE(pf(encls::emodt(*machine_, 256, secinfo(PageType::kTrim)))) << "no EPC";
  Enclave raw(*machine_);
  raw.add_layout();
  EXPECT_TRUE(gp(encls::emodt(*machine_, raw.page(Enclave::kData), secinfo(PageType::kTrim)))) << "before EINIT";
}
TEST_F(ModifyTest, EmodtOfAModifiedOrLockedPageIsRefused) {
  const EpcIndex page = accepted_page();
  ASSERT_TRUE(encls::emodt(*machine_, page, secinfo(PageType::kTrim)).ok());
  // A trimmed page is not PT_REG any more: #PF comes first, as in the SDM.
  EXPECT_TRUE(pf(encls::emodt(*machine_, page, secinfo(PageType::kTrim))));
  const EpcIndex other = enclave_->augment(Enclave::kFree + 0x1000);
  EXPECT_TRUE(returns(encls::emodt(*machine_, other, secinfo(PageType::kTrim)), Error::kPageNotModifiable));
  machine_->epcm(other).state.fetch_or(epcm::kLocked);
  EXPECT_TRUE(returns(encls::emodt(*machine_, other, secinfo(PageType::kTrim)), Error::kLockfail));
}
TEST_F(ModifyTest, EmodtOfABusyTcsLetsItsThreadOut) {
  Thread other;
  ASSERT_TRUE(other.enter(*enclave_, Enclave::kTcs2).ok());
  ASSERT_TRUE(encls::emodt(*machine_, enclave_->page(Enclave::kTcs2), secinfo(PageType::kTrim)).ok());
  ASSERT_TRUE(other.exit(*enclave_).ok());
  EXPECT_EQ(state(Enclave::kTcs2).load() & epcm::kBusy, 0u);
  EXPECT_TRUE(pf(other.enter(*enclave_, Enclave::kTcs2)));
}

class TrackTest : public ModifyTest {
 protected:
  void SetUp() override {
    ModifyTest::SetUp();
    ASSERT_TRUE(encls::emodpr(*machine_, accepted_page(), secinfo(PageType::kReg, kR)).ok());
  }
  Leaf accept_restricted() { return accept(secinfo(PageType::kReg, kR | kPr), Enclave::kFree); }
};

TEST_F(TrackTest, EacceptWithoutEtrackIsNotTracked) {
  leave_and_return();
  EXPECT_TRUE(returns(accept_restricted(), Error::kNotTracked));
}
TEST_F(TrackTest, EacceptWhileAThreadFromBeforeIsInsideIsNotTracked) {
  Thread other;
  ASSERT_TRUE(other.enter(*enclave_, Enclave::kTcs2).ok());
  ASSERT_TRUE(encls::etrack(*machine_, enclave_->secs).ok());
  EXPECT_EQ(machine_->untracked_processors(enclave_->secs), 2u);
  leave_and_return();
  EXPECT_TRUE(returns(accept_restricted(), Error::kNotTracked));
  other.interrupt(*enclave_);  // an AEX is enough
  EXPECT_EQ(machine_->untracked_processors(enclave_->secs), 0u);
  EXPECT_TRUE(accept_restricted().ok());
}
TEST_F(TrackTest, EtrackTwiceIsIncomplete) {
  ASSERT_TRUE(encls::etrack(*machine_, enclave_->secs).ok());
  EXPECT_TRUE(returns(encls::etrack(*machine_, enclave_->secs), Error::kPrevTrkIncmpl));
  leave_and_return();
  EXPECT_TRUE(encls::etrack(*machine_, enclave_->secs).ok());
}
TEST_F(TrackTest, CountsStayRightAcrossEpochs) {
  Thread other;
  ASSERT_TRUE(other.enter(*enclave_, Enclave::kTcs2).ok());
  track();
  EXPECT_EQ(machine_->active_processors(enclave_->secs), 2u);
  ASSERT_TRUE(other.exit(*enclave_).ok());
  track();
  ASSERT_TRUE(thread_.exit(*enclave_).ok());
  EXPECT_EQ(machine_->active_processors(enclave_->secs), 0u);
}
TEST_F(TrackTest, EtrackFaultsOnAPageThatIsNoSecs) {
  EXPECT_TRUE(pf(encls::etrack(*machine_, enclave_->page(Enclave::kData))));
  EXPECT_TRUE(pf(encls::etrack(*machine_, 256)));
}

TEST_F(ModifyTest, EblockReportsWhatItFinds) {
  const EpcIndex page = accepted_page();
  EXPECT_TRUE(encls::eblock(*machine_, page).ok());
  EXPECT_EQ(machine_->page_rights(page), PROT_NONE);
  EXPECT_TRUE(returns(encls::eblock(*machine_, page), Error::kBlkstate));
  EXPECT_TRUE(returns(encls::eblock(*machine_, enclave_->secs), Error::kPgIsSecs));
  EXPECT_TRUE(returns(encls::eblock(*machine_, enclave_->allocate()), Error::kPgInvld));
  EXPECT_TRUE(pf(encls::eblock(*machine_, 256)));
  machine_->epcm(page).state.fetch_or(epcm::kLocked);
  EXPECT_TRUE(returns(encls::eblock(*machine_, page), Error::kLockfail));
}

TEST_F(ModifyTest, EmodpeGivesRightsAtOnce) {
  const EpcIndex page = accepted_page();
  ASSERT_TRUE(extend(kX, Enclave::kFree).ok());
  EXPECT_EQ(machine_->page_rights(page), PROT_READ | PROT_WRITE | PROT_EXEC);
  ASSERT_TRUE(extend(0, Enclave::kFree).ok());
  EXPECT_EQ(machine_->page_rights(page), PROT_READ | PROT_WRITE | PROT_EXEC) << "and takes none away";
}
TEST_F(ModifyTest, EmodpeFaults) {
  const EpcIndex page = accepted_page();
  EXPECT_TRUE(gp(extend(kX, Enclave::kFree + 8))) << "not aligned";
  EXPECT_TRUE(gp(extend(kX, kSize))) << "outside ELRANGE";
  EXPECT_TRUE(gp(extend(kX | 1u << 6, Enclave::kFree))) << "reserved";
  EXPECT_TRUE(pf(extend(kX, Enclave::kFree + 0x1000))) << "not mapped";
  EXPECT_TRUE(pf(extend(kX, Enclave::kTcs))) << "a TCS";
  enclave_->augment(Enclave::kFree + 0x1000);
  EXPECT_TRUE(pf(extend(kX, Enclave::kFree + 0x1000))) << "pending";
  ASSERT_TRUE(encls::emodpr(*machine_, page, secinfo(PageType::kReg, 0)).ok());
  EXPECT_TRUE(gp(extend(kW, Enclave::kFree))) << "W without R";
  machine_->epcm(page).state.fetch_or(epcm::kLocked);
  EXPECT_TRUE(gp(extend(kR, Enclave::kFree))) << "in use";
}

TEST_F(ModifyTest, EacceptcopyCopiesAndSetsRights) {
  enclave_->augment(Enclave::kFree);
  ASSERT_TRUE(inside(sgx::Enclu::kEacceptcopy, secinfo(PageType::kReg, kR | kX), Enclave::kFree, Enclave::kCode).ok());
  EXPECT_EQ(enclave_->get<std::uint8_t>(Enclave::kFree + 0xfff), 0x90);
  EXPECT_EQ(machine_->page_rights(enclave_->page(Enclave::kFree)), PROT_READ | PROT_EXEC);
}
TEST_F(ModifyTest, EacceptcopyOntoAnythingButAFreshPageIsAMismatch) {
  const auto copy = [&](std::uint64_t offset) {
    return inside(sgx::Enclu::kEacceptcopy, secinfo(PageType::kReg, kR), offset, Enclave::kCode);
  };
  accepted_page();
  EXPECT_TRUE(returns(copy(Enclave::kFree), Error::kPageAttributesMismatch)) << "accepted already";
  EXPECT_TRUE(returns(copy(Enclave::kTcs), Error::kPageAttributesMismatch)) << "a TCS";
  enclave_->augment(Enclave::kFree + 0x1000);
  enclave_->table.map(kBase + Enclave::kFree + 0x2000, enclave_->page(Enclave::kFree + 0x1000));
  EXPECT_TRUE(returns(copy(Enclave::kFree + 0x2000), Error::kPageAttributesMismatch)) << "mapped elsewhere";
}
TEST_F(ModifyTest, EacceptcopyFaults) {
  enclave_->augment(Enclave::kFree);
  const auto copy = [&](const sgx::Secinfo& info, std::uint64_t to, std::uint64_t from) {
    return inside(sgx::Enclu::kEacceptcopy, info, to, from);
  };
  const sgx::Secinfo good = secinfo(PageType::kReg, kR);
  EXPECT_TRUE(gp(copy(secinfo(PageType::kReg, kW), Enclave::kFree, Enclave::kCode))) << "W without R";
  EXPECT_TRUE(gp(copy(secinfo(PageType::kTcs, kR), Enclave::kFree, Enclave::kCode))) << "not PT_REG";
  EXPECT_TRUE(gp(copy(secinfo(PageType::kReg, kR | 1u << 7), Enclave::kFree, Enclave::kCode))) << "reserved";
  EXPECT_TRUE(gp(copy(good, Enclave::kFree + 8, Enclave::kCode))) << "destination not aligned";
  EXPECT_TRUE(gp(copy(good, Enclave::kFree, Enclave::kCode + 8))) << "source not aligned";
  EXPECT_TRUE(gp(copy(good, kSize, Enclave::kCode))) << "destination outside";
  EXPECT_TRUE(gp(copy(good, Enclave::kFree, kSize))) << "source outside";
  EXPECT_TRUE(pf(copy(good, Enclave::kFree, 0x10000))) << "no source";
  EXPECT_TRUE(pf(copy(good, 0x10000, Enclave::kCode))) << "no destination";
  EXPECT_TRUE(pf(copy(good, Enclave::kFree, Enclave::kTcs))) << "source not readable";
  state(Enclave::kFree).fetch_or(epcm::kLocked);
  EXPECT_TRUE(gp(copy(good, Enclave::kFree, Enclave::kCode))) << "in use";
}
TEST_F(ModifyTest, InsideLeavesFaultOutside) {
  ASSERT_TRUE(thread_.exit(*enclave_).ok());
  for (const auto leaf : {sgx::Enclu::kEaccept, sgx::Enclu::kEmodpe, sgx::Enclu::kEacceptcopy}) {
    EXPECT_TRUE(gp(inside(leaf, pending(), Enclave::kFree)));
  }
}

TEST_F(ModifyTest, DebuggerReadsAndWrites) {
  const EpcIndex data = enclave_->page(Enclave::kData), tcs = enclave_->page(Enclave::kTcs);
  std::uint64_t value = 0;
  ASSERT_TRUE(encls::edbgwr(*machine_, data, 0x800, 0x1122334455667788).ok());
  ASSERT_TRUE(encls::edbgrd(*machine_, data, 0x800, value).ok());
  EXPECT_EQ(value, 0x1122334455667788u);
  ASSERT_TRUE(encls::edbgrd(*machine_, tcs, offsetof(sgx::Tcs, ossa), value).ok());
  EXPECT_EQ(value, Enclave::kSsa);
  EXPECT_TRUE(encls::edbgwr(*machine_, enclave_->page(Enclave::kCode), 0, 0).ok()) << "EPCM rights do not count";
}
TEST_F(ModifyTest, DebuggerFaults) {
  const EpcIndex data = enclave_->page(Enclave::kData);
  std::uint64_t value = 0;
  EXPECT_TRUE(gp(encls::edbgrd(*machine_, data, 4, value))) << "not aligned";
  EXPECT_TRUE(gp(encls::edbgrd(*machine_, data, 4096, value))) << "beyond the page";
  EXPECT_TRUE(pf(encls::edbgrd(*machine_, enclave_->secs, 0, value))) << "a SECS";
  EXPECT_TRUE(pf(encls::edbgrd(*machine_, enclave_->allocate(), 0, value))) << "invalid";
  EXPECT_TRUE(pf(encls::edbgrd(*machine_, 256, 0, value))) << "no EPC";
  EXPECT_TRUE(gp(encls::edbgwr(*machine_, enclave_->page(Enclave::kTcs), offsetof(sgx::Tcs, ossa), 0)))
      << "TCS beside FLAGS";
  EXPECT_TRUE(
      returns(encls::edbgrd(*machine_, enclave_->augment(Enclave::kFree), 0, value), Error::kPageNotDebuggable));
  machine_->epcm(data).state.fetch_or(epcm::kLocked);
  EXPECT_TRUE(gp(encls::edbgwr(*machine_, data, 0, 0))) << "in use";
}
TEST_F(ModifyTest, DebuggerFaultsOnProductionEnclaves) {
  sgx::Secs secs = plain_secs();
  secs.attributes.flags = sgx::attribute::kMode64Bit;
  Enclave production(*machine_, secs);
  production.add_layout();
  std::uint64_t value = 0;
  EXPECT_TRUE(gp(encls::edbgrd(*machine_, production.page(Enclave::kData), 0, value)));
  EXPECT_TRUE(gp(encls::edbgwr(*machine_, production.page(Enclave::kData), 0, 0)));
}

}  // namespace
}  // namespace softsgx::test

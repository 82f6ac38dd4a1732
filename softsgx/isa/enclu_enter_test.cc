// EENTER and EEXIT: what they do to registers and SSA, every fault, and races.
#include <thread>

#include "softsgx/isa/enter_fixture.h"

namespace softsgx::test {
namespace {

using namespace sgx::secinfo;

TEST_F(EnterTest, LoadsWhatTheTcsSays) {
  const Registers before = t_.regs;
  ASSERT_TRUE(t_.enter(*enclave_).ok());
  EXPECT_EQ(t_.regs.rip, kBase + Enclave::kCode + 0x10);
  EXPECT_EQ(t_.regs.rcx, before.rip + 3) << "the instruction after ENCLU";
  EXPECT_EQ(t_.regs.rax, 0u) << "CSSA";
  EXPECT_EQ(t_.regs.rsp, before.rsp);
  EXPECT_EQ(t_.regs.fsbase, kBase + Enclave::kData);
  EXPECT_EQ(t_.regs.gsbase, kBase + Enclave::kData);
  EXPECT_EQ(t_.regs.xcr0, sgx::xfrm::kLegacy | sgx::xfrm::kAvx);
  EXPECT_TRUE(t_.lp.enclave_mode);
  EXPECT_TRUE(t_.lp.in_elrange(kBase + kSize - 1));
  EXPECT_FALSE(t_.lp.in_elrange(kBase + kSize));
  EXPECT_FALSE(t_.lp.in_elrange(kBase - 1));
  EXPECT_EQ(frame().ursp, before.rsp);
  EXPECT_EQ(frame().urbp, before.rbp);
  EXPECT_EQ(machine_->active_processors(enclave_->secs), 1u);
}

TEST_F(EnterTest, ExitRestoresTheHost) {
  const Registers before = t_.regs;
  ASSERT_TRUE(t_.enter(*enclave_).ok());
  t_.regs.rdi = 77;
  t_.regs.fsbase = 1;
  ASSERT_TRUE(t_.exit(*enclave_).ok());
  EXPECT_EQ(t_.regs.rip, 0x400200u);
  EXPECT_EQ(t_.regs.rcx, kAep);
  EXPECT_EQ(t_.regs.rdi, 77u);
  EXPECT_EQ(t_.regs.fsbase, before.fsbase);
  EXPECT_EQ(t_.regs.gsbase, before.gsbase);
  EXPECT_EQ(t_.regs.xcr0, before.xcr0);
  EXPECT_FALSE(t_.lp.enclave_mode);
  EXPECT_EQ(machine_->active_processors(enclave_->secs), 0u);
  EXPECT_TRUE(t_.enter(*enclave_).ok()) << "the TCS is free again";
}

TEST_F(EnterTest, TrapFlagIsSuppressedAndRestoredOnOptOutEntry) {
  t_.regs.rflags |= rflags::kTf;
  ASSERT_TRUE(t_.enter(*enclave_).ok());
  EXPECT_EQ(t_.regs.rflags & rflags::kTf, 0u);
  ASSERT_TRUE(t_.exit(*enclave_).ok());
  EXPECT_NE(t_.regs.rflags & rflags::kTf, 0u);
}

TEST_F(EnterTest, TrapFlagStaysOnOptInEntry) {
  ASSERT_TRUE(
      encls::edbgwr(*machine_, enclave_->page(Enclave::kTcs), offsetof(sgx::Tcs, flags), sgx::kTcsDbgoptin).ok());
  t_.regs.rflags |= rflags::kTf;
  ASSERT_TRUE(t_.enter(*enclave_).ok());
  EXPECT_TRUE(t_.lp.dbgoptin);
  EXPECT_NE(t_.regs.rflags & rflags::kTf, 0u);
}

TEST_F(EnterTest, FaultsInsideAnEnclave) {
  ASSERT_TRUE(t_.enter(*enclave_).ok());
  EXPECT_TRUE(gp(t_.enter(*enclave_, Enclave::kTcs2)));
}
TEST_F(EnterTest, FaultsOnAMisalignedTcs) {
  EXPECT_TRUE(gp(t_.enter(*enclave_, Enclave::kTcs + 8)));
}
TEST_F(EnterTest, FaultsOnMemoryThatIsNoEpc) {
  EXPECT_TRUE(pf_at(t_.enter(*enclave_, kSize), kBase + kSize));
}
TEST_F(EnterTest, FaultsOnANonCanonicalAep) {
  t_.regs.rax = static_cast<std::uint64_t>(sgx::Enclu::kEenter);
  t_.regs.rbx = kBase + Enclave::kTcs;
  t_.regs.rcx = 1ull << 50;
  EXPECT_TRUE(gp(enclu::eenter(*machine_, enclave_->table, t_.lp, t_.regs)));
}
TEST_F(EnterTest, FaultsOnALockedTcs) {
  state(Enclave::kTcs).fetch_or(epcm::kLocked);
  EXPECT_TRUE(gp(t_.enter(*enclave_)));
}
TEST_F(EnterTest, FaultsOnAnInvalidTcs) {
  ASSERT_TRUE(encls::eremove(*machine_, enclave_->page(Enclave::kTcs)).ok());
  expect_enter(pf, t_);
}
TEST_F(EnterTest, FaultsOnABlockedTcs) {
  ASSERT_TRUE(encls::eblock(*machine_, enclave_->page(Enclave::kTcs)).ok());
  expect_enter(pf, t_);
}
TEST_F(EnterTest, FaultsOnAPendingTcs) {
  state(Enclave::kTcs).fetch_or(epcm::kPending);
  expect_enter(pf, t_);
}
TEST_F(EnterTest, FaultsOnAModifiedTcs) {
  state(Enclave::kTcs).fetch_or(epcm::kModified);
  expect_enter(pf, t_);
}
TEST_F(EnterTest, FaultsOnAPageThatIsNoTcs) {
  EXPECT_TRUE(pf(t_.enter(*enclave_, Enclave::kData)));
}
TEST_F(EnterTest, FaultsOnATcsMappedElsewhere) {
  enclave_->table.map(kBase + Enclave::kFree, enclave_->page(Enclave::kTcs));
  EXPECT_TRUE(pf(t_.enter(*enclave_, Enclave::kFree)));
}
TEST_F(EnterTest, FaultsOnABusyTcs) {
  ASSERT_TRUE(t_.enter(*enclave_).ok());
  Thread other;
  EXPECT_TRUE(gp(other.enter(*enclave_)));
  EXPECT_EQ(machine_->active_processors(enclave_->secs), 1u);
}
TEST_F(EnterTest, FaultsOnAMisalignedOssa) {
  tcs().ossa += 8;
  expect_enter(gp, t_);
}
TEST_F(EnterTest, FaultsOnAMisalignedFsOrGs) {
  tcs().ofsbase = 8;
  expect_enter(gp, t_);
  tcs().ofsbase = 0;
  tcs().ogsbase = 8;
  expect_enter(gp, t_);
}
TEST_F(EnterTest, FaultsOnANonCanonicalFsOrGs) {
  tcs().ofsbase = 1ull << 48;
  expect_enter(gp, t_);
  tcs().ofsbase = 0;
  tcs().ogsbase = 1ull << 48;
  expect_enter(gp, t_);
}
TEST_F(EnterTest, FaultsOnReservedTcsFlags) {
  tcs().flags = 2;
  expect_enter(gp, t_);
}
TEST_F(EnterTest, FaultsBeforeEinit) {
  Enclave raw(*machine_);
  raw.add_layout();
  EXPECT_TRUE(gp(t_.enter(raw)));
  EXPECT_EQ(machine_->active_processors(raw.secs), 0u);
}
TEST_F(EnterTest, FaultsOnXfrmBeyondXcr0) {
  t_.regs.xcr0 = sgx::xfrm::kLegacy;
  expect_enter(gp, t_);
}
TEST_F(EnterTest, FaultsWhenNoSsaFrameIsLeft) {
  tcs().cssa = 2;
  expect_enter(gp, t_);
}
TEST_F(EnterTest, FaultsOnAnSsaThatIsNotMapped) {
  enclave_->table.unmap(kBase + Enclave::kSsa);
  t_.regs.rbx = 0;
  const Leaf l = t_.enter(*enclave_);
  EXPECT_TRUE(pf_at(l, kBase + Enclave::kSsa));
  EXPECT_EQ(l.fault.error_code, pfec::kPresent | pfec::kWrite | pfec::kUser | pfec::kSgx);
}
TEST_F(EnterTest, FaultsOnAnSsaPageOfTheWrongKind) {
  const std::uint64_t good = state(Enclave::kSsa).load();
  const auto expect_bad = [&](std::uint64_t bad, const char* what) {
    SCOPED_TRACE(what);
    state(Enclave::kSsa).store(bad);
    expect_enter(pf, t_);
    state(Enclave::kSsa).store(good);
  };
  expect_bad(good & ~epcm::kValid, "invalid");
  expect_bad(good | epcm::kBlocked, "blocked");
  expect_bad(good | epcm::kPending, "pending");
  expect_bad(good | epcm::kModified, "modified");
  expect_bad(good & ~epcm::kW, "not writable");
  expect_bad(good & ~epcm::kR, "not readable");
  expect_bad((good & ~epcm::kTypeMask) | epcm::of_type(sgx::PageType::kTcs), "a TCS");
  expect_bad((good & 0xffffffff) | epcm::of_secs(enclave_->secs + 1), "another enclave's");
}
TEST_F(EnterTest, FaultsOnAnSsaPageMappedElsewhere) {
  enclave_->table.map(kBase + Enclave::kSsa, enclave_->page(Enclave::kData));
  expect_enter(pf, t_);
}
TEST_F(EnterTest, FaultsOnAnSsaPageThatStaysLocked) {
  state(Enclave::kSsa).fetch_or(epcm::kLocked);
  expect_enter(gp, t_);
}
TEST_F(EnterTest, FaultsOnANonCanonicalEntry) {
  tcs().oentry = 1ull << 48;
  expect_enter(gp, t_);
}
TEST_F(EnterTest, ExitFaultsOutside) {
  EXPECT_TRUE(gp(t_.exit(*enclave_)));
}
TEST_F(EnterTest, ExitFaultsOnANonCanonicalTarget) {
  ASSERT_TRUE(t_.enter(*enclave_).ok());
  t_.regs.rbx = 1ull << 50;
  EXPECT_TRUE(gp(t_.execute(*enclave_, sgx::Enclu::kEexit)));
  EXPECT_TRUE(t_.lp.enclave_mode);
}

TEST_F(EnterTest, AnSsaFrameOfSeveralPagesHasGprsOnItsLast) {
  sgx::Secs secs = plain_secs();
  secs.ssaframesize = 2;
  enclave_ = std::make_unique<Enclave>(*machine_, secs);
  enclave_->add_layout();  // kSsa and kSsa + 0x1000 are one frame now
  ASSERT_TRUE(enclave_->init().ok());
  ASSERT_TRUE(t_.enter(*enclave_).ok());
  t_.regs.rdx = 0xabc;
  t_.interrupt(*enclave_);
  EXPECT_EQ(frame(Enclave::kSsa + 0x1000).rdx, 0xabcu);
  EXPECT_TRUE(pf(t_.enter(*enclave_))) << "frame 1 would lie on the next TCS";
  EXPECT_TRUE(t_.resume(*enclave_).ok());
}

TEST_F(EnterTest, ThreadsShareATcsOneAtATime) {
  constexpr int kThreads = 4, kRounds = 20000;
  std::atomic<int> inside{0}, entries{0}, overlaps{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      Thread t;
      for (int n = 0; n < kRounds; ++n) {
        const Leaf l = t.enter(*enclave_);
        if (l.faulted()) continue;
        if (inside.fetch_add(1) != 0) ++overlaps;
        ++entries;
        if (n % 2 == 0) {
          inside.fetch_sub(1);
          t.interrupt(*enclave_);
          // Another thread may be in frame 1; this frame is resumed by whoever is first.
          while (t.resume(*enclave_).faulted() && tcs().cssa != 0) std::this_thread::yield();
          if (!t.lp.enclave_mode) continue;
          inside.fetch_add(1);
        }
        inside.fetch_sub(1);
        EXPECT_TRUE(t.exit(*enclave_).ok());
      }
    });
  }
  for (auto& t : threads) t.join();
  EXPECT_EQ(overlaps, 0);
  EXPECT_GT(entries, 0);
  EXPECT_EQ(machine_->active_processors(enclave_->secs), 0u);
}

TEST_F(EnterTest, RemovingAPageAndEnteringExcludeEachOther) {
  // EREMOVE of the TCS either wins, and EENTER faults, or finds the thread inside.
  constexpr int kRounds = 2000;
  int removed = 0, refused = 0;
  const std::uint64_t good = state(Enclave::kTcs).load();
  for (int n = 0; n < kRounds; ++n) {
    std::atomic<bool> go{false};
    Leaf entered, gone;
    std::thread host([&] {
      Thread t;
      while (!go) {
      }
      entered = t.enter(*enclave_);
    });
    go = true;
    gone = encls::eremove(*machine_, enclave_->page(Enclave::kTcs));
    host.join();
    ASSERT_FALSE(entered.ok() && gone.ok());
    gone.ok() ? ++removed : ++refused;
    machine_->epcm(enclave_->secs).active.store(0);
    if (gone.ok()) machine_->epcm(enclave_->secs).children.fetch_add(1);
    state(Enclave::kTcs).store(good);
    tcs().cssa = 0;
  }
  EXPECT_EQ(removed + refused, kRounds);
}

TEST_F(EnterTest, EncluDispatchRefusesUnknownLeaves) {
  t_.regs.rax = 8;
  EXPECT_TRUE(gp(enclu::execute(*machine_, enclave_->table, t_.lp, t_.regs, t_.xsave)));
  t_.regs.rax = 0xffffffff;
  EXPECT_TRUE(gp(enclu::execute(*machine_, enclave_->table, t_.lp, t_.regs, t_.xsave)));
}
TEST_F(EnterTest, EncluDispatchLooksAtEaxOnly) {
  t_.regs.rax = 0xdead00000002;
  t_.regs.rbx = kBase + Enclave::kTcs;
  t_.regs.rcx = kAep;
  EXPECT_TRUE(enclu::execute(*machine_, enclave_->table, t_.lp, t_.regs, t_.xsave).ok());
}

}  // namespace
}  // namespace softsgx::test

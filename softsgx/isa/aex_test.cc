// AEX and ERESUME: SSA frames, EXITINFO, extended state, and every fault.
#include <algorithm>

#include "softsgx/isa/enter_fixture.h"

namespace softsgx::test {
namespace {

class AexTest : public EnterTest {
 protected:
  void SetUp() override {
    EnterTest::SetUp();
    ASSERT_TRUE(t_.enter(*enclave_).ok());
    inside_ = t_.regs;
    std::uint64_t value = 100;
    for (std::uint64_t* r :
         {&inside_.rax, &inside_.rcx, &inside_.rdx, &inside_.rbx, &inside_.rsp, &inside_.rbp, &inside_.rsi,
          &inside_.rdi, &inside_.r8, &inside_.r9, &inside_.r10, &inside_.r11, &inside_.r12, &inside_.r13, &inside_.r14,
          &inside_.r15, &inside_.fsbase, &inside_.gsbase}) {
      *r = value++;
    }
    inside_.rip = kBase + 0x123;
    inside_.rflags |= rflags::kDf | rflags::kCf | rflags::kZf | rflags::kRf;
    t_.regs = inside_;
    for (std::size_t i = 0; i < t_.xsave.bytes.size(); ++i) t_.xsave.bytes[i] = static_cast<std::byte>(i * 3 + 1);
    set_header(t_.xsave.bytes.data(), sgx::xfrm::kLegacy | sgx::xfrm::kAvx | sgx::xfrm::kAvx512);
    const std::uint32_t mxcsr = 0x1fa0;
    std::memcpy(t_.xsave.bytes.data() + sgx::xsave::kMxcsrOffset, &mxcsr, sizeof(mxcsr));
  }
  static void set_header(std::byte* area, std::uint64_t bv) {
    std::memset(area + 512, 0, 64);
    std::memcpy(area + 512, &bv, sizeof(bv));
  }
  [[nodiscard]] std::byte* ssa() { return enclave_->bytes(Enclave::kSsa); }
  Registers inside_;
};

TEST_F(AexTest, LoadsSyntheticState) {
  const Thread host;
  t_.interrupt(*enclave_);
  EXPECT_EQ(t_.regs.rax, 3u) << "ERESUME";
  EXPECT_EQ(t_.regs.rbx, kBase + Enclave::kTcs);
  EXPECT_EQ(t_.regs.rcx, kAep);
  EXPECT_EQ(t_.regs.rip, kAep);
  EXPECT_EQ(t_.regs.rsp, host.regs.rsp);
  EXPECT_EQ(t_.regs.rbp, host.regs.rbp);
  EXPECT_EQ(t_.regs.rdx | t_.regs.rsi | t_.regs.rdi | t_.regs.r8 | t_.regs.r9 | t_.regs.r10 | t_.regs.r11 |
                t_.regs.r12 | t_.regs.r13 | t_.regs.r14 | t_.regs.r15,
            0u);
  EXPECT_EQ(t_.regs.fsbase, host.regs.fsbase);
  EXPECT_EQ(t_.regs.gsbase, host.regs.gsbase);
  EXPECT_EQ(t_.regs.xcr0, host.regs.xcr0);
  EXPECT_EQ(t_.regs.rflags & (rflags::kStatus | rflags::kRf), 0u);
  EXPECT_NE(t_.regs.rflags & rflags::kDf, 0u) << "the SDM leaves it alone";
  EXPECT_FALSE(t_.lp.enclave_mode);
  std::uint64_t bv = 1;
  std::memcpy(&bv, t_.xsave.bytes.data() + 512, sizeof(bv));
  EXPECT_EQ(bv, 0u);
  EXPECT_TRUE(
      std::all_of(t_.xsave.bytes.begin() + 160, t_.xsave.bytes.end(), [](std::byte b) { return b == std::byte{0}; }));
}

TEST_F(AexTest, SavesRegistersToTheFrame) {
  t_.interrupt(*enclave_);
  const sgx::GprSgx g = frame();
  EXPECT_EQ(g.rax, inside_.rax);
  EXPECT_EQ(g.r15, inside_.r15);
  EXPECT_EQ(g.rsp, inside_.rsp);
  EXPECT_EQ(g.rip, inside_.rip);
  EXPECT_EQ(g.rflags, inside_.rflags);
  EXPECT_EQ(g.fsbase, inside_.fsbase);
  EXPECT_EQ(g.gsbase, inside_.gsbase);
  EXPECT_EQ(g.exitinfo, 0u) << "interrupts are not reported";
  EXPECT_EQ(tcs().cssa, 1u);
}

TEST_F(AexTest, SavesOnlyXfrmsState) {
  const XsaveImage before = t_.xsave;
  t_.interrupt(*enclave_);
  std::uint64_t bv = 0;
  std::memcpy(&bv, ssa() + 512, sizeof(bv));
  EXPECT_EQ(bv, sgx::xfrm::kLegacy | sgx::xfrm::kAvx);
  EXPECT_EQ(std::memcmp(ssa() + 160, before.bytes.data() + 160, 256), 0) << "XMM";
  EXPECT_EQ(std::memcmp(ssa() + 576, before.bytes.data() + 576, 256), 0) << "AVX";
  EXPECT_TRUE(std::all_of(ssa() + 1088, ssa() + 2688, [](std::byte b) { return b == std::byte{0}; })) << "AVX-512";
}

TEST_F(AexTest, WritesInitialStateOfComponentsNotInUse) {
  set_header(t_.xsave.bytes.data(), sgx::xfrm::kX87);
  t_.interrupt(*enclave_);
  EXPECT_TRUE(std::all_of(ssa() + 160, ssa() + 416, [](std::byte b) { return b == std::byte{0}; }));
  std::uint32_t mxcsr = 0;
  std::memcpy(&mxcsr, ssa() + 24, sizeof(mxcsr));
  EXPECT_EQ(mxcsr, 0x1fa0u) << "MXCSR is saved all the same";
}

TEST_F(AexTest, ResumeBringsEverythingBack) {
  const XsaveImage before = t_.xsave;
  t_.interrupt(*enclave_);
  Registers& r = t_.regs;
  r.rflags = 0x202 | rflags::kAc;
  ASSERT_TRUE(t_.resume(*enclave_).ok());
  Registers expected = inside_;
  EXPECT_EQ(std::memcmp(&expected, &r, sizeof(r)), 0);
  EXPECT_EQ(std::memcmp(t_.xsave.bytes.data() + 576, before.bytes.data() + 576, 256), 0);
  EXPECT_EQ(tcs().cssa, 0u);
  EXPECT_TRUE(t_.lp.enclave_mode);
  // And out once more: the host's registers are those of the ERESUME.
  ASSERT_TRUE(t_.exit(*enclave_).ok());
  EXPECT_EQ(t_.regs.fsbase, 0x10000u);
}

TEST_F(AexTest, ResumeNeverTakesSystemFlagsFromTheFrame) {
  t_.interrupt(*enclave_);
  constexpr std::uint64_t kIf = 1u << 9, kIopl = 3u << 12, kVm = 1u << 17;
  sgx::GprSgx g = frame();
  g.rflags = kIopl | kVm | rflags::kTf;
  enclave_->put(Enclave::kSsa + sgx::kPageSize - sizeof(g), g);
  ASSERT_TRUE(t_.resume(*enclave_).ok());
  EXPECT_EQ(t_.regs.rflags & (kIopl | kVm | rflags::kTf), 0u);
  EXPECT_NE(t_.regs.rflags & kIf, 0u);
}

TEST_F(AexTest, NestsUntilTheFramesAreUsedUp) {
  t_.interrupt(*enclave_);
  ASSERT_TRUE(t_.enter(*enclave_).ok());
  EXPECT_EQ(t_.regs.rax, 1u) << "CSSA";
  t_.interrupt(*enclave_);
  EXPECT_TRUE(gp(t_.enter(*enclave_)));
  ASSERT_TRUE(t_.resume(*enclave_).ok());
  ASSERT_TRUE(t_.exit(*enclave_).ok());
  ASSERT_TRUE(t_.resume(*enclave_).ok());
  EXPECT_EQ(t_.regs.rip, inside_.rip);
}

struct Vector {
  std::uint8_t vector;
  std::uint32_t exitinfo, with_exinfo;
};
class ExitinfoTest : public AexTest, public testing::WithParamInterface<Vector> {};

TEST_P(ExitinfoTest, IsTheSdmsTable) {
  const enclu::AexEvent event{.exception = true, .vector = GetParam().vector, .error_code = 0x8007, .address = 0x1234};
  t_.interrupt(*enclave_, event);
  EXPECT_EQ(frame().exitinfo, GetParam().exitinfo);
  sgx::Secs secs = plain_secs();
  secs.miscselect = sgx::miscselect::kExinfo;
  build(secs);
  Thread t;
  ASSERT_TRUE(t.enter(*enclave_).ok());
  t.interrupt(*enclave_, event);
  EXPECT_EQ(frame().exitinfo, GetParam().with_exinfo);
  const auto info =
      enclave_->get<sgx::Exinfo>(Enclave::kSsa + sgx::kPageSize - sizeof(sgx::GprSgx) - sizeof(sgx::Exinfo));
  const bool reported = GetParam().vector == sgx::vector::kPf || GetParam().vector == sgx::vector::kGp;
  EXPECT_EQ(info.errcd, reported ? 0x8007u : 0u);
  EXPECT_EQ(info.maddr, GetParam().vector == sgx::vector::kPf ? 0x1234u : 0u);
}

INSTANTIATE_TEST_SUITE_P(Vectors, ExitinfoTest,
                         testing::Values(Vector{0, 0x80000300, 0x80000300}, Vector{1, 0x80000301, 0x80000301},
                                         Vector{3, 0x80000603, 0x80000603}, Vector{5, 0x80000305, 0x80000305},
                                         Vector{6, 0x80000306, 0x80000306}, Vector{13, 0, 0x8000030d},
                                         Vector{14, 0, 0x8000030e}, Vector{16, 0x80000310, 0x80000310},
                                         Vector{17, 0x80000311, 0x80000311}, Vector{19, 0x80000313, 0x80000313},
                                         Vector{7, 0, 0}, Vector{12, 0, 0}),
                         [](const auto& param) { return "Vector" + std::to_string(param.param.vector); });

class ResumeTest : public AexTest {
 protected:
  void SetUp() override {
    AexTest::SetUp();
    t_.interrupt(*enclave_);
  }
  // ERESUME is #GP and leaves the frame to try again.
  void expect_gp() {
    const Registers before = t_.regs;
    EXPECT_TRUE(gp(t_.resume(*enclave_)));
    expect_untouched(t_, before);
    EXPECT_EQ(tcs().cssa, 1u);
  }
  void edit_frame(const std::function<void(sgx::GprSgx&)>& edit) {
    sgx::GprSgx g = frame();
    edit(g);
    enclave_->put(Enclave::kSsa + sgx::kPageSize - sizeof(g), g);
  }
};

TEST_F(ResumeTest, FaultsWithoutAFrame) {
  tcs().cssa = 0;
  EXPECT_TRUE(gp(t_.resume(*enclave_)));
}
TEST_F(ResumeTest, FaultsOnABusyTcs) {
  ASSERT_TRUE(t_.resume(*enclave_).ok());
  Thread other;
  EXPECT_TRUE(gp(other.resume(*enclave_)));
}
TEST_F(ResumeTest, FaultsOnANonCanonicalRip) {
  edit_frame([](auto& g) { g.rip = 1ull << 50; });
  expect_gp();
}
TEST_F(ResumeTest, FaultsOnANonCanonicalFsOrGs) {
  edit_frame([](auto& g) { g.fsbase = 1ull << 50; });
  expect_gp();
  edit_frame([](auto& g) { g.fsbase = 0, g.gsbase = 1ull << 50; });
  expect_gp();
}
TEST_F(ResumeTest, FaultsOnXstateBvBeyondXfrm) {
  set_header(ssa(), sgx::xfrm::kLegacy | sgx::xfrm::kHi16Zmm);
  expect_gp();
  set_header(ssa(), 1ull << 63);
  expect_gp();
}
TEST_F(ResumeTest, FaultsOnXcompBv) {
  ssa()[512 + 15] = std::byte{0x80};
  expect_gp();
}
TEST_F(ResumeTest, FaultsOnReservedXsaveHeaderBytes) {
  ssa()[512 + 63] = std::byte{1};
  expect_gp();
}
TEST_F(ResumeTest, FaultsOnReservedMxcsrBits) {
  ssa()[26] = std::byte{1};
  expect_gp();
}
TEST_F(ResumeTest, FaultsOnAnSsaThatIsGone) {
  enclave_->table.unmap(kBase + Enclave::kSsa);
  const Registers before = t_.regs;
  EXPECT_TRUE(pf_at(t_.resume(*enclave_), kBase + Enclave::kSsa));
  expect_untouched(t_, before);
}
TEST_F(ResumeTest, FaultsOnAPageThatIsNoTcs) {
  EXPECT_TRUE(pf(t_.resume(*enclave_, Enclave::kData)));
}
TEST_F(ResumeTest, AnotherThreadMayResume) {
  Thread other;
  ASSERT_TRUE(other.resume(*enclave_).ok());
  EXPECT_EQ(other.regs.rip, inside_.rip);
}

}  // namespace
}  // namespace softsgx::test

// EREPORT, and its verification with EGETKEY.
#include <algorithm>

#include "softsgx/isa/key_fixture.h"

namespace softsgx::test {
namespace {

class ReportTest : public KeyTest {
 protected:
  // EREPORT in enclave_ for `target`.
  sgx::Report report(const sgx::Targetinfo& target) {
    enclave_->put(Enclave::kData, target);
    for (int i = 0; i < 64; ++i)
      enclave_->put(Enclave::kData + 0x200 + static_cast<unsigned>(i), static_cast<std::uint8_t>(i));
    thread_.regs.rbx = kBase + Enclave::kData;
    thread_.regs.rcx = kBase + Enclave::kData + 0x200;
    thread_.regs.rdx = kBase + Enclave::kData + 0x400;
    EXPECT_TRUE(thread_.execute(*enclave_, sgx::Enclu::kEreport).ok());
    return enclave_->get<sgx::Report>(Enclave::kData + 0x400);
  }
  sgx::Targetinfo target_of(const Enclave& e) {
    const sgx::Secs& s = e.m.secs(e.secs);
    sgx::Targetinfo t{};
    t.measurement = s.mrenclave;
    t.attributes = s.attributes;
    t.configsvn = s.configsvn;
    t.miscselect = s.miscselect;
    std::copy(std::begin(s.configid), std::end(s.configid), t.configid);
    return t;
  }
  // As an enclave verifies a report that is meant for it.
  bool verifies(Enclave& e, const sgx::Report& r) {
    auto q = request(KeyName::kReport, 0);
    std::copy(std::begin(r.keyid), std::end(r.keyid), q.keyid);
    const Key mac = keys::cmac(key_in(e, q), std::as_bytes(std::span(&r.body, 1)));
    return std::equal(mac.begin(), mac.end(), r.mac);
  }
};

TEST_F(ReportTest, SaysWhoReports) {
  const auto target = make(*machine_, plain_secs());
  const sgx::Report r = report(target_of(*target));
  const sgx::Secs& s = machine_->secs(enclave_->secs);
  EXPECT_EQ(r.body.mrenclave, s.mrenclave);
  EXPECT_EQ(r.body.mrsigner, s.mrsigner);
  EXPECT_EQ(r.body.attributes, s.attributes);
  EXPECT_EQ(r.body.isvprodid, 7);
  EXPECT_EQ(r.body.isvsvn, 5);
  EXPECT_EQ(r.body.miscselect, 1u);
  EXPECT_EQ(r.body.configid[7], 12u);
  EXPECT_EQ(r.body.configsvn, 3);
  EXPECT_TRUE(std::equal(machine_->cpusvn().begin(), machine_->cpusvn().end(), r.body.cpusvn));
  for (int i = 0; i < 64; ++i) EXPECT_EQ(r.body.reportdata[i], i);
  EXPECT_EQ(thread_.regs.rax, 0u) << "EAX is not changed by EREPORT";
}
TEST_F(ReportTest, TheTargetVerifiesIt) {
  sgx::Secs secs = plain_secs();
  secs.attributes.flags |= sgx::attribute::kKss;
  secs.configid[1] = 9, secs.configsvn = 2;
  const auto target = make(*machine_, secs);
  EXPECT_TRUE(verifies(*target, report(target_of(*target))));
}
TEST_F(ReportTest, NobodyElseVerifiesIt) {
  const auto target = make(*machine_, plain_secs());
  EXPECT_FALSE(verifies(*make(*machine_), report(target_of(*target))));
}
TEST_F(ReportTest, AChangedReportIsNotVerified) {
  const auto target = make(*machine_, plain_secs());
  sgx::Report r = report(target_of(*target));
  r.body.reportdata[0] ^= 1;
  EXPECT_FALSE(verifies(*target, r));
}
TEST_F(ReportTest, AnotherMachineDoesNotVerifyIt) {
  const auto machine = create("other");
  const auto target = make(*machine, plain_secs());
  EXPECT_FALSE(verifies(*target, report(target_of(*target))));
}
TEST_F(ReportTest, ASectionOfTheMachineVerifiesIt) {
  const auto section =
      create("section", {.epc_bytes = 0, .cpusvn = {}, .xfrm_allowed = {}, .section_of = file("machine")});
  const auto target = make(*section, plain_secs());
  EXPECT_TRUE(verifies(*target, report(target_of(*target))));
}
TEST_F(ReportTest, FaultsOnBadOperands) {
  const auto ereport = [&](std::uint64_t rbx, std::uint64_t rcx, std::uint64_t rdx) {
    thread_.regs.rbx = rbx, thread_.regs.rcx = rcx, thread_.regs.rdx = rdx;
    return thread_.execute(*enclave_, sgx::Enclu::kEreport);
  };
  const std::uint64_t d = kBase + Enclave::kData;
  EXPECT_TRUE(gp(ereport(d + 128, d + 0x200, d + 0x400))) << "TARGETINFO not aligned";
  EXPECT_TRUE(gp(ereport(d, d + 0x240, d + 0x400))) << "REPORTDATA not aligned";
  EXPECT_TRUE(gp(ereport(d, d + 0x200, d + 0x480))) << "REPORT not aligned";
  EXPECT_TRUE(gp(ereport(0x1000, d + 0x200, d + 0x400))) << "TARGETINFO outside";
  EXPECT_TRUE(gp(ereport(d, 0x1000, d + 0x400))) << "REPORTDATA outside";
  EXPECT_TRUE(gp(ereport(d, d + 0x200, 0x1000))) << "REPORT outside";
  const Leaf l = ereport(d, d + 0x200, kBase + Enclave::kCode);
  EXPECT_TRUE(pf_at(l, kBase + Enclave::kCode)) << "REPORT not writable";
  EXPECT_NE(l.fault.error_code & pfec::kWrite, 0u);
  EXPECT_TRUE(ereport(d, d + 0x200, d + 0x400).ok());
  ASSERT_TRUE(thread_.exit(*enclave_).ok());
  EXPECT_TRUE(gp(ereport(d, d + 0x200, d + 0x400))) << "outside an enclave";
}

}  // namespace
}  // namespace softsgx::test

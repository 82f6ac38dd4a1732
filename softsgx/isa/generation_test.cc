// EPC that is exchanged under a process: what leaves and allocation do then (machine.h, rule 3).
#include <fcntl.h>
#include <unistd.h>

#include <fstream>
#include <iterator>

#include "softsgx/isa/epcm_ops.h"
#include "softsgx/isa/test_support.h"

namespace softsgx::test {
namespace {

class GenerationTest : public MachineTest {
 protected:
  void SetUp() override {
    MachineTest::SetUp();
    std::string error;
    CreateOptions options{.epc_bytes = 64 * sgx::kPageSize,
                          .cpusvn = {},
                          .xfrm_allowed = {},
                          .section_of = file("machine"),
                          .section = true};
    section_ = Machine::create(file("section"), options, error);
    ASSERT_NE(section_, nullptr) << error;
    CreateOptions package;
    package.epc_bytes = sgx::kPageSize;
    ASSERT_NE(Machine::create(file("other"), package, error), nullptr) << error;
    options.section_of = file("other");
    foreign_ = Machine::create(file("foreign"), options, error);
    ASSERT_NE(foreign_, nullptr) << error;
  }
  // What a VM's move does to the file's contents.
  void exchange() {
    std::ifstream in(file("foreign"), std::ios::binary);
    const std::vector<char> bytes(std::istreambuf_iterator<char>(in), {});
    ASSERT_EQ(pwrite(section_->fd(), bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
  }
  // Everything that leaves and allocation may change.
  [[nodiscard]] std::string contents() const {
    std::ifstream in(file("section"), std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  std::unique_ptr<Machine> section_, foreign_;
};

TEST_F(GenerationTest, IsEachSectionsOwnAndNewAtAPowerCycle) {
  EXPECT_NE(section_->generation(), foreign_->generation());
  EXPECT_NE(section_->generation(), machine_->generation());
  const std::uint64_t before = section_->generation();
  section_->power_cycle();
  EXPECT_NE(section_->generation(), before);
}

TEST_F(GenerationTest, FreeEpcReadsAsOnesFromTheStartAndAfterAPowerCycle) {
  EXPECT_TRUE(section_->is_section());
  EXPECT_FALSE(machine_->is_section());
  for (int round = 0; round < 2; ++round) {
    for (std::size_t i = 0; i < sgx::kPageSize; ++i) ASSERT_EQ(section_->page(63)[i], std::byte{0xff});
    section_->page(63)[5] = std::byte{1};
    section_->power_cycle();
  }
}

TEST_F(GenerationTest, AllocationForAPastOneFails) {
  const std::uint64_t past = section_->generation();
  exchange();
  EXPECT_FALSE(section_->allocate_run(1, Owner::self(), past));
  EXPECT_EQ(section_->usage().free, 64u);
  EXPECT_TRUE(section_->allocate_run(1, Owner::self()));
}

TEST_F(GenerationTest, ReleaseForAPastOneTakesNothingAway) {
  const std::uint64_t past = section_->generation();
  const auto old_run = section_->allocate_run(4, Owner::self());
  exchange();
  const auto new_run = section_->allocate_run(4, Owner::self());
  ASSERT_EQ(old_run, new_run);
  EXPECT_EQ(section_->release(*old_run, 4, past), 0u);
  EXPECT_EQ(section_->usage().free, 60u);
}

TEST_F(GenerationTest, ALostThreadLeavesWithoutTouchingTheNewEpc) {
  Enclave e(*section_);
  e.add_layout();
  ASSERT_TRUE(e.init().ok());
  Thread t;
  t.regs.rsp = 0x7000;
  t.regs.rbp = 0x7100;
  ASSERT_TRUE(t.enter(e).ok());
  t.regs.rsp = 0x1234;
  EXPECT_FALSE(t.lp.lost(*section_));
  exchange();
  EXPECT_TRUE(t.lp.lost(*section_));
  const std::string before = contents();
  t.interrupt(e);
  EXPECT_EQ(contents(), before);
  EXPECT_FALSE(t.lp.enclave_mode);
  EXPECT_EQ(t.regs.rip, kAep);
  EXPECT_EQ(t.regs.rax, 3u);
  EXPECT_EQ(t.regs.rsp, 0x7000u);
  EXPECT_EQ(t.regs.rbp, 0x7100u);
}

TEST_F(GenerationTest, LeavesOfALostThreadArePageFaults) {
  Enclave e(*section_);
  e.add_layout();
  ASSERT_TRUE(e.init().ok());
  Thread t;
  ASSERT_TRUE(t.enter(e).ok());
  exchange();
  const std::string before = contents();
  for (const auto leaf : {sgx::Enclu::kEexit, sgx::Enclu::kEreport, sgx::Enclu::kEgetkey, sgx::Enclu::kEaccept}) {
    EXPECT_TRUE(pf(t.execute(e, leaf))) << static_cast<int>(leaf);
  }
  EXPECT_TRUE(t.lp.enclave_mode);
  EXPECT_EQ(contents(), before);
}

TEST_F(GenerationTest, ACommitWithoutItsLockChangesNothing) {
  const auto page = section_->allocate_run(1, Owner::self());
  EntryLock lock(section_->epcm(*page));
  ASSERT_TRUE(lock.held());
  exchange();
  lock.commit(epcm::kValid);
  EXPECT_EQ(section_->epcm(*page).state.load(), 0u);
}

TEST_F(GenerationTest, WhatIsNoSectionAnyMoreIsSaid) {
  EXPECT_EQ(section_->unsound(), nullptr);
  exchange();
  EXPECT_EQ(section_->unsound(), nullptr);
  const std::string zeroes(2 * sgx::kPageSize, '\0');
  ASSERT_EQ(pwrite(section_->fd(), zeroes.data(), zeroes.size(), 0), static_cast<ssize_t>(zeroes.size()));
  EXPECT_EQ(section_->generation(), 0u);
  EXPECT_NE(section_->unsound(), nullptr);
}

}  // namespace
}  // namespace softsgx::test

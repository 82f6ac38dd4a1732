// What the tests of EENTER, EEXIT, ERESUME and AEX share.
#pragma once

#include <memory>

#include "softsgx/isa/test_support.h"

namespace softsgx::test {

class EnterTest : public MachineTest {
 protected:
  void SetUp() override {
    MachineTest::SetUp();
    build(plain_secs());
  }
  void build(const sgx::Secs& secs) {
    enclave_ = std::make_unique<Enclave>(*machine_, secs);
    enclave_->add_layout();
    ASSERT_TRUE(enclave_->init().ok());
  }
  sgx::Tcs& tcs(std::uint64_t offset = Enclave::kTcs) { return machine_->tcs(enclave_->page(offset)); }
  // GPRSGX of an SSA frame.
  [[nodiscard]] sgx::GprSgx frame(std::uint64_t ssa = Enclave::kSsa) const {
    return enclave_->get<sgx::GprSgx>(ssa + sgx::kPageSize - sizeof(sgx::GprSgx));
  }
  std::atomic<std::uint64_t>& state(std::uint64_t offset) { return machine_->epcm(enclave_->page(offset)).state; }
  // EENTER faults, and has changed nothing.
  void expect_enter(bool (*faults)(const Leaf&), Thread& t) {
    const Registers before = t.regs;
    EXPECT_TRUE(faults(t.enter(*enclave_)));
    expect_untouched(t, before);
  }
  void expect_untouched(const Thread& t, Registers before) {
    before.rax = t.regs.rax, before.rbx = t.regs.rbx, before.rcx = t.regs.rcx;  // the operands
    EXPECT_EQ(std::memcmp(&before, &t.regs, sizeof(before)), 0);
    EXPECT_FALSE(t.lp.enclave_mode);
    EXPECT_EQ(machine_->active_processors(enclave_->secs), 0u);
    EXPECT_EQ(state(Enclave::kTcs).load() & epcm::kBusy, 0u);
  }
  std::unique_ptr<Enclave> enclave_;
  Thread t_;
};

}  // namespace softsgx::test

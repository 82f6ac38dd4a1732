// The host against memory: contents that are not measured, the arena under the enclave's hands, pages that are taken
// away (S1, S2; design, section 6.2).
#include <gtest/gtest.h>

#include "tests/enclaves/counter_calls.h"
#include "tests/lab/expect.h"
#include "tests/lab/keyholder.h"
#include "tests/lab/lab.h"

namespace sealift::lab {
namespace {

using abi::ControlOp;
using abi::Exit;
using abi::Request;

constexpr std::uint32_t kTcs = 2;

class HostileMemory : public ::testing::Test {
 protected:
  HostileMemory() : peer_(machine_), target_(elsewhere_) {}
  void SetUp() override {
    ASSERT_EQ(peer_.build("tiny"), Errc::kOk) << peer_.error;
    ASSERT_EQ(peer_.start(), Errc::kOk) << peer_.error;
  }
  LabMachine machine_, elsewhere_;
  Peer peer_, target_;
};

// The heap is not measured: whoever builds the target chooses what is in it. mmap and brk promise zeroes; a thread that
// is parked in the middle of zeroing must not find the builder's bytes in the part that it had done.
TEST_F(HostileMemory, MemoryThatIsBeingZeroedTravels) {
  constexpr std::uint64_t kBytes = 1u << 20;
  const auto first = peer_.raw_call(kTcs, counter::kFresh, kBytes);
  ASSERT_TRUE(first.ok());
  ASSERT_EQ(first->dirty, 0u);
  const std::uint64_t middle = first->address - peer_.base + kBytes / 2;
  const std::uint64_t bytes = peer_.put_call(kTcs, 11, wire::encode(std::tuple(kBytes)));
  const EncluArgs args{2, kTcs, static_cast<std::uint64_t>(Request::kCall), bytes, 0, {}, {middle}, 0};
  if (const std::string why = no_breakpoints(peer_); !why.empty()) GTEST_SKIP() << why;
  EncluResult r = peer_.enclu(args);
  if (!r.hit) r = peer_.finish(kTcs, r, args);
  ASSERT_TRUE(r.hit);

  Migration m(machine_, peer_, elsewhere_);
  ASSERT_EQ(m.prepare(), Errc::kOk);
  ASSERT_EQ(m.offer(), Errc::kOk);
  ASSERT_EQ(close_gate(peer_), 1u);
  ASSERT_EQ(peer_.handle(kTcs).reason, static_cast<std::uint64_t>(Exit::kParked));
  ASSERT_EQ(m.dump(), Errc::kOk);
  ASSERT_EQ(target_.build("tiny", peer_.base), Errc::kOk) << target_.error;
  const EnclaveConfig config = target_.config();
  target_.poison(config.heap_offset, Bytes(config.heap_size, 0xee));
  ASSERT_EQ(m.meet(target_), Errc::kOk);
  ASSERT_EQ(m.feed(target_), Errc::kOk);
  ASSERT_EQ(m.ready(target_), Errc::kOk);
  ASSERT_EQ(m.commit(), Errc::kOk);
  ASSERT_EQ(m.fetch_grant(), Errc::kOk);
  ASSERT_EQ(target_.control(ControlOp::kGrant, m.sealed_grant), Errc::kOk);
  counter::Fresh second;
  ASSERT_EQ(target_.take_call(kTcs, target_.finish(kTcs, target_.enter(kTcs, Request::kCall)), second), Errc::kOk);
  EXPECT_EQ(second.address, first->address);
  EXPECT_EQ(second.dirty, 0u);
}

// The words on which host threads wait: a thread that read one before it was parked, and leaves to wait on the target,
// must see there that it was woken meanwhile.
TEST_F(HostileMemory, FutexWordsTravel) {
  const EnclaveConfig config = peer_.config();
  const std::uint64_t words = abi::futex_offset(config.tcs_count, config.slot_bytes);
  peer_.poke(words + 4 * 7, wire::encode(std::uint32_t{0x01020304}));
  Migration m(machine_, peer_, elsewhere_);
  ASSERT_EQ(m.run(target_, "tiny"), Errc::kOk) << target_.error;
  EXPECT_EQ(target_.peek_arena(words + 4 * 7, 4), wire::encode(std::uint32_t{0x01020304}));
}

}  // namespace
}  // namespace sealift::lab

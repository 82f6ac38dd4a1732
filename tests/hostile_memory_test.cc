// The host against memory: contents that are not measured, the arena under the enclave's hands, pages that are taken
// away (S1, S2; design, section 6.2).
#include <gtest/gtest.h>

#include <cerrno>
#include <cstdint>

#include "migration/ocalls.h"
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

// --- The arena under the enclave's hands
// ---------------------------------------------------------------------------------

// A second thread of the host flips a bit of each record's ciphertext while it is taken in. Whatever the timing: the
// record is refused, or what is placed is the original.
TEST_F(HostileMemory, CiphertextThatChangesWhileItIsOpenedIsRefusedOrHarmless) {
  ASSERT_TRUE(peer_.raw_call(kTcs, counter::kFill, std::uint64_t{600'000}, std::uint8_t{3}).ok());
  const std::uint64_t expected = *peer_.raw_call(kTcs, counter::kChecksum);
  KeyHolder agent(machine_);
  ASSERT_EQ(agent.meet(peer_), Errc::kOk);
  const std::vector<Bytes> sealed = dump_all(peer_);
  const OpenStream stream = OpenStream::of(agent.prepare(), sealed);
  // The records that carry the ballast: as large as they get.
  std::vector<std::size_t> large;
  for (std::size_t i = 0; i < sealed.size(); ++i) {
    if (stream.records[i].header.page_count >= 32 && stream.records[i].header.body_len != 0) large.push_back(i);
  }
  ASSERT_FALSE(large.empty());
  int refused = 0, accepted = 0;
  for (int round = 0; round < 24; ++round) {
    KeyHolder target_agent(elsewhere_);
    ASSERT_EQ(target_.build("tiny", peer_.base), Errc::kOk) << target_.error;
    const messages::KeyDelivery d = stream.delivery();
    ASSERT_EQ(target_.control(ControlOp::kRestore, Bytes(std::begin(d.attempt), std::end(d.attempt))), Errc::kOk);
    ASSERT_EQ(target_agent.meet(target_), Errc::kOk);
    ASSERT_EQ(target_agent.deliver(target_, d), Errc::kOk);
    const std::size_t attacked = large[static_cast<std::size_t>(round) % large.size()];
    Errc e = Errc::kOk;
    for (std::size_t i = 0; i < sealed.size() && e == Errc::kOk; ++i) {
      if (i == attacked) {
        const auto at = sizeof(record::RecordHeader) + sealed[i].size() / 24 * static_cast<std::size_t>(round % 24);
        target_.hammer(std::min<std::uint64_t>(at, sealed[i].size() - 1), 0x40);
      }
      e = target_.control(ControlOp::kRecord, sealed[i]);
      if (i == attacked) target_.hammer(0, 0);
    }
    if (e == Errc::kOk) {
      ++accepted;
      ASSERT_EQ(target_agent.grant(target_, stream), Errc::kOk);
      EXPECT_EQ(*target_.raw_call(kTcs, counter::kChecksum), expected);
    } else {
      ++refused;
      EXPECT_EQ(e, Errc::kBadTag);
      EXPECT_EQ(gate_of(target_), abi::GateState::kDestroyed);
    }
    target_.close();
  }
  EXPECT_GT(refused, 0);
  RecordProperty("accepted", accepted);
}

// The answers to read(2), made up by the host.
class HostileAnswers : public HostileMemory {
 protected:
  // The slot's header of the system call that has left.
  abi::SyscallArgs asked() {
    const EnclaveConfig c = peer_.config();
    const Bytes bytes = peer_.peek_arena(abi::slot_offset(kTcs, c.slot_bytes), sizeof(abi::SyscallArgs));
    abi::SyscallArgs args{};
    std::memcpy(&args, bytes.data(), sizeof args);
    return args;
  }
  std::tuple<std::int64_t, bool> read_answered(std::uint64_t bytes,
                                               const abi::SyscallArgs& (*change)(abi::SyscallArgs&), std::uint64_t rsi,
                                               std::uint64_t rdx) {
    const EnclaveConfig c = peer_.config();
    const std::uint64_t n = peer_.put_call(kTcs, 12, wire::encode(std::tuple(bytes)));
    EncluResult r = peer_.finish(kTcs, peer_.enter(kTcs, Request::kCall, n));
    EXPECT_TRUE(left_with(r, Exit::kOcall));
    EXPECT_EQ(r.a, static_cast<std::uint64_t>(abi::OcallOp::kSyscall));
    abi::SyscallArgs args = asked();
    EXPECT_EQ(args.number, 0u);
    change(args);
    Bytes answer(sizeof args);
    std::memcpy(answer.data(), &args, sizeof args);
    peer_.poke(abi::slot_offset(kTcs, c.slot_bytes), answer);
    peer_.poke(abi::slot_offset(kTcs, c.slot_bytes) + sizeof args, Bytes(c.slot_bytes - sizeof args, 0xc3));
    r = peer_.finish(kTcs, peer_.enter(kTcs, Request::kOcallReturn, rsi, rdx));
    std::tuple<std::int64_t, bool> out{};
    EXPECT_EQ(peer_.take_call(kTcs, r, out), Errc::kOk);
    return out;
  }
};

TEST_F(HostileAnswers, MoreThanWasAskedForIsAnError) {
  for (const std::int64_t claimed : {std::int64_t{101}, std::int64_t{4096}, std::int64_t{1} << 40, INT64_MAX}) {
    static std::int64_t result;
    result = claimed;
    const auto [n, intact] = read_answered(
        100,
        [](abi::SyscallArgs& a) -> const abi::SyscallArgs& {
          a.result = result;
          return a;
        },
        0, 0);
    EXPECT_EQ(n, -EIO) << claimed;
    EXPECT_TRUE(intact) << claimed;
  }
}

TEST_F(HostileAnswers, WhereTheAnswerLiesIsTheEnclavesOwnMemory) {
  const auto [n, intact] = read_answered(
      100,
      [](abi::SyscallArgs& a) -> const abi::SyscallArgs& {
        a.result = 100;
        a.number = ~a.number;
        a.pointers = ~std::uint64_t{0};
        for (std::uint64_t& v : a.args) v = ~std::uint64_t{0} - 7;
        return a;
      },
      ~std::uint64_t{0}, ~std::uint64_t{0});
  EXPECT_EQ(n, 100);
  EXPECT_TRUE(intact);
}

// --- Pages that are taken away
// --------------------------------------------------------------------------------------------

// A kernel that takes a live page away and puts a fresh zero page in its place: the enclave accepts no page that it has
// not asked for, so it stops at the first touch, and what it would have computed with zeroes is never seen.
class HostilePages : public HostileMemory {
 protected:
  void SetUp() override {
    HostileMemory::SetUp();
    ASSERT_TRUE(peer_.raw_call(kTcs, counter::kFill, std::uint64_t{200'000}, std::uint8_t{7}).ok());
    expected_ = *peer_.raw_call(kTcs, counter::kChecksum);
    // A heap page with ballast in it.
    const EnclaveConfig c = peer_.config();
    const Bytes heap = peer_.peek(c.heap_offset, c.heap_size);
    for (std::uint64_t at = c.heap_size; at >= sgx::kPageSize; at -= sgx::kPageSize) {
      const auto page = std::span(heap).subspan(at - sgx::kPageSize, sgx::kPageSize);
      bool ballast = true;
      for (std::size_t i = 65; i < 128 && ballast; ++i) ballast = static_cast<std::uint8_t>(page[i] - page[i - 1]) == 31;
      if (ballast) page_ = c.heap_offset + at - sgx::kPageSize;
    }
    ASSERT_NE(page_, 0u);
  }
  // The call ends in a crash at that page, or in the right sum; never in a wrong one.
  void expect_no_wrong_sum() {
    const std::uint64_t n = peer_.put_call(kTcs, 8, {});
    EncluResult r = peer_.enter(kTcs, Request::kCall, n);
    if (r.outcome == static_cast<std::uint64_t>(RawOutcome::kAex)) {
      ASSERT_EQ(r.exception, kException | sgx::vector::kPf);
      for (int i = 0; i < 3; ++i) {
        r = peer_.handle(kTcs);
        if (i == 0) {
          ASSERT_TRUE(left_with(r, Exit::kCrash));
          EXPECT_EQ(r.c & ~std::uint64_t{sgx::kPageSize - 1}, peer_.base + page_);
        }
        r = peer_.resume(kTcs);
        ASSERT_EQ(r.outcome, static_cast<std::uint64_t>(RawOutcome::kAex));
        ASSERT_EQ(r.exception, kException | sgx::vector::kPf);
      }
      return;
    }
    std::uint64_t sum = 0;
    ASSERT_EQ(peer_.take_call(kTcs, r, sum), Errc::kOk);
    EXPECT_EQ(sum, expected_);
  }

  std::uint64_t page_ = 0, expected_ = 0;
};

TEST_F(HostilePages, APageThatIsTrimmedStopsTheEnclave) {
  ASSERT_EQ(
      peer_.driver(DriverOp::kModifyType, page_, sgx::kPageSize, static_cast<std::uint64_t>(sgx::PageType::kTrim)), 0u);
  // The enclave has not accepted that, so the kernel's own driver does not let it go.
  EXPECT_NE(peer_.driver(DriverOp::kRemove, page_, sgx::kPageSize, 0), 0u);
  expect_no_wrong_sum();
}

TEST_F(HostilePages, APageThatIsRemovedAndAddedAgainIsNeverAccepted) {
  peer_.replace_page(machine_, page_);
  expect_no_wrong_sum();
}

TEST_F(HostilePages, APageThatLosesItsRightsStopsTheEnclave) {
  ASSERT_EQ(peer_.driver(DriverOp::kRestrict, page_, sgx::kPageSize, 0), 0u);
  expect_no_wrong_sum();
}

// Nor does a checkpoint take the zero page for the state: the control thread stops there, too.
TEST_F(HostilePages, ACheckpointDoesNotTakeAReplacedPage) {
  KeyHolder agent(machine_);
  ASSERT_EQ(agent.meet(peer_), Errc::kOk);
  ASSERT_EQ(close_gate(peer_), 0u);
  peer_.replace_page(machine_, page_);
  for (;;) {
    EncluResult r = peer_.enter(0, Request::kControl, static_cast<std::uint64_t>(ControlOp::kDump));
    while (interrupted(r)) r = peer_.resume(0);
    if (r.outcome == static_cast<std::uint64_t>(RawOutcome::kAex)) {
      EXPECT_EQ(r.exception, kException | sgx::vector::kPf);
      break;
    }
    ASSERT_TRUE(left_with(r, Exit::kDone));
    ASSERT_EQ(r.a, 0u);
    ASSERT_FALSE(is_final(split(peer_.peek_arena(0, r.b)).back())) << "the checkpoint has a page of the host's making";
  }
}

}  // namespace
}  // namespace sealift::lab

// The host against memory: contents that are not measured, the arena under the enclave's hands, pages that are taken
// away (S1, S2; design, section 6.2).
#include <gtest/gtest.h>

#include <cerrno>
#include <cstdint>
#include <memory>

#include "migration/ocalls.h"
#include "tests/lab/one_enclave.h"

namespace sealift::lab {
namespace {

using abi::ControlOp;
using abi::Exit;
using abi::Request;

class HostileMemory : public OneEnclave {
 protected:
  HostileMemory() : target_(elsewhere_) {}

  LabMachine elsewhere_;
  Peer target_;
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

// A stream with ballast in it, and targets to feed it to.
class HostileArena : public HostileMemory {
 protected:
  void SetUp() override {
    HostileMemory::SetUp();
    ASSERT_TRUE(peer_.raw_call(kTcs, counter::kFill, std::uint64_t{600'000}, std::uint8_t{3}).ok());
    expected_ = *peer_.raw_call(kTcs, counter::kChecksum);
    ASSERT_EQ(agent_.meet(peer_), Errc::kOk);
    sealed_ = dump_all(peer_);
    stream_ = OpenStream::of(agent_.prepare(), sealed_);
    // A record that carries ballast: as large as they get.
    for (attacked_ = 0; attacked_ < sealed_.size(); ++attacked_) {
      const record::RecordHeader& h = stream_.records[attacked_].header;
      if (h.page_count >= 32 && h.body_len != 0) return;
    }
    FAIL() << "no large record";
  }
  void begin() {
    target_.close();
    target_agent_ = std::make_unique<KeyHolder>(elsewhere_);
    ASSERT_EQ(target_.build("tiny", peer_.base), Errc::kOk) << target_.error;
    ASSERT_EQ(target_agent_->restore(target_, stream_, {at(0), at(attacked_)}), Errc::kOk);
  }
  std::vector<Bytes>::const_iterator at(std::size_t i) const {
    return sealed_.begin() + static_cast<std::ptrdiff_t>(i);
  }
  // After the attacked record was answered with `e`: it is refused for good, or it was the original.
  void expect_refused_or_original(Errc e) {
    if (e != Errc::kOk) {
      EXPECT_EQ(gate_of(target_), abi::GateState::kDestroyed);
      return;
    }
    ASSERT_EQ(feed(target_, {at(attacked_ + 1), at(sealed_.size())}), Errc::kOk);
    ASSERT_EQ(target_agent_->grant(target_, stream_), Errc::kOk);
    EXPECT_EQ(*target_.raw_call(kTcs, counter::kChecksum), expected_);
  }

  std::vector<Bytes> sealed_;
  OpenStream stream_;
  std::size_t attacked_ = 0;
  std::uint64_t expected_ = 0;
  std::unique_ptr<KeyHolder> target_agent_;
};

// A second thread of the host flips a bit of the ciphertext while it is opened.
TEST_F(HostileArena, CiphertextThatChangesWhileItIsOpenedIsRefusedOrHarmless) {
  for (std::uint64_t round = 0; round < 8; ++round) {
    begin();
    target_.hammer(sizeof(record::RecordHeader) + round * 12'345, 0x40);
    const Errc e = target_.control(ControlOp::kRecord, sealed_[attacked_]);
    target_.hammer(0, 0);
    EXPECT_TRUE(e == Errc::kOk || e == Errc::kBadTag) << errc_name(e);
    expect_refused_or_original(e);
  }
}

// The same at the worst moments: each time that core is about to copy something, every part of the record changes under
// it.
TEST_F(HostileArena, ARecordThatChangesBetweenTwoReadsIsRefusedOrHarmless) {
  if (const std::string why = no_breakpoints(peer_); !why.empty()) GTEST_SKIP() << why;
  const Bytes& record = sealed_[attacked_];
  const std::uint64_t copy = peer_.symbol("_ZN7sealift4core4copyEPvPKvm");
  const std::size_t parts[] = {offsetof(record::RecordHeader, kind),
                               offsetof(record::RecordHeader, body_len),
                               offsetof(record::RecordHeader, first_page),
                               sizeof(record::RecordHeader),
                               record.size() / 2,
                               record.size() - 1};
  int accepted = 0, refused = 0;
  for (const std::size_t part : parts) {
    for (int moment = 0;; ++moment) {
      SCOPED_TRACE("byte " + std::to_string(part) + ", copy " + std::to_string(moment));
      begin();
      target_.poke(0, record);
      EncluArgs args{kEenterLeaf,
                     0,
                     static_cast<std::uint64_t>(Request::kControl),
                     static_cast<std::uint64_t>(ControlOp::kRecord),
                     record.size(),
                     {copy},
                     {},
                     0};
      EncluResult r = target_.enclu(args);
      args.leaf = kEresumeLeaf;
      for (int i = 0; i < moment && r.hit; ++i) r = target_.enclu(args);
      if (!r.hit) break;  // fewer copies than that
      Bytes changed = record;
      changed[part] ^= 1;
      target_.poke(0, changed);
      r = target_.finish(0, target_.resume(0));
      ASSERT_TRUE(left_with(r, Exit::kDone));
      (r.a == 0 ? accepted : refused) += 1;
      expect_refused_or_original(static_cast<Errc>(r.a));
    }
  }
  EXPECT_GT(accepted, 5);
  EXPECT_GT(refused, 5);
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
      for (std::size_t i = 65; i < 128 && ballast; ++i)
        ballast = static_cast<std::uint8_t>(page[i] - page[i - 1]) == 31;
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

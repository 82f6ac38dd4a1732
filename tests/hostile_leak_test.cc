// What an enclave leaves behind when it is left: the answer, and nothing of what it was doing (S1).
#include <gtest/gtest.h>

#include <algorithm>

#include "migration/ocalls.h"
#include "tests/lab/one_enclave.h"

namespace sealift::lab {
namespace {

using abi::ControlOp;
using abi::Exit;
using abi::Request;

constexpr std::uint8_t kPattern = 0xa5;

class HostileLeak : public OneEnclave {
 protected:
  // No register holds anything but the answer and what every exit sets.
  static void expect_clean(const EncluResult& r) {
    ASSERT_EQ(r.outcome, static_cast<std::uint64_t>(RawOutcome::kExit));
    constexpr std::uint64_t kDirection = 0x400;
    for (std::size_t i = 1; i < 8; ++i) EXPECT_EQ(r.rest[i], 0u) << "R" << i + 8;
    EXPECT_EQ(r.rest[8] & kDirection, 0u);
    ASSERT_EQ(r.vectors.size(), kXsaveImage);
    std::uint16_t control = 0;
    std::uint32_t mxcsr = 0;
    std::memcpy(&control, r.vectors.data(), sizeof control);
    std::memcpy(&mxcsr, r.vectors.data() + sgx::xsave::kMxcsrOffset, sizeof mxcsr);
    EXPECT_TRUE(control == 0x37f || control == 0) << control;  // 0: XSAVE did not write an initial component
    EXPECT_EQ(mxcsr, sgx::xsave::kMxcsrDefault);
    // x87 and XMM registers, then everything behind the header, whatever this CPU's layout.
    const auto zero = [](std::uint8_t b) { return b == 0; };
    EXPECT_TRUE(std::all_of(r.vectors.begin() + 32, r.vectors.begin() + 416, zero));
    EXPECT_TRUE(std::all_of(r.vectors.begin() + 576, r.vectors.end(), zero));
  }
  std::uint64_t slot(std::uint32_t tcs) { return abi::slot_offset(tcs, peer_.config().slot_bytes); }
  void paint(std::uint64_t offset, std::uint64_t bytes) { peer_.poke(offset, Bytes(bytes, kPattern)); }
  // Bytes [used, bytes) are as they were painted.
  void expect_painted(std::uint64_t offset, std::uint64_t used, std::uint64_t bytes) {
    const Bytes now = peer_.peek_arena(offset, bytes);
    EXPECT_TRUE(std::all_of(now.begin() + static_cast<std::ptrdiff_t>(used), now.end(),
                            [](std::uint8_t b) { return b == kPattern; }));
  }
};

TEST_F(HostileLeak, ACallLeavesItsAnswerAlone) {
  const std::uint64_t room = peer_.config().slot_bytes;
  paint(slot(kTcs), room);
  const std::uint64_t n = peer_.put_call(kTcs, 6, wire::encode(std::string("nothing")));  // kGet
  const EncluResult r = peer_.finish(kTcs, peer_.enter(kTcs, Request::kCall, n));
  ASSERT_TRUE(left_with(r, Exit::kDone));
  expect_clean(r);
  EXPECT_EQ(r.c, 0u);
  expect_painted(slot(kTcs), std::max(n, r.b), room);
}

TEST_F(HostileLeak, AnOcallLeavesItsArgumentsAlone) {
  const std::uint64_t room = peer_.config().slot_bytes;
  paint(slot(kTcs), room);
  const std::uint64_t n = peer_.put_call(kTcs, 12, wire::encode(std::tuple(std::uint64_t{1000})));  // kRead
  const EncluResult r = peer_.finish(kTcs, peer_.enter(kTcs, Request::kCall, n));
  ASSERT_TRUE(left_with(r, Exit::kOcall));
  expect_clean(r);
  EXPECT_EQ(r.c, 0u);
  expect_painted(slot(kTcs), sizeof(abi::CallHeader) + 72, room);  // the header; the buffer is for the answer
}

TEST_F(HostileLeak, ARefusalLeavesNothing) {
  for (const std::uint64_t request : {std::uint64_t{99}, static_cast<std::uint64_t>(Request::kThreadStart)}) {
    expect_clean(peer_.enter(kTcs, request));
  }
  ASSERT_EQ(agent_.meet(peer_), Errc::kOk);
  ASSERT_EQ(close_gate(peer_), 0u);
  expect_clean(peer_.enter(kTcs, Request::kCall, 8));
}

TEST_F(HostileLeak, Stage1LeavesNothingOfTheThread) {
  ASSERT_NO_FATAL_FAILURE(interrupt_watching(kTcs, std::uint64_t{1} << 60));
  EncluResult r = peer_.handle(kTcs);
  ASSERT_TRUE(left_with(r, Exit::kResume));
  expect_clean(r);
  EXPECT_EQ(r.a | r.b | r.c, 0u);
  ASSERT_EQ(agent_.meet(peer_), Errc::kOk);
  while (close_gate(peer_) != 0) {
    r = peer_.handle(kTcs);
    if (left_with(r, Exit::kParked)) break;
    ASSERT_TRUE(interrupted(peer_.resume(kTcs)));
  }
  ASSERT_TRUE(left_with(r, Exit::kParked));
  expect_clean(r);
  EXPECT_EQ(r.a | r.b | r.c, 0u);
}

// The control thread has keys in its registers.
TEST_F(HostileLeak, ControlOperationsLeaveTheirOutputAlone) {
  const auto enter = [&](ControlOp op, const Bytes& in, std::uint64_t expected) {
    paint(0, abi::kControlSlotBytes);
    if (!in.empty()) peer_.poke(0, in);
    const EncluResult r = peer_.finish(
        0, peer_.enter(0, Request::kControl, static_cast<std::uint64_t>(op), static_cast<std::uint64_t>(in.size())));
    EXPECT_TRUE(left_with(r, Exit::kDone));
    EXPECT_EQ(r.a, 0u) << errc_name(static_cast<Errc>(r.a));
    EXPECT_EQ(r.b, expected);
    EXPECT_EQ(r.c, 0u);
    expect_clean(r);
    expect_painted(0, std::max<std::uint64_t>(in.size(), r.b), abi::kControlSlotBytes);
    return peer_.peek_arena(0, r.b);
  };
  (void)enter(ControlOp::kStatus, {}, sizeof(abi::Status));
  const Bytes hello = enter(ControlOp::kAgentHello, agent_.hello(), sizeof(messages::EnclaveHello));
  auto accepted = agent::LocalSession::accept(agent_.cpu, agent_.self, hello);
  ASSERT_TRUE(accepted.ok());
  const auto confirm = agent::bytes_of(accepted->confirm());
  (void)enter(ControlOp::kAgentConfirm, {confirm.begin(), confirm.end()}, messages::kSealedSize<messages::Prepare>);
  (void)enter(ControlOp::kQuiesce, {}, sizeof(std::uint32_t));
  paint(0, abi::kControlSlotBytes);
  const EncluResult r =
      peer_.finish(0, peer_.enter(0, Request::kControl, static_cast<std::uint64_t>(ControlOp::kDump)));
  ASSERT_TRUE(left_with(r, Exit::kDone));
  expect_clean(r);
  expect_painted(0, r.b, abi::kControlSlotBytes);
}

// What has failed leaves no output at all.
TEST_F(HostileLeak, AFailedOperationWritesNothing) {
  paint(0, abi::kControlSlotBytes);
  for (const ControlOp op : {ControlOp::kCommit, ControlOp::kGrant, ControlOp::kInstallKey, ControlOp::kReady,
                             ControlOp::kAgentConfirm, ControlOp::kDump, ControlOp::kTicketAgain}) {
    const EncluResult r = peer_.finish(0, peer_.enter(0, Request::kControl, static_cast<std::uint64_t>(op), 200));
    ASSERT_TRUE(left_with(r, Exit::kDone));
    EXPECT_NE(r.a, 0u);
    EXPECT_EQ(r.b | r.c, 0u);
    expect_clean(r);
    expect_painted(0, 0, abi::kControlSlotBytes);
  }
}

// Neither values nor keys stand in what a stream shows: the value that a test puts in is in no record.
TEST_F(HostileLeak, NoRecordShowsWhatTheEnclaveHolds) {
  const std::string secret = "a value that nobody outside may see, long enough to be found again";
  ASSERT_TRUE(peer_.raw_call(kTcs, counter::kPut, "k", secret).ok());
  // The slot is the host's own memory, and has it.
  paint(slot(kTcs), peer_.config().slot_bytes);
  ASSERT_EQ(agent_.meet(peer_), Errc::kOk);
  const std::vector<Bytes> sealed = dump_all(peer_);
  const auto found = [&](const Bytes& in) {
    return std::search(in.begin(), in.end(), secret.begin(), secret.end()) != in.end();
  };
  bool inside = false;
  for (const PlainRecord& r : OpenStream::of(agent_.prepare(), sealed).records) inside = inside || found(r.body);
  EXPECT_TRUE(inside) << "the test looks for the wrong thing";
  for (const Bytes& r : sealed) EXPECT_FALSE(found(r));
}

}  // namespace
}  // namespace sealift::lab

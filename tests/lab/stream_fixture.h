// A source at the end of its dump, and targets for streams that are not quite what it sealed.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/enclaves/counter_calls.h"
#include "tests/lab/expect.h"
#include "tests/lab/keyholder.h"
#include "tests/lab/lab.h"
#include "tests/lab/watching.h"

namespace sealift::lab {

// A source with the gate closed, its stream, and a machine for targets. The test holds K; only the tests that say so
// use it.
class StreamFixture : public ::testing::Test {
 protected:
  using ControlOp = abi::ControlOp;
  using GateState = abi::GateState;
  using Kind = record::Kind;
  static constexpr std::uint32_t kTcs = 2, kOtherTcs = 3;

  StreamFixture() : agent_(here_), source_(here_), target_(there_) {}

  void SetUp() override {
    ASSERT_EQ(source_.build("tiny"), Errc::kOk) << source_.error;
    ASSERT_EQ(source_.start(), Errc::kOk) << source_.error;
    ASSERT_TRUE(source_.raw_call(kTcs, counter::kPut, "k", "v").ok());
    // One thread is parked, so that there is a stash and a slot in the stream.
    ASSERT_NO_FATAL_FAILURE(interrupt_watching(source_, kOtherTcs, std::uint64_t{1} << 60));
    ASSERT_EQ(agent_.meet(source_), Errc::kOk);
    park();
    sealed_ = dump_rest(source_);
    stream_ = OpenStream::of(agent_.prepare(), sealed_);
  }
  void TearDown() override {
    EXPECT_EQ(gate_of(source_), GateState::kQuiescing);
    ASSERT_EQ(source_.control(ControlOp::kCancel), Errc::kOk);
    EXPECT_EQ(*source_.raw_call(kTcs, counter::kGet, "k"), "v") << "the source does not go on";
    EXPECT_TRUE(left_with(source_.handle(kOtherTcs), abi::Exit::kResume));
  }
  void park() {
    while (close_gate(source_) != 0) {
      if (left_with(source_.handle(kOtherTcs), abi::Exit::kParked)) return;
      ASSERT_TRUE(interrupted(source_.resume(kOtherTcs)));
    }
  }

  // A fresh target with the key.
  void begin() {
    target_.close();
    ASSERT_EQ(target_.build("tiny", source_.base), Errc::kOk) << target_.error;
    target_agent_ = std::make_unique<KeyHolder>(there_);
    ASSERT_EQ(target_agent_->restore(target_, stream_, {}), Errc::kOk);
  }
  void expect_refused(const std::vector<Bytes>& records, Errc why) {
    begin();
    EXPECT_EQ(errc_name(feed(target_, records)), std::string(errc_name(why)));
    EXPECT_EQ(gate_of(target_), GateState::kDestroyed);
    expect_dead();
  }
  // Nothing of the target runs, and nothing more is taken.
  void expect_dead() {
    for (std::uint32_t tcs = 1; tcs < 6; ++tcs) {
      for (const auto request : {abi::Request::kCall, abi::Request::kOcallReturn, abi::Request::kThreadStart}) {
        const EncluResult r = target_.enter(tcs, request, 8);
        EXPECT_TRUE(refused_with(r, Errc::kGateClosed) || refused_with(r, Errc::kWrongState) || undefined(r) ||
                    refused_with(r, Errc::kBadRequest));
      }
    }
    EXPECT_EQ(target_.control(ControlOp::kRecord, sealed_.front()), Errc::kNotReady);
    EXPECT_NE(target_.control(ControlOp::kReady), Errc::kOk);
  }
  std::size_t first_of(Kind kind) const {
    for (std::size_t i = 0; i < stream_.records.size(); ++i) {
      if (stream_.records[i].header.kind == static_cast<std::uint16_t>(kind)) return i;
    }
    ADD_FAILURE() << "no record of kind " << static_cast<int>(kind);
    return 0;
  }
  // The stream with one more record at its head, under a good tag. Its numbers need not fit: it is refused before.
  std::vector<Bytes> with_first(const record::RecordHeader& header, Bytes body) {
    OpenStream s = stream_;
    PlainRecord plain;
    plain.header = stream_.records.front().header;
    plain.header.kind = header.kind;
    plain.header.page_count = header.page_count;
    plain.header.first_page = header.first_page;
    plain.header.body_len = header.body_len;
    plain.body = std::move(body);
    s.records.insert(s.records.begin(), plain);
    return s.seal();
  }
  static record::RecordHeader head(Kind kind, std::uint64_t first, std::uint32_t count, std::uint32_t bytes) {
    record::RecordHeader h{};
    h.kind = static_cast<std::uint16_t>(kind);
    h.first_page = first;
    h.page_count = count;
    h.body_len = bytes;
    return h;
  }
  void expect_misplaced(std::uint64_t page, std::uint32_t count = 1) {
    expect_refused(with_first(head(Kind::kZeroes, page, count, 0), {}), Errc::kBadPlacement);
    if (count <= record::kMaxPagesPerRecord) {
      const std::uint32_t bytes = count * sgx::kPageSize;
      expect_refused(with_first(head(Kind::kPages, page, count, bytes), Bytes(bytes, 0x41)), Errc::kBadPlacement);
    }
  }
  void expect_bad_final(const std::function<void(record::Final&)>& change, Errc why) {
    OpenStream s = stream_;
    std::vector<Bytes> mended = s.seal();  // the digest of the tags that these records have
    s = OpenStream::of(s.prepare, mended);
    record::Final f = s.final_record();
    change(f);
    s.set_final(f);
    expect_refused(s.seal(false), why);
  }

  LabMachine here_, there_;
  KeyHolder agent_;
  Peer source_, target_;
  std::unique_ptr<KeyHolder> target_agent_;
  std::vector<Bytes> sealed_;
  OpenStream stream_;
};

}  // namespace sealift::lab

// What a raw ENCLU came back with, in words.
#pragma once

#include "tests/lab/lab.h"

namespace sealift::lab {

inline constexpr std::uint32_t kEenterLeaf = 2, kEresumeLeaf = 3;

inline bool left_with(const EncluResult& r, abi::Exit reason) {
  return r.outcome == static_cast<std::uint64_t>(RawOutcome::kExit) && r.reason == static_cast<std::uint64_t>(reason);
}

inline bool refused_with(const EncluResult& r, Errc e) {
  return left_with(r, abi::Exit::kRefused) && r.a == static_cast<std::uint64_t>(e);
}

// By an interrupt: nothing is wrong inside.
inline bool interrupted(const EncluResult& r) {
  return r.outcome == static_cast<std::uint64_t>(RawOutcome::kAex) && r.exception == 0;
}

// By #UD: `syscall`, or the place where a parked thread's frame points to.
inline bool undefined(const EncluResult& r) {
  return r.outcome == static_cast<std::uint64_t>(RawOutcome::kAex) && r.exception == (kException | sgx::vector::kUd);
}

// ENCLU itself faulted.
inline bool faulted(const EncluResult& r) {
  return r.outcome == static_cast<std::uint64_t>(RawOutcome::kFault);
}

inline abi::ThreadState state_of(Peer& peer, std::uint32_t tcs) {
  return static_cast<abi::ThreadState>(peer.status().states[tcs]);
}

inline abi::GateState gate_of(Peer& peer) {
  return static_cast<abi::GateState>(peer.status().gate);
}

// kQuiesce once, without a kick: threads that run still.
inline std::uint32_t close_gate(Peer& peer) {
  Bytes out;
  std::uint32_t running = 0;
  EXPECT_EQ(peer.control(abi::ControlOp::kQuiesce, {}, out), Errc::kOk);
  EXPECT_TRUE(wire::decode(out, running));
  return running;
}

// Cancels, and tells the host's runtime so.
inline void reopen(Peer& peer) {
  Bytes none;
  EXPECT_EQ(peer.control(abi::ControlOp::kCancel), Errc::kOk);
  EXPECT_EQ(peer.request(Op::kResumed, {}, none), Errc::kOk);
}

// A fixture's first words where exact interrupts are needed.
inline std::string no_breakpoints(Peer& peer) {
  const std::uint64_t entry = peer.symbol("sealift_entry");
  // Not the first instruction: after EENTER the flag is set that suppresses a breakpoint there (RF).
  const std::uint64_t second = peer.instructions(entry, entry + 64)[1];
  Bytes out;
  const EncluArgs probe{kEenterLeaf, abi::kMainTcs, 99, 0, 0, {second}, {}, 0};
  if (peer.request(Op::kEnclu, wire::encode(probe), out) != Errc::kOk) return "no hardware breakpoints: " + peer.error;
  // A hypervisor may take the debug registers and leave it at that.
  EncluResult stopped;
  EXPECT_TRUE(wire::decode(out, stopped));
  if (!stopped.hit) return "no hardware breakpoints: one was set, and nothing stopped at it";
  EXPECT_TRUE(refused_with(peer.finish(abi::kMainTcs, peer.resume(abi::kMainTcs)), Errc::kBadRequest));
  return {};
}

}  // namespace sealift::lab

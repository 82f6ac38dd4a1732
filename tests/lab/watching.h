// A thread that stands in the middle of application code.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <tuple>

#include "tests/enclaves/counter_calls.h"
#include "tests/lab/expect.h"
#include "tests/lab/lab.h"

namespace sealift::lab {

// SSA[0] of a TCS, as only the laboratory can see it.
inline sgx::GprSgx frame_of(Peer& peer, std::uint32_t tcs) {
  const std::uint64_t at = ssa_offset(peer.config(), tcs) + sgx::kPageSize - sizeof(sgx::GprSgx);
  const Bytes bytes = peer.peek(at, sizeof(sgx::GprSgx));
  sgx::GprSgx gpr{};
  std::memcpy(&gpr, bytes.data(), std::min(bytes.size(), sizeof gpr));
  return gpr;
}

// It has left by an AEX, in kWatch(until). Fails the test if it left otherwise.
inline void interrupt_watching(Peer& peer, std::uint32_t tcs, std::uint64_t until) {
  const std::uint64_t bytes = peer.put_call(tcs, 13, wire::encode(std::tuple(until)));
  EncluArgs args{kEenterLeaf, tcs, static_cast<std::uint64_t>(abi::Request::kCall), bytes, 0, {}, {}, 500};
  EncluResult r = peer.enclu(args);
  // Not in core's entry code, whose windows have tests of their own.
  const std::uint64_t begin = peer.symbol("sealift_entry"), end = peer.symbol("sealift_park");
  for (args.leaf = kEresumeLeaf; interrupted(r); r = peer.enclu(args)) {
    const std::uint64_t rip = frame_of(peer, tcs).rip - peer.base;
    if (rip < begin || rip > end) return;
  }
  FAIL() << "the thread left the enclave";
}

}  // namespace sealift::lab

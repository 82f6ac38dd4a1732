// What the benchmark (bench/) measures in a host process: clocks are read beside the enclave's work, not across the
// laboratory's socket.
#pragma once

#include "host/instance.h"
#include "sealift/calls.h"

namespace sealift::lab {

// string file, u64 capacity -> u64 ns of quiescing, u64 ns and u64 ns of CPU time inside control operations, u64 ns of
// all and u64 ns of CPU time after quiescing (with the host's copying), u64 bytes. Needs a prepared attempt. The stream
// is left in `file`, which is touched before the clock starts.
[[nodiscard]] Errc measure_dump(host::Instance& instance, wire::Reader& in, Bytes& out);

// string file, u64 bytes -> u64 ns and u64 ns of CPU time inside control operations, u64 ns and u64 ns of CPU time of
// these and of the host's copying. Needs the attempt's key. The final record is among what is fed.
[[nodiscard]] Errc measure_feed(host::Instance& instance, wire::Reader& in, Bytes& out);

// u32 id, bytes -> u64 ns, u64 ns of the thread's CPU time, bytes of result: an ecall.
[[nodiscard]] Errc measure_call(host::Instance& instance, wire::Reader& in, Bytes& out);

}  // namespace sealift::lab

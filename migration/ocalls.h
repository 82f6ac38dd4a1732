// What the runtime's own ocalls put into a thread's arena slot. Host and enclave share it; the host may lie in all of
// it.
#pragma once

#include <cstdint>

namespace sealift::abi {

struct SpawnArgs {
  std::uint32_t tcs;
  std::uint32_t reserved;
};

struct FutexWaitArgs {
  std::uint32_t word;       // index into the arena's futex words
  std::uint32_t expected;   // wait while the word is this
  std::int64_t timeout_ns;  // < 0: for ever
};

struct FutexWakeArgs {
  std::uint32_t word;
  std::uint32_t reserved;
};

struct ClockArgs {
  std::int32_t id;
  std::int32_t reserved;
  std::int64_t seconds, nanoseconds;  // the host's answer
};

// A system call passed out. Arguments whose bit is set in `pointers` are offsets into the slot.
struct SyscallArgs {
  std::uint64_t number;
  std::uint64_t args[6];
  std::uint64_t pointers;
  std::int64_t result;
};
static_assert(sizeof(SyscallArgs) == 72);

// A typed call or its result, followed by the marshalled bytes.
struct CallHeader {
  std::uint32_t id;
  std::uint32_t bytes;
};
static_assert(sizeof(CallHeader) == 8);

}  // namespace sealift::abi

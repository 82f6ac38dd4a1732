// The laboratory's wire: a test drives a host process (peer_main.cc) over a socket pair, one request at a time.
//
// Message := u32 length ‖ bytes. Request bytes := u8 op ‖ arguments in sealift::wire form. Reply := u32 Errc ‖ bytes.
#pragma once

#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <optional>
#include <tuple>
#include <vector>

#include "sealift/calls.h"

namespace sealift::lab {

enum class Op : std::uint8_t {
  kBuild = 1,    // string image, u64 base (0: anywhere) -> u64 base; again after kClose
  kStart = 2,    // latches start; returns when ecalls work
  kRestore = 3,  // array<u8, 16> attempt; through the runtime (threads are adopted when resumed)
  kControl = 4,  // u64 op, bytes -> bytes: one control operation, nothing else
  kQuiesce = 5,  // u32 milliseconds: with kicks
  kResumed = 6,
  kDestroyed = 7,
  kCall = 8,          // u32 id, bytes -> bytes: an ecall, waited for
  kCallAsync = 9,     // the same on a thread of its own; kCollect has its result
  kEnclu = 10,        // EncluArgs -> EncluResult: one ENCLU, as a hostile host may
  kHammer = 11,       // u64 arena offset, u8 mask: a thread flips these bits there again and again; mask 0: stops it
  kClose = 12,        // removes the enclave
  kConfig = 13,       // -> bytes of EnclaveConfig
  kSymbol = 14,       // string -> u64 offset from the enclave's base, u64 size if it is a function
  kPeek = 15,         // u64 offset, u64 length -> bytes of EPC as the host can read them here
  kPoke = 16,         // u64 arena offset, bytes
  kPeekArena = 17,    // u64 arena offset, u64 length -> bytes
  kPoison = 18,       // u64 offset, bytes: what EADD put into a page that is not measured
  kDriver = 19,       // u32 ioctl (DriverOp), u64 offset, u64 length, u64 value -> u64 errno, u64 bytes done
  kSettle = 20,       // u32 milliseconds
  kRebuild = 21,      // array<u8, 16> attempt; through the runtime, in place
  kCollect = 22,      // the result of the oldest kCallAsync, waited for -> bytes
  kReport = 23,       // -> string: why the enclave ended
  kMeasureDump = 32,  // measure.h
  kMeasureFeed = 33,
  kMeasureCall = 34,
};

enum class DriverOp : std::uint32_t { kRestrict = 1, kModifyType = 2, kRemove = 3, kRemap = 4 };

struct EncluArgs {
  std::uint32_t leaf = 2;  // 2: EENTER, 3: ERESUME
  std::uint32_t tcs = 0;
  std::uint64_t request = 0, a = 0, b = 0;
  std::vector<std::uint64_t> before;       // interrupt before the instruction at these offsets
  std::vector<std::uint64_t> after_write;  // interrupt after a write to the byte at these offsets
  std::uint32_t kick_us = 0;               // interrupt after so long; 0: not
  bool dirty = false;                      // with flags and control words that no ABI allows (raw.h)
  auto tie() { return std::tie(leaf, tcs, request, a, b, before, after_write, kick_us, dirty); }
  auto tie() const { return std::tie(leaf, tcs, request, a, b, before, after_write, kick_us, dirty); }
};

struct EncluResult {
  std::uint64_t outcome = 0;  // RawOutcome
  std::uint64_t reason = 0, a = 0, b = 0, c = 0;
  std::uint64_t exception = 0;  // kException and the vector; 0: an interrupt
  bool hit = false;             // by a breakpoint
  // After an EEXIT: RAX, R9 … R15, RFLAGS, and the vector and x87 registers (raw.h).
  std::array<std::uint64_t, 9> rest{};
  Bytes vectors;
  auto tie() { return std::tie(outcome, reason, a, b, c, exception, hit, rest, vectors); }
  auto tie() const { return std::tie(outcome, reason, a, b, c, exception, hit, rest, vectors); }
};

inline bool write_all(int fd, const void* data, std::size_t n) {
  const auto* p = static_cast<const char*>(data);
  while (n > 0) {
    const ssize_t w = ::write(fd, p, n);
    if (w < 0 && errno == EINTR) continue;
    if (w <= 0) return false;
    p += w;
    n -= static_cast<std::size_t>(w);
  }
  return true;
}

inline bool read_all(int fd, void* data, std::size_t n) {
  auto* p = static_cast<char*>(data);
  while (n > 0) {
    const ssize_t r = ::read(fd, p, n);
    if (r < 0 && errno == EINTR) continue;  // softsgx's interrupts may hit a thread that has just left the enclave
    if (r <= 0) return false;
    p += r;
    n -= static_cast<std::size_t>(r);
  }
  return true;
}

inline bool send_message(int fd, const Bytes& bytes) {
  const auto n = static_cast<std::uint32_t>(bytes.size());
  return write_all(fd, &n, sizeof n) && write_all(fd, bytes.data(), bytes.size());
}

inline std::optional<Bytes> receive_message(int fd) {
  std::uint32_t n = 0;
  if (!read_all(fd, &n, sizeof n)) return std::nullopt;
  Bytes bytes(n);
  if (!read_all(fd, bytes.data(), n)) return std::nullopt;
  return bytes;
}

}  // namespace sealift::lab

// The laboratory's wire: a test drives a host process (peer_main.cc) over a socket pair, one request at a time.
//
// Message := u32 length ‖ bytes. Request bytes := u8 op ‖ arguments in sealift::wire form. Reply := u32 Errc ‖ bytes.
#pragma once

#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <optional>

#include "sealift/calls.h"

namespace sealift::lab {

enum class Op : std::uint8_t {
  kBuild = 1,    // string image, u64 base (0: anywhere) -> u64 base
  kStart = 2,    // latches start; returns when ecalls work
  kRestore = 3,  // array<u8, 16> attempt; through the runtime (threads are adopted when resumed)
  kControl = 4,  // u64 op, bytes -> bytes: one control operation, nothing else
  kQuiesce = 5,  // u32 milliseconds: with kicks
  kResumed = 6,
  kDestroyed = 7,
  kCall = 8,        // u32 id, bytes -> bytes: an ecall, waited for
  kCallAsync = 9,   // the same on a thread of its own; its result is dropped
  kEnter = 10,      // u32 tcs, u64 request, u64 a, u64 b -> u64 end, rdi, rsi, rdx: a raw EENTER, as a hostile host may
  kReresume = 11,   // u32 on: threads answer "parked" by ERESUMEing at once, again and again
  kClose = 12,      // removes the enclave
  kStatus = 13,     // -> EnclaveStatus subset: u64 epoch, bool destroyed
  kResumeTcs = 14,  // u32 tcs, -> as kEnter: a raw ERESUME
  kPeek = 15,       // u64 offset, u64 length -> bytes of EPC as the host can read them here
  kPoke = 16,       // u64 arena offset, bytes
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

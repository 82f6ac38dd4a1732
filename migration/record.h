// The record format, version 1. docs/format.md is the specification; this header is its layout.
//
// stream  := record*            sequence numbers 0, 1, 2 … without a gap; the last record is the final record
// record  := RecordHeader ‖ body (AES-256-GCM ciphertext, `body_len` bytes) ‖ tag (16 bytes)
// nonce   := 4 zero bytes ‖ sequence (8 bytes little-endian)
// AAD     := RecordHeader ‖ attempt (16 bytes)
#pragma once

#include <cstddef>
#include <cstdint>

#include "migration/abi.h"
#include "sgx/arch.h"

namespace sealift::record {

inline constexpr std::uint32_t kMagic = 0x31524c53;  // "SLR1"
inline constexpr std::uint16_t kVersion = 1;
inline constexpr std::size_t kTagBytes = 16;
inline constexpr std::size_t kNonceBytes = 12;
inline constexpr std::size_t kKeyBytes = 32;

enum class Kind : std::uint16_t {
  kPages = 1,    // body: `page_count` pages from `first_page` on
  kZeroes = 2,   // no body: these pages are zero
  kArena = 3,    // body: arena bytes from `first_page` * kPageSize on (untrusted bytes, see design §6.2)
  kThreads = 4,  // body: ThreadEntry and its stash, one after the other
  kFinal = 5,    // body: Final
};

struct RecordHeader {
  std::uint32_t magic;
  std::uint16_t version;
  std::uint16_t kind;  // Kind
  std::uint64_t sequence;
  std::uint32_t body_len;  // bytes
  std::uint32_t page_count;
  std::uint64_t first_page;  // from ELRANGE's base (kArena: from the arena's base)
};
static_assert(sizeof(RecordHeader) == 32);

inline constexpr std::uint32_t kMaxPagesPerRecord = 64;
inline constexpr std::size_t kMaxBody = kMaxPagesPerRecord * sgx::kPageSize;
inline constexpr std::uint32_t kMaxZeroPagesPerRecord = 1u << 20;
inline constexpr std::size_t kMaxRecord = sizeof(RecordHeader) + kMaxBody + kTagBytes;

// The stash of a parked thread: everything of its SSA[0] frame that must travel. XSAVE in Intel's layout.
struct alignas(64) Stash {
  std::uint8_t xsave[3584];
  sgx::GprSgx gpr;
  std::uint8_t reserved[4096 - 3584 - sizeof(sgx::GprSgx)];
};
static_assert(sizeof(Stash) == 4096);

struct ThreadEntry {
  std::uint32_t tcs;
  std::uint32_t state;       // abi::ThreadState
  std::uint64_t fsbase;      // of the bound thread
  std::uint64_t resume_rsp;  // kFree, kInOcall, kStarting: where the thread continues inside
  std::uint64_t clear_tid;   // address that thread exit clears
  std::uint32_t migrated;    // 1: was itself restored inside an ocall and has not continued since
  std::uint32_t stash_len;   // 0 or sizeof(Stash); the stash follows
};
static_assert(sizeof(ThreadEntry) == 40);

struct Final {
  std::uint8_t digest[32];  // SHA-256 over every earlier record's header and tag, in order
  std::uint64_t records;    // before this one
  std::uint64_t pages;      // non-zero pages
  std::uint64_t zero_pages;
  std::uint64_t arena_bytes;
  std::uint32_t threads;  // entries in the kThreads records
  std::uint32_t tcs_count;
  std::uint8_t lineage[16];
  std::uint64_t epoch;  // of the source
  std::uint8_t attempt[16];
  std::uint64_t elrange_base;
  std::uint64_t elrange_size;
  std::uint64_t arena_base;
  std::uint64_t xfrm;
  sgx::Measurement mrenclave;
  sgx::Measurement mrsigner;
};
static_assert(sizeof(Final) == 32 + 8 * 4 + 8 + 16 + 8 + 16 + 8 * 4 + 64);

}  // namespace sealift::record

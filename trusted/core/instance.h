// What one instance knows of itself. One object, in the core area.
//
// Only the control thread writes it (it is one TCS, so there is one writer), except for the two counters at the end.
#pragma once

#include <atomic>
#include <cstdint>

#include "migration/abi.h"
#include "migration/errc.h"
#include "migration/messages.h"
#include "migration/record.h"
#include "trusted/core/crypto.h"
#include "trusted/core/memory.h"

namespace sealift::core {

enum class SessionStep : std::uint32_t { kNone, kHelloSent, kConfirmed };

// The enclave's end of the local session with the agent enclave (docs/protocol.md).
struct Session {
  SessionStep step;
  messages::LocalRole role;
  std::uint8_t secret[32];
  std::uint8_t key[32];  // our public key; of a target: the instance key
  std::uint8_t agent_key[32];
  std::uint8_t transcript[32];
  GcmKey out, in;
  std::uint64_t out_sequence, in_sequence;
  sgx::Targetinfo agent;
};

struct Dump {
  std::uint64_t next_page;  // cursor: pages from ELRANGE's base; see checkpoint.cc for what follows the last page
  std::uint32_t phase;
  std::uint32_t next_thread;
  std::uint64_t pages, zero_pages, arena_bytes;
  std::uint32_t threads;
  bool done;
  abi::ThreadState states[abi::kMaxTcs];  // of all threads, none Running, when this entry began
};

struct Instance {
  abi::Role role;
  std::uint8_t lineage[16];
  std::uint64_t epoch;
  std::uint8_t attempt[16];  // zero: none
  bool has_key;
  GcmKey key;                // of the attempt
  std::uint8_t raw_key[32];  // K itself: a source needs it for Prepare alone, and wipes it there
  Session session;
  Sha256 hash;  // over record headers and tags
  std::uint8_t digest[32];
  std::uint64_t sequence;  // of the next record, sealed or expected
  Dump dump;               // a target counts what it received in the same fields
  bool restored;           // target: the final record was verified
  std::uint8_t ticket[messages::kSealedSize<messages::Ticket>];
  bool has_ticket;
  bool ready_sealed;
  std::uint8_t ready[messages::kSealedSize<messages::Ready>];
  std::atomic<std::uint64_t> enosys;
  std::atomic<std::uint32_t> last_enosys;
};

[[nodiscard]] Instance& instance() noexcept;

// What the tag of a record of this attempt covers beside its body (docs/format.md).
struct [[gnu::packed]] RecordAad {
  record::RecordHeader header;
  std::uint8_t attempt[16];
};
[[nodiscard]] inline RecordAad aad_of(const record::RecordHeader& header) noexcept {
  RecordAad aad{header, {}};
  copy_own(aad.attempt, instance().attempt);
  return aad;
}

// Bytes of input and output of a control operation. Input was copied from the arena (but for kRecord, which copies
// record by record). Output is core's scratch, copied out by the dispatcher after the operation has succeeded (but for
// kDump, which copies out as it seals).
struct ControlIo {
  std::uint8_t* in;  // core's own copy; an operation may work in it
  std::uint64_t in_len;
  std::uint8_t* out;
  std::uint64_t out_len;

  template <typename T>
  [[nodiscard]] const T* input() const noexcept {
    return in_len == sizeof(T) ? reinterpret_cast<const T*>(in) : nullptr;
  }
  template <typename T>
  [[nodiscard]] T& output() noexcept {
    out_len = sizeof(T);
    return *reinterpret_cast<T*>(out);
  }
};

// Scratch of the control thread, 64-aligned: a record's body, and a piece of one that stays in the L1 cache between the
// cipher and the copy out or in.
[[nodiscard]] std::uint8_t* scratch_body() noexcept;
inline constexpr std::uint64_t kPiece = 2 * 1024;
inline constexpr std::uint64_t kAhead = 4 * 1024;  // so much further on lies what is fetched meanwhile
[[nodiscard]] std::uint8_t* scratch_piece() noexcept;

// session.cc
[[nodiscard]] Errc agent_hello(ControlIo& io) noexcept;
[[nodiscard]] Errc agent_confirm(ControlIo& io) noexcept;
[[nodiscard]] Errc commit(ControlIo& io) noexcept;
[[nodiscard]] Errc commit_held(ControlIo& io) noexcept;
[[nodiscard]] Errc ticket_again(ControlIo& io) noexcept;
[[nodiscard]] Errc install_key(ControlIo& io) noexcept;
[[nodiscard]] Errc ready(ControlIo& io) noexcept;
[[nodiscard]] Errc grant(ControlIo& io) noexcept;
void forget_attempt() noexcept;  // wipes K and the session

// checkpoint.cc
void dump_begin() noexcept;
// Seals as many whole records as the control slot holds, straight into it; the final record comes alone. `bytes`:
// written.
[[nodiscard]] Errc dump(std::uint64_t& bytes) noexcept;

// restore.cc
// Takes the whole records in the control slot's first `len` bytes, copying each in before it looks at it.
[[nodiscard]] Errc restore_records(std::uint64_t len) noexcept;

// pages.cc: which pages a checkpoint contains.
[[nodiscard]] bool is_checkpoint_page(std::uint64_t page) noexcept;
// The first checkpoint page >= `page` that is in use; ~0 when there is none.
[[nodiscard]] std::uint64_t next_used_page(std::uint64_t page) noexcept;
[[nodiscard]] std::uint64_t count_used_pages() noexcept;

// relocate.cc
void relocate() noexcept;

// Own identity, from a REPORT made for nobody in particular.
void own_report(sgx::ReportBody& out) noexcept;

}  // namespace sealift::core

// Phase 2 of two-phase checkpointing: with no thread running, the control thread seals the enclave's state into
// records. docs/format.md is the format.
//
// Core seals into its own scratch, piece by piece, and copies each piece out: a tag is never computed over bytes that
// the host can change meanwhile. A sequence number is sealed once: what gets lost is sent again from the host's copy.
#include "trusted/core/area.h"
#include "trusted/core/core.h"
#include "trusted/core/instance.h"
#include "trusted/core/memory.h"

namespace sealift::core {
namespace {

using record::Kind;
using record::RecordHeader;

constexpr std::uint64_t kNone = ~std::uint64_t{0};
enum Phase : std::uint32_t { kPages, kArena, kThreads, kFinal };

RecordHeader header(Kind kind, std::uint64_t first_page, std::uint32_t page_count, std::uint32_t body_len) noexcept {
  return {record::kMagic, record::kVersion, static_cast<std::uint16_t>(kind), instance().sequence, body_len,
          page_count,     first_page};
}

// The output so far, in the control slot. Only ever written to, never read back.
class Sink {
 public:
  void put(const void* data, std::uint64_t n) noexcept {
    copy_sealed(control_slot() + used_, data, n);
    used_ += n;
  }
  template <typename T>
  void put(const T& object) noexcept {
    store_outside(control_slot() + used_, object);
    used_ += sizeof object;
  }
  [[nodiscard]] std::uint64_t used() const noexcept { return used_; }
  [[nodiscard]] bool has_room() const noexcept { return abi::kControlSlotBytes - used_ >= record::kMaxRecord; }

 private:
  std::uint64_t used_ = 0;
};

// The CPU's own prefetching stops at page ends. Also asked for is the beginning of a page of the next record, at which
// run_length will look: the walk through the page tables then happens beside the cipher; and into L2, as first lines of
// pages all fall into one set of L1. May reach past what there is: a prefetch never faults.
void fetch_ahead(const std::uint8_t* from) noexcept {
  for (std::uint64_t i = 0; i < kPiece; i += kCacheLine) fetch_to_l1(from + kAhead + i);
  if (reinterpret_cast<std::uint64_t>(from) % sgx::kPageSize != 0) return;
  fetch_to_l2(from + record::kMaxBody);
  fetch_to_l2(from + record::kMaxBody + kCacheLine);
}

// Seals `body` (enclave memory, or core's scratch) as the next record.
void seal_record(Sink& sink, const RecordHeader& h, const void* body) noexcept {
  Instance& me = instance();
  const RecordAad aad = aad_of(h);
  std::uint8_t tag[kTagBytes];
  sink.put(h);
  GcmSeal seal(me.key, me.sequence++, &aad, sizeof aad);
  const auto* from = static_cast<const std::uint8_t*>(body);
  for (std::uint64_t done = 0; done < h.body_len;) {
    const std::uint64_t n = h.body_len - done < kPiece ? h.body_len - done : kPiece;
    seal.update(from + done, n, scratch_piece());
    sink.put(scratch_piece(), n);
    fetch_ahead(from + done);
    done += n;
  }
  seal.finish(tag);
  sink.put(tag);
  if (static_cast<Kind>(h.kind) != Kind::kFinal) {
    me.hash.add(h);
    me.hash.add(tag);
  }
}

// The longest run of used pages from `first` that are all zero, or all not.
std::uint32_t run_length(std::uint64_t first, bool zero, std::uint32_t limit) noexcept {
  std::uint32_t n = 1;
  while (n < limit) {
    const std::uint64_t p = first + n;
    if (next_used_page(p) != p || page_is_zero(at(p << sgx::kPageShift)) != zero) break;
    ++n;
  }
  return n;
}

bool dump_pages(Sink& sink) noexcept {
  Dump& d = instance().dump;
  const std::uint64_t first = next_used_page(d.next_page);
  if (first == kNone) return false;
  const bool zero = page_is_zero(at(first << sgx::kPageShift));
  const std::uint32_t n = run_length(first, zero, zero ? record::kMaxZeroPagesPerRecord : record::kMaxPagesPerRecord);
  d.next_page = first + n;
  if (zero) {
    d.zero_pages += n;
    seal_record(sink, header(Kind::kZeroes, first, n, 0), nullptr);
  } else {
    d.pages += n;
    const auto bytes = static_cast<std::uint32_t>(n * sgx::kPageSize);
    seal_record(sink, header(Kind::kPages, first, n, bytes), at(first << sgx::kPageShift));
  }
  return true;
}

void dump_arena_pages(Sink& sink, std::uint64_t offset, std::uint64_t n) noexcept {
  std::uint8_t* scratch = scratch_body();
  copy(scratch, control_slot() + offset, n * sgx::kPageSize);
  instance().dump.arena_bytes += n * sgx::kPageSize;
  seal_record(sink,
              header(Kind::kArena, offset / sgx::kPageSize, static_cast<std::uint32_t>(n),
                     static_cast<std::uint32_t>(n * sgx::kPageSize)),
              scratch);
}

// A thread that was stopped in the middle of a boundary copy must find what it was copying, and one that was about to
// wait on a futex word must see that the word has changed since it looked. Only parked threads' slots and the words
// travel; they are untrusted bytes before and after.
bool dump_arena(Sink& sink) noexcept {
  Dump& d = instance().dump;
  for (; d.next_thread < config().tcs_count; ++d.next_thread, d.next_page = 0) {
    if (d.states[d.next_thread] != ThreadState::kParked) continue;
    const std::uint64_t offset = abi::slot_offset(d.next_thread, slot_bytes()) + d.next_page * sgx::kPageSize;
    const std::uint64_t left = slot_bytes() / sgx::kPageSize - d.next_page;
    if (left == 0) continue;
    const std::uint64_t n = left < record::kMaxPagesPerRecord ? left : record::kMaxPagesPerRecord;
    d.next_page += n;
    dump_arena_pages(sink, offset, n);
    return true;
  }
  if (d.next_thread > config().tcs_count) return false;
  ++d.next_thread;  // past the last slot: the words lie behind it
  constexpr std::uint64_t kWordPages = abi::kFutexWords * sizeof(std::uint32_t) / sgx::kPageSize;
  static_assert(kWordPages != 0 && kWordPages * sgx::kPageSize == abi::kFutexWords * sizeof(std::uint32_t));
  dump_arena_pages(sink, abi::futex_offset(config().tcs_count, slot_bytes()), kWordPages);
  return true;
}

bool dump_threads(Sink& sink) noexcept {
  Dump& d = instance().dump;
  std::uint8_t* body = scratch_body();
  std::uint64_t len = 0;
  for (; d.next_thread < config().tcs_count; ++d.next_thread) {
    const ThreadBlock& tb = sealift_thread_blocks[d.next_thread];
    const ThreadState state = d.states[d.next_thread];
    // An unbound TCS may carry a claim (claim_thread); without one there is nothing to tell.
    if (d.next_thread == abi::kControlTcs || (state == ThreadState::kUnbound && tb.resume_rsp == 0)) continue;
    const bool stash = state == ThreadState::kParked;
    if (len + sizeof(record::ThreadEntry) + sizeof(record::Stash) > record::kMaxBody) break;
    const record::ThreadEntry entry{d.next_thread,
                                    static_cast<std::uint32_t>(state),
                                    tb.fsbase,
                                    tb.resume_rsp,
                                    tb.clear_tid,
                                    tb.migrated,
                                    stash ? static_cast<std::uint32_t>(sizeof(record::Stash)) : 0u};
    copy(body + len, &entry, sizeof entry);
    len += sizeof entry;
    if (stash) {
      copy(body + len, &tb.stash, sizeof tb.stash);
      len += sizeof tb.stash;
    }
    ++d.threads;
  }
  if (len == 0) return false;
  seal_record(sink, header(Kind::kThreads, 0, 0, static_cast<std::uint32_t>(len)), body);
  return true;
}

void dump_final(Sink& sink) noexcept {
  Instance& me = instance();
  Dump& d = me.dump;
  me.hash.finish(me.digest);
  sgx::ReportBody self;
  own_report(self);
  auto& f = *reinterpret_cast<record::Final*>(scratch_body());
  f = {};
  copy(f.digest, me.digest, sizeof f.digest);
  f.records = me.sequence;
  f.pages = d.pages;
  f.zero_pages = d.zero_pages;
  f.arena_bytes = d.arena_bytes;
  f.threads = d.threads;
  f.tcs_count = config().tcs_count;
  copy(f.lineage, me.lineage, sizeof f.lineage);
  f.epoch = me.epoch;
  copy(f.attempt, me.attempt, sizeof f.attempt);
  f.elrange_base = base();
  f.elrange_size = config().elrange_size;
  f.arena_base = arena_base();
  f.xfrm = config().xfrm;
  f.mrenclave = self.mrenclave;
  f.mrsigner = self.mrsigner;
  seal_record(sink, header(Kind::kFinal, 0, 0, sizeof f), &f);
  d.done = true;
}

}  // namespace

void dump_begin() noexcept {
  Instance& me = instance();
  me.dump = {};
  me.sequence = 0;
  me.hash = Sha256();
}

namespace {

// One record, or nothing when only the final record is left.
bool dump_next(Sink& sink) noexcept {
  Dump& d = instance().dump;
  if (d.phase == kPages) {
    if (dump_pages(sink)) return true;
    d.phase = kArena;
    d.next_page = 0;
  }
  if (d.phase == kArena) {
    if (dump_arena(sink)) return true;
    d.phase = kThreads;
    d.next_thread = 0;
  }
  if (d.phase == kThreads) {
    if (dump_threads(sink)) return true;
    d.phase = kFinal;
  }
  return false;
}

}  // namespace

Errc dump(std::uint64_t& bytes) noexcept {
  Instance& me = instance();
  if (gate() != abi::GateState::kQuiescing || !me.has_key || me.role == abi::Role::kNone) return Errc::kNotReady;
  if (me.dump.done) return Errc::kNotReady;
  // Looked at once an entry: a thread that comes in meanwhile is Running for a moment, and is sent out again, into the
  // state that it had.
  for (std::uint32_t i = 0; i < config().tcs_count; ++i) {
    me.dump.states[i] = state_of(sealift_thread_blocks[i]);
    if (me.dump.states[i] == ThreadState::kRunning) return Errc::kNotQuiescent;
  }
  Sink sink;
  while (sink.has_room() && dump_next(sink)) {
  }
  if (sink.used() == 0) dump_final(sink);
  bytes = sink.used();
  return Errc::kOk;
}

}  // namespace sealift::core

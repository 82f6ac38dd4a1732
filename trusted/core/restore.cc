// Restore: records are copied in, opened, then placed. Any refusal destroys this instance: nothing of it has run, and
// nothing of it will.
#include "trusted/core/area.h"
#include "trusted/core/core.h"
#include "trusted/core/instance.h"
#include "trusted/core/memory.h"

namespace sealift::core {
namespace {

using record::Kind;
using record::RecordHeader;

// Shape and placement, before anything is decrypted. The header is the host's until the tag verifies.
// `len`: what is there of the record and what follows it.
Errc check_header(const RecordHeader& h, std::uint64_t len) noexcept {
  if (h.magic != record::kMagic) return Errc::kBadMagic;
  if (h.version != record::kVersion) return Errc::kBadVersion;
  if (h.sequence != instance().sequence) return Errc::kBadSequence;
  if (h.body_len > record::kMaxBody) return Errc::kBadLength;
  if (len < sizeof h + h.body_len + record::kTagBytes) return Errc::kTruncated;
  const std::uint64_t page_bytes = std::uint64_t{h.page_count} * sgx::kPageSize;
  switch (static_cast<Kind>(h.kind)) {
    case Kind::kPages:
    case Kind::kArena:
      return h.page_count != 0 && h.body_len == page_bytes ? Errc::kOk : Errc::kBadLength;
    case Kind::kZeroes:
      return h.page_count != 0 && h.page_count <= record::kMaxZeroPagesPerRecord && h.body_len == 0 ? Errc::kOk
                                                                                                    : Errc::kBadLength;
    case Kind::kThreads:
      return h.page_count == 0 && h.first_page == 0 ? Errc::kOk : Errc::kBadLength;
    case Kind::kFinal:
      return h.page_count == 0 && h.first_page == 0 && h.body_len == sizeof(record::Final) ? Errc::kOk
                                                                                           : Errc::kBadLength;
  }
  return Errc::kBadKind;
}

bool pages_allowed(const RecordHeader& h) noexcept {
  if (h.first_page >= config().elrange_size / sgx::kPageSize) return false;
  for (std::uint64_t i = 0; i < h.page_count; ++i) {
    if (!is_checkpoint_page(h.first_page + i)) return false;
  }
  return true;
}

// Where a body is opened to. A pass over memory is saved by opening pages right where they belong, if that is a place
// for them. They are opened from core's own copy all the same; and should the tag not verify, the instance that they
// were written to is destroyed.
std::uint8_t* destination(const RecordHeader& h) noexcept {
  const bool pages = static_cast<Kind>(h.kind) == Kind::kPages && pages_allowed(h);
  return pages ? static_cast<std::uint8_t*>(at(h.first_page << sgx::kPageShift)) : scratch_body();
}

Errc place_pages(const RecordHeader& h, const std::uint8_t* body) noexcept {
  if (body == scratch_body()) return Errc::kBadPlacement;
  instance().dump.pages += h.page_count;
  return Errc::kOk;
}

Errc place_zeroes(const RecordHeader& h) noexcept {
  if (!pages_allowed(h)) return Errc::kBadPlacement;
  fill(at(h.first_page << sgx::kPageShift), 0, h.page_count * sgx::kPageSize);
  instance().dump.zero_pages += h.page_count;
  return Errc::kOk;
}

Errc place_arena(const RecordHeader& h, const std::uint8_t* body) noexcept {
  const std::uint64_t size = abi::arena_bytes(config().tcs_count, slot_bytes()) / sgx::kPageSize;
  const std::uint64_t first = abi::kControlSlotBytes / sgx::kPageSize;  // never the slot we are being spoken to through
  if (h.first_page < first || h.first_page >= size || h.page_count > size - h.first_page) return Errc::kBadPlacement;
  copy(control_slot() + (h.first_page << sgx::kPageShift), body, h.body_len);
  instance().dump.arena_bytes += h.body_len;
  return Errc::kOk;
}

Errc place_thread(const record::ThreadEntry& e, const std::uint8_t* stash) noexcept {
  if (e.tcs == abi::kControlTcs || e.tcs >= config().tcs_count) return Errc::kTooManyThreads;
  ThreadBlock& tb = sealift_thread_blocks[e.tcs];
  const auto state = static_cast<ThreadState>(e.state);
  const bool known = state == ThreadState::kUnbound || state == ThreadState::kFree || state == ThreadState::kStarting ||
                     state == ThreadState::kInOcall || state == ThreadState::kParked;
  if (!known || (state == ThreadState::kParked) != (stash != nullptr)) return Errc::kBadLength;
  tb.fsbase = e.fsbase;
  tb.resume_rsp = e.resume_rsp;
  tb.clear_tid = e.clear_tid;
  // A parked thread may have been let in with the answer to an ocall that it made two machines ago: still void.
  tb.migrated = state == ThreadState::kInOcall || (stash != nullptr && e.migrated != 0) ? 1 : 0;
  if (stash != nullptr) copy(&tb.stash, stash, sizeof tb.stash);
  publish(tb, state);
  ++instance().dump.threads;
  return Errc::kOk;
}

Errc place_threads(const RecordHeader& h, const std::uint8_t* body) noexcept {
  std::uint64_t left = h.body_len;
  while (left != 0) {
    record::ThreadEntry e;
    if (left < sizeof e) return Errc::kBadLength;
    copy(&e, body, sizeof e);
    body += sizeof e;
    left -= sizeof e;
    if (e.stash_len != 0 && (e.stash_len != sizeof(record::Stash) || left < sizeof(record::Stash))) {
      return Errc::kBadLength;
    }
    const Errc placed = place_thread(e, e.stash_len != 0 ? body : nullptr);
    if (placed != Errc::kOk) return placed;
    body += e.stash_len;
    left -= e.stash_len;
  }
  return Errc::kOk;
}

Errc check_final(const record::Final& f) noexcept {
  Instance& me = instance();
  const Dump& d = me.dump;
  me.hash.finish(me.digest);
  sgx::ReportBody self;
  own_report(self);
  if (!equal_ct(f.digest, me.digest, sizeof f.digest)) return Errc::kBadDigest;
  if (f.records + 1 != me.sequence || f.pages != d.pages || f.zero_pages != d.zero_pages ||
      f.arena_bytes != d.arena_bytes || f.threads != d.threads) {
    return Errc::kBadCount;
  }
  if (f.mrenclave != self.mrenclave || f.mrsigner != self.mrsigner || f.xfrm != config().xfrm ||
      f.tcs_count != config().tcs_count || f.elrange_size != config().elrange_size) {
    return Errc::kWrongEnclave;
  }
  if (f.elrange_base != base() || f.arena_base != arena_base()) return Errc::kWrongBase;
  if (!equal_ct(f.attempt, me.attempt, sizeof f.attempt)) return Errc::kWrongAttempt;
  if (!equal_ct(f.lineage, me.lineage, sizeof f.lineage)) return Errc::kWrongLineage;
  if (f.epoch != me.epoch) return Errc::kWrongEpoch;
  me.restored = true;
  return Errc::kOk;
}

Errc place(const RecordHeader& h, const std::uint8_t* body) noexcept {
  switch (static_cast<Kind>(h.kind)) {
    case Kind::kPages:
      return place_pages(h, body);
    case Kind::kZeroes:
      return place_zeroes(h);
    case Kind::kArena:
      return place_arena(h, body);
    case Kind::kThreads:
      return place_threads(h, body);
    case Kind::kFinal:
      return check_final(*reinterpret_cast<const record::Final*>(body));
  }
  return Errc::kBadKind;
}

// Each piece is copied in once and opened from there: a tag is never computed over bytes that the host can change
// meanwhile. The lines that will be written are asked for ahead, as in fetch_ahead() of checkpoint.cc.
void open_body(GcmOpen& record, const std::uint8_t* from, std::uint64_t len, std::uint8_t* to) noexcept {
  for (std::uint64_t done = 0; done < len;) {
    const std::uint64_t n = len - done < kPiece ? len - done : kPiece;
    copy_sealed(scratch_piece(), from + done, n);
    for (std::uint64_t i = 0; i < n; i += kCacheLine) fetch_to_write(to + done + kAhead + i);
    record.update(scratch_piece(), n, to + done);
    done += n;
  }
}

// One record at the control slot's offset `at`, `left` bytes before the end of the input.
Errc accept(std::uint64_t at, std::uint64_t left, std::uint64_t& used) noexcept {
  Instance& me = instance();
  RecordHeader h;
  if (left < sizeof h + record::kTagBytes) return Errc::kTruncated;
  copy(&h, control_slot() + at, sizeof h);
  const Errc shape = check_header(h, left);
  if (shape != Errc::kOk) return shape;
  if (me.restored) return Errc::kBadCount;  // surplus: the final record was the last
  const RecordAad aad = aad_of(h);
  std::uint8_t tag[kTagBytes];
  copy(tag, control_slot() + at + sizeof h + h.body_len, sizeof tag);
  std::uint8_t* body = destination(h);
  GcmOpen record(me.key, me.sequence, &aad, sizeof aad);
  open_body(record, control_slot() + at + sizeof h, h.body_len, body);
  if (!record.finish(tag)) return Errc::kBadTag;
  ++me.sequence;
  if (static_cast<Kind>(h.kind) != Kind::kFinal) {
    me.hash.add(h);
    me.hash.add(tag);
  }
  used = sizeof h + h.body_len + sizeof tag;
  return place(h, body);
}

}  // namespace

Errc restore_records(std::uint64_t len) noexcept {
  Instance& me = instance();
  if (me.role != abi::Role::kRestore || gate() != abi::GateState::kRestoring || !me.has_key) return Errc::kNotReady;
  if (len > abi::kControlSlotBytes) return Errc::kBadSize;
  Errc e = len == 0 ? Errc::kTruncated : Errc::kOk;
  for (std::uint64_t at = 0; at < len && e == Errc::kOk;) {
    std::uint64_t used = 0;
    e = accept(at, len - at, used);
    at += used;
  }
  if (e != Errc::kOk && gate_move(abi::GateState::kRestoring, abi::GateState::kDestroyed)) forget_attempt();
  return e;
}

}  // namespace sealift::core

#include "host/stay.h"

#include <cstdio>
#include <utility>

#include "host/enclu.h"
#include "host/signals.h"
#include "sgx/arch.h"

namespace sealift::host {
namespace {

struct Context {
  Entries* entries;
  std::uint32_t tcs;
  std::uint64_t generation;  // of the enclave that this stay is in
};

std::string crash_line(const Reply& r) {
  char text[160];
  std::snprintf(text, sizeof text,
                "the enclave raised exception %u at image offset 0x%llx (address 0x%llx): it cannot go on",
                static_cast<unsigned>(r.a & sgx::exitinfo::kVectorMask), static_cast<unsigned long long>(r.b),
                static_cast<unsigned long long>(r.c));
  return text;
}

Reply reply_from(const Stay& s) {
  return {static_cast<abi::Exit>(s.rdi), s.rsi, s.rdx, s.r8};
}

}  // namespace

bool Entries::run(std::uint32_t tcs, Stay& stay) {
  Slot& slot = slots_[tcs];
  const std::lock_guard exclusive(slot.entry);
  {
    const std::lock_guard lock(slot.kick);
    slot.thread = pthread_self();
    slot.inside = true;
  }
  // The gate closes first and all_outside() looks afterwards; here it is the other way round. So one sees the other.
  const bool open = !gate_.quiescing();
  if (open) {
    static_cast<Context*>(stay.context)->generation = generation_.load();  // which changes only when nobody is inside
    sealift_enclu(&stay);
  }
  {
    const std::lock_guard lock(slot.kick);
    slot.inside = false;
  }
  note_parking();
  return open;
}

bool Entries::all_outside() {
  for (Slot& slot : slots_) {
    const std::lock_guard lock(slot.kick);
    if (slot.inside && !slot.waiting) return false;
  }
  return true;
}

Errc Entries::wait_parked(Slot& slot) {
  const auto set_waiting = [&](bool waiting) {
    const std::lock_guard lock(slot.kick);
    slot.waiting = waiting;
  };
  for (;;) {
    set_waiting(true);
    note_parking();
    const Errc gone = gate_.wait_open();
    set_waiting(false);
    if (gone != Errc::kOk || !gate_.quiescing()) return gone;
  }
}

void Entries::kick_all() {
  for (Slot& slot : slots_) {
    const std::lock_guard lock(slot.kick);
    if (slot.inside) kick(slot.thread);
  }
}

void Entries::note_parking() {
  parked_.fetch_add(1);
  if (!gate_.quiescing()) return;
  const std::lock_guard lock(parking_mutex_);
  parking_.notify_all();
}

std::uint64_t Entries::wait_for_parking(std::uint64_t seen) {
  std::unique_lock lock(parking_mutex_);
  parking_.wait_for(lock, kKickAgain, [&] { return parked_.load() != seen; });
  return parked_.load();
}

Result<Reply> Entries::reply_of(std::uint32_t tcs, const Stay& stay) {
  if (stay.end == StayEnd::kExit) return reply_from(stay);
  if (gate_.gone() == Errc::kOk && may_vanish_) return Errc::kEpcLost;  // it will be rebuilt
  if (stay.end == StayEnd::kFault && gate_.gone() == Errc::kOk) {
    gate_.end(Errc::kEpcLost, "the enclave's memory is gone (TCS " + std::to_string(tcs) +
                                  "): the machine was suspended, or migrated without Sealift: open the enclave again");
    kick_all();  // whoever is still inside learns of it, too
  }
  return gate_.gone() == Errc::kOk ? Errc::kCrashed : gate_.gone();
}

Result<Reply> Entries::stay(std::uint32_t tcs, abi::Request request, std::uint64_t a, std::uint64_t b) {
  for (;;) {
    if (const Errc gone = gate_.wait_open(); gone != Errc::kOk) return gone;
    Context context{this, tcs, 0};
    Stay stay{tcs_address(tcs), static_cast<std::uint64_t>(request), a, b, 0, StayEnd::kExit, {}, 0, &context};
    if (!run(tcs, stay)) continue;
    const Result<Reply> reply = reply_of(tcs, stay);
    if (!reply) return reply.error();
    if (reply->reason == abi::Exit::kCrash) {
      gate_.end(Errc::kCrashed, crash_line(*reply));
      return Errc::kCrashed;
    }
    if (reply->reason != abi::Exit::kRefused) return reply;
    // Gate closed: ours closes before the enclave's and opens after it, so the next round waits.
    const auto refused = static_cast<Errc>(reply->a);
    if (refused != Errc::kGateClosed) return refused;
  }
}

Result<Reply> Entries::control(abi::ControlOp op, std::uint64_t bytes) {
  Context context{this, abi::kControlTcs, generation_.load()};
  Stay stay{tcs_address(abi::kControlTcs),
            static_cast<std::uint64_t>(abi::Request::kControl),
            static_cast<std::uint64_t>(op),
            bytes,
            0,
            StayEnd::kExit,
            {},
            1,
            &context};
  sealift_enclu(&stay);
  return reply_of(abi::kControlTcs, stay);
}

AfterAex Entries::at_aex(std::uint32_t tcs, std::uint64_t& generation, Stay& stay) {
  if (stay.nested != 0) {
    // Nothing handles its exceptions, but EPC that is gone looks like one of them: then ERESUME is what faults, while
    // an exception that is the enclave's own comes again.
    if (stay.exception.pending == 0 || !std::exchange(stay.raised, true)) {
      stay.exception.pending = 0;
      return AfterAex::kResume;
    }
    // What has committed is rebuilt, whatever happens to it here.
    if (!may_vanish_) {
      gate_.end(Errc::kCrashed, "the enclave's exception handler raised an exception: it cannot go on");
    }
    return AfterAex::kAbandon;
  }
  bool handle = stay.exception.pending != 0;
  stay.exception.pending = 0;
  for (;;) {
    if (gate_.gone() != Errc::kOk) return AfterAex::kAbandon;
    if (!handle && !gate_.quiescing()) return AfterAex::kResume;
    Stay nested{tcs_address(tcs), static_cast<std::uint64_t>(abi::Request::kHandle), 0, 0, 0, StayEnd::kExit, {}, 1,
                stay.context};
    sealift_enclu(&nested);
    const Result<Reply> reply = reply_of(tcs, nested);
    if (!reply) return AfterAex::kAbandon;
    if (reply->reason == abi::Exit::kResume) return AfterAex::kResume;
    if (reply->reason == abi::Exit::kCrash) {
      gate_.end(Errc::kCrashed, crash_line(*reply));
      return AfterAex::kAbandon;
    }
    // Parked, or still parked because the gate is closed: come back when it is open.
    handle = true;
    if (wait_parked(slots_[tcs]) != Errc::kOk) return AfterAex::kAbandon;
    if (const std::uint64_t now = generation_.load(); now != generation) {
      generation = now;
      return AfterAex::kEnter;
    }
  }
}

extern "C" std::uint64_t sealift_at_aex(Stay* stay) {
  // A stack that enclu.S has not aligned is noticed here, and not by the first SSE store to it, months later.
  if (reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0)) % 16 != 0) __builtin_trap();
  auto* context = static_cast<Context*>(stay->context);
  return static_cast<std::uint64_t>(context->entries->at_aex(context->tcs, context->generation, *stay));
}

}  // namespace sealift::host

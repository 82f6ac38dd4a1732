#include "trusted/runtime/calls.h"

#include <cstdlib>
#include <map>

#include "migration/ocalls.h"
#include "sealift/trusted.h"
#include "trusted/core/core.h"
#include "trusted/core/memory.h"

namespace sealift {
namespace {

// Filled by static initialisers, read-only afterwards: no lock.
std::map<std::uint32_t, detail::Handler>& handlers() {
  static std::map<std::uint32_t, detail::Handler> table;
  return table;
}

// Holds the slot's bytes, copied once. Made before a message can be in the slot: an allocation may have to wait for
// malloc's lock, and that futex ocall would write its arguments over the message.
class Inbox {
 public:
  Inbox() : bytes_(core::slot_bytes()) {}
  // Valid until the next call. `bytes` is already clamped to the slot.
  std::span<const std::uint8_t> copy_in(std::uint64_t bytes) {
    core::copy(bytes_.data(), core::slot(), bytes);
    return std::span(bytes_).first(bytes);
  }

 private:
  Bytes bytes_;
};

// False: does not fit.
bool copy_out(std::uint32_t id, const Bytes& body) {
  if (body.size() > core::slot_bytes() - sizeof(abi::CallHeader)) return false;
  const abi::CallHeader header{id, static_cast<std::uint32_t>(body.size())};
  core::copy(core::slot(), &header, sizeof header);
  core::copy(core::slot() + sizeof header, body.data(), body.size());
  return true;
}

// The body of a message, or false when the header does not describe exactly these bytes.
bool body_of(std::span<const std::uint8_t> message, std::uint32_t& id, std::span<const std::uint8_t>& body) {
  abi::CallHeader header;
  if (message.size() < sizeof header) return false;
  std::memcpy(&header, message.data(), sizeof header);
  if (header.bytes != message.size() - sizeof header) return false;
  id = header.id;
  body = message.subspan(sizeof header);
  return true;
}

Errc dispatch(std::span<const std::uint8_t> message, Bytes& out) {
  std::uint32_t id = 0;
  std::span<const std::uint8_t> body;
  if (!body_of(message, id, body)) return Errc::kMalformedCall;
  const auto handler = handlers().find(id);
  if (handler == handlers().end()) return Errc::kUnknownCall;
  try {
    return handler->second(body, out);
  } catch (...) {
    // The boundary is where C++ exceptions end: what was thrown is the enclave's secret, that it was is not.
    out.clear();
    return Errc::kAppException;
  }
}

}  // namespace

namespace detail {

void register_ecall(std::uint32_t id, Handler handler) {
  if (!handlers().emplace(id, std::move(handler)).second) std::abort();
}

Errc raw_ocall(std::uint32_t id, const Bytes& arguments, Restart restart, Bytes& result) {
  thread_local Inbox inbox;
  for (;;) {
    // Nothing between the copies and the ocall may allocate or free: see Inbox.
    if (!copy_out(id, arguments)) return Errc::kTooLarge;
    const core::OcallResult done = core::ocall(abi::OcallOp::kAppOcall, sizeof(abi::CallHeader) + arguments.size());
    if (done.migrated) {
      if (restart == Restart::kNo) return Errc::kMigrated;
      continue;
    }
    if (done.value != static_cast<std::uint64_t>(Errc::kOk)) {
      return done.value == static_cast<std::uint64_t>(Errc::kUnknownCall) ? Errc::kUnknownCall : Errc::kAppException;
    }
    const std::span<const std::uint8_t> message = inbox.copy_in(done.bytes);
    std::uint32_t answered = 0;
    std::span<const std::uint8_t> body;
    if (!body_of(message, answered, body) || answered != id) return Errc::kMalformedCall;
    result.assign(body.begin(), body.end());
    return Errc::kOk;
  }
}

}  // namespace detail

namespace runtime {

void serve_calls() {
  Inbox inbox;
  Bytes out;
  std::uint64_t bytes = core::idle();
  for (;;) {
    const std::span<const std::uint8_t> message = inbox.copy_in(bytes);
    out = Bytes();  // only now: with the last reply, or a message, in the slot nothing may be freed
    Errc e = dispatch(message, out);
    if (e != Errc::kOk) out.clear();
    std::uint64_t n = sizeof(abi::CallHeader) + out.size();
    if (!copy_out(0, out)) {
      e = Errc::kTooLarge;
      n = 0;
    }
    bytes = core::finish_call(e, n);
  }
}

}  // namespace runtime
}  // namespace sealift

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

// The slot's bytes, copied once. `bytes` is already clamped to the slot.
Bytes copy_in(std::uint64_t bytes) {
  Bytes in(bytes);
  core::copy(in.data(), core::slot(), bytes);
  return in;
}

// False: does not fit.
bool copy_out(std::uint32_t id, const Bytes& body) {
  if (body.size() > core::slot_bytes() - sizeof(abi::CallHeader)) return false;
  const abi::CallHeader header{id, static_cast<std::uint32_t>(body.size())};
  core::copy(core::slot(), &header, sizeof header);
  core::copy(core::slot() + sizeof header, body.data(), body.size());
  return true;
}

// The body of a message, or false when the header does not describe exactly these bytes.
bool body_of(const Bytes& message, std::uint32_t& id, std::span<const std::uint8_t>& body) {
  abi::CallHeader header;
  if (message.size() < sizeof header) return false;
  std::memcpy(&header, message.data(), sizeof header);
  if (header.bytes != message.size() - sizeof header) return false;
  id = header.id;
  body = std::span(message).subspan(sizeof header);
  return true;
}

Errc dispatch(std::uint64_t bytes, Bytes& out) {
  const Bytes message = copy_in(bytes);
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
  for (;;) {
    if (!copy_out(id, arguments)) return Errc::kTooLarge;
    const core::OcallResult done = core::ocall(abi::OcallOp::kAppOcall, sizeof(abi::CallHeader) + arguments.size());
    if (done.migrated) {
      if (restart == Restart::kNo) return Errc::kMigrated;
      continue;
    }
    if (done.value != static_cast<std::uint64_t>(Errc::kOk)) {
      return done.value == static_cast<std::uint64_t>(Errc::kUnknownCall) ? Errc::kUnknownCall : Errc::kAppException;
    }
    const Bytes message = copy_in(done.bytes);
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
  std::uint64_t bytes = core::idle();
  for (;;) {
    Bytes out;
    Errc e = dispatch(bytes, out);
    if (e != Errc::kOk) out.clear();
    std::uint64_t n = sizeof(abi::CallHeader) + out.size();
    if (!copy_out(0, out)) {
      e = Errc::kTooLarge;
      n = 0;
    }
    out = Bytes();  // nothing of the call outlives it on this thread
    bytes = core::finish_call(e, n);
  }
}

}  // namespace runtime
}  // namespace sealift

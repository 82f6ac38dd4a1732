// The enclave's side of the public API: answer ecalls, make ocalls, know who and where you are.
//
// Threads: everything here may be called from any thread of the enclave at any time after static initialisation.
#pragma once

#include <array>
#include <cstdint>
#include <exception>
#include <functional>
#include <string>
#include <utility>

#include "sealift/calls.h"
#include "sealift/result.h"
#include "sgx/arch.h"

namespace sealift {

namespace detail {
using Handler = std::function<Errc(std::span<const std::uint8_t>, Bytes&)>;
// Terminates the program when the id is taken: two definitions of one call are a programming error.
void register_ecall(std::uint32_t id, Handler handler);
[[nodiscard]] Errc raw_ocall(std::uint32_t id, const Bytes& arguments, Restart restart, Bytes& result);
}  // namespace detail

// Defines an ecall: at namespace scope, `const sealift::Define kGreetDefinition{kGreet, greet};`
// An exception that leaves `function` reaches the caller as Errc::kAppException; its text stays inside.
class Define {
 public:
  template <std::uint32_t Id, typename R, typename... Args, typename F>
  Define(const Ecall<Id, R(Args...)>&, F function) {
    detail::register_ecall(Id, [function = std::move(function)](std::span<const std::uint8_t> in, Bytes& out) {
      typename Ecall<Id, R(Args...)>::Arguments arguments;
      if (!wire::decode(in, arguments)) return Errc::kMalformedCall;
      if constexpr (std::is_void_v<R>) {
        std::apply(function, std::move(arguments));
      } else {
        const R result = std::apply(function, std::move(arguments));
        out = wire::encode(result);
      }
      return Errc::kOk;
    });
  }
};

// Leaves the enclave to call the host's handler. kMigrated: the enclave migrated while the call was out and the ocall
// is not restartable; whether the host ever ran it is unknown. The result is the host's word: validate it.
template <std::uint32_t Id, typename R, typename... Args, typename... Given>
[[nodiscard]] Result<ValueOf<R>> ocall(const Ocall<Id, R(Args...)>& call, Given&&... given) {
  const typename Ocall<Id, R(Args...)>::Arguments arguments(std::forward<Given>(given)...);
  Bytes out;
  const Errc e = detail::raw_ocall(Id, wire::encode(arguments), call.restart, out);
  if (e != Errc::kOk) return e;
  ValueOf<R> result{};
  if constexpr (std::is_void_v<R>) {
    if (!out.empty()) return Errc::kMalformedCall;
  } else {
    if (!wire::decode(out, result)) return Errc::kMalformedCall;
  }
  return result;
}

// Who this logical enclave is, for its whole life, and how often it has been activated.
struct Identity {
  std::array<std::uint8_t, 16> lineage;
  std::uint64_t epoch;
};
[[nodiscard]] Identity identity();

// EREPORT aimed at `target`; its REPORTDATA is `data`.
[[nodiscard]] sgx::Report report(const sgx::Targetinfo& target, const std::array<std::uint8_t, 64>& data);
// True when `report` was made on this machine for this enclave.
[[nodiscard]] bool verify_report(const sgx::Report& report);

// EGETKEY's seal key for this MRENCLAVE on this machine: another machine gives another key, so migrate data, not seals.
[[nodiscard]] Result<std::array<std::uint8_t, 16>> seal_key(const std::array<std::uint8_t, 32>& key_id);

}  // namespace sealift

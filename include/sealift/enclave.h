// The host's side of the public API: open an enclave, call it, answer its ocalls.
//
//   auto enclave = sealift::Enclave::open("kv.enclave");
//   enclave->on(kLog, [](std::string line) { std::puts(line.c_str()); });
//   auto reply = enclave->call(kGreet, "world", 3u);      // Result<std::string>
//
// Nothing in here is about migration. When this program was started on a target machine to take over a migrated
// enclave, open() returns that enclave, with everything in it as it was.
//
// Threads: an Enclave may be called from any number of host threads at once; a call waits while all of the manifest's
// ecall threads are busy, and while the enclave is being migrated. Ocall handlers run on the thread whose ecall (or
// whose enclave thread) made the ocall, several at a time.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "sealift/calls.h"
#include "sealift/result.h"

namespace sealift {

struct EnclaveOptions {
  std::vector<std::string> arguments;  // argv of the enclave's main
  bool daemon = true;                  // register with this host's sealiftd, when there is one
};

// Where and what an enclave is, for people and tools.
struct EnclaveStatus {
  std::string name;
  std::array<std::uint8_t, 32> mrenclave{};
  std::array<std::uint8_t, 16> lineage{};
  std::uint64_t epoch = 0;
  bool adopted = false;    // it came from another machine
  bool destroyed = false;  // it went to another machine
  std::uint64_t pages_in_use = 0;
  std::uint64_t unknown_syscalls = 0;
};

class Enclave {
 public:
  // Builds, initialises and starts the enclave in the signed image at `path`; or adopts a migrated one. Blocks until it
  // answers calls. Throws std::runtime_error (sealift::host::Error) with one line: what, to what, what to do.
  static std::unique_ptr<Enclave> open(const std::string& path, EnclaveOptions options = {});
  // Stops every thread inside, at once, and removes the enclave. Its state is gone.
  virtual ~Enclave() = default;

  // Calls into the enclave. kCrashed: it raised an exception that nothing handles (crash_report() says which).
  // kDestroyed: it has migrated away; the call may or may not have had its effect there.
  template <std::uint32_t Id, typename R, typename... Args, typename... Given>
  [[nodiscard]] Result<ValueOf<R>> call(const Ecall<Id, R(Args...)>&, Given&&... given) {
    const typename Ecall<Id, R(Args...)>::Arguments arguments(std::forward<Given>(given)...);
    Bytes out;
    const Errc e = raw_call(Id, wire::encode(arguments), out);
    if (e != Errc::kOk) return e;
    ValueOf<R> result{};
    if constexpr (std::is_void_v<R>) {
      if (!out.empty()) return Errc::kMalformedCall;
    } else {
      if (!wire::decode(out, result)) return Errc::kMalformedCall;
    }
    return result;
  }

  // Answers an ocall. Define all of them before the first call. An exception that leaves `handler` reaches the enclave
  // as Errc::kAppException.
  template <std::uint32_t Id, typename R, typename... Args, typename F>
  void on(const Ocall<Id, R(Args...)>&, F handler) {
    set_handler(Id, [handler = std::move(handler)](std::span<const std::uint8_t> in, Bytes& out) {
      typename Ocall<Id, R(Args...)>::Arguments arguments;
      if (!wire::decode(in, arguments)) return Errc::kMalformedCall;
      if constexpr (std::is_void_v<R>) {
        std::apply(handler, std::move(arguments));
      } else {
        const R result = std::apply(handler, std::move(arguments));
        out = wire::encode(result);
      }
      return Errc::kOk;
    });
  }

  // Runs the program's own main inside, as `sealift run` does. Returns its exit status, once.
  [[nodiscard]] virtual Result<int> run_main() = 0;

  [[nodiscard]] virtual EnclaveStatus status() = 0;
  // Empty while all is well; else one line with the exception and the address.
  [[nodiscard]] virtual std::string crash_report() = 0;
  // Blocks until the enclave has migrated away or crashed: for programs that then want to end.
  virtual void wait_until_gone() = 0;

 protected:
  using Handler = std::function<Errc(std::span<const std::uint8_t>, Bytes&)>;
  [[nodiscard]] virtual Errc raw_call(std::uint32_t id, const Bytes& arguments, Bytes& result) = 0;
  virtual void set_handler(std::uint32_t id, Handler handler) = 0;
};

}  // namespace sealift

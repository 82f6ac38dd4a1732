// The laboratory: software machines, an agent (the real logic) beside each, and host processes on them that obey the
// test.
//
// The test plays every untrusted party. Agents run in the test process and speak with the machines' own report keys,
// read from the machine files: softsgx is no security boundary, which is what makes it a laboratory.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "migration/abi.h"
#include "migration/messages.h"
#include "softsgx/isa/machine.h"
#include "tests/lab/raw.h"
#include "tests/lab/rpc.h"
#include "trusted/agent/agent.h"
#include "trusted/agent/testing/wire.h"

namespace sealift::lab {

// The identity that test manifests pin (tests/enclaves/*.toml): mrenclave = a9 repeated.
inline constexpr std::uint8_t kAgentByte = 0xa9;

// An agent enclave's CPU, on a software machine.
class LabCpu final : public agent::Platform {
 public:
  explicit LabCpu(const std::string& machine_path, std::uint8_t identity = kAgentByte, std::uint64_t flags = 0);
  sgx::Targetinfo self_target() override;
  Errc make_report(const sgx::Targetinfo& target, const agent::ReportData& data, sgx::Report* out) override;
  Errc verify_report(const sgx::Report& report) override;
  Errc random(std::span<std::uint8_t> out) override;
  std::uint64_t now() override { return 1'000'000; }
  [[nodiscard]] const sgx::ReportBody& body() const { return self_; }
  [[nodiscard]] softsgx::Machine& machine() { return *machine_; }

 private:
  std::unique_ptr<softsgx::Machine> machine_;
  sgx::ReportBody self_{};
};

// A machine file and its agent.
struct LabMachine {
  explicit LabMachine(const std::string& epc = "128M", std::uint8_t identity = kAgentByte, std::uint64_t flags = 0);
  ~LabMachine();
  LabMachine(const LabMachine&) = delete;
  LabMachine& operator=(const LabMachine&) = delete;
  // A new agent instance, as after a restart or as a clone.
  void new_agent();
  // Every enclave on it is gone, as in a guest that has moved, or was suspended; the machine's keys stay.
  void lose_epc() { cpu->machine().power_cycle(); }

  std::string directory, path;
  std::uint8_t identity;
  std::uint64_t flags;
  std::unique_ptr<LabCpu> cpu;
  std::unique_ptr<agent::testing::TestChannels> channels;
  std::unique_ptr<agent::Agent> agent;
};

// A host process on a machine.
class Peer {
 public:
  // `options` go to `softsgx run`.
  explicit Peer(const LabMachine& machine, const std::vector<std::string>& options = {});
  ~Peer();
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  Errc request(Op op, const Bytes& arguments, Bytes& out);
  Errc build(const std::string& enclave, std::uint64_t base = 0);
  Errc start();
  Errc restore(const agent::Attempt& attempt);
  Errc control(abi::ControlOp op, const Bytes& in, Bytes& out);
  Errc control(abi::ControlOp op, const Bytes& in = {});
  Errc quiesce(std::uint32_t milliseconds = 10'000);
  Errc settle(std::uint32_t milliseconds = 10'000);
  Errc rebuild(const agent::Attempt& attempt);  // `error` has the text
  std::string report();
  abi::Status status();
  void close();  // removes the enclave; the process stays

  // What a hostile host can do beside the runtime. One ENCLU; the TCS is then left as it is.
  EncluResult enclu(const EncluArgs& args);
  EncluResult enter(std::uint32_t tcs, std::uint64_t request, std::uint64_t a = 0, std::uint64_t b = 0);
  EncluResult enter(std::uint32_t tcs, abi::Request request, std::uint64_t a = 0, std::uint64_t b = 0) {
    return enter(tcs, static_cast<std::uint64_t>(request), a, b);
  }
  EncluResult resume(std::uint32_t tcs);
  EncluResult handle(std::uint32_t tcs) { return enter(tcs, abi::Request::kHandle); }
  // Resumes an interrupted thread until it leaves by itself, as an honest host does: exceptions are handed to it.
  EncluResult finish(std::uint32_t tcs, EncluResult now) { return finish(tcs, now, {}); }
  // The same, but stops at a breakpoint of `stop` (its leaf and arguments do not matter).
  EncluResult finish(std::uint32_t tcs, EncluResult now, EncluArgs stop);
  EnclaveConfig config();
  std::uint64_t symbol(const std::string& name);
  std::pair<std::uint64_t, std::uint64_t> function(const std::string& name);  // from, to
  // The instructions in [begin, end), by decoding what is there; `mnemonic` as in "cmpxchg", or "": all.
  std::vector<std::uint64_t> instructions(std::uint64_t begin, std::uint64_t end, const std::string& mnemonic = "");
  Bytes peek(std::uint64_t offset, std::uint64_t length);        // EPC
  Bytes peek_arena(std::uint64_t offset, std::uint64_t length);  // untrusted
  void poke(std::uint64_t arena_offset, const Bytes& bytes);
  void poison(std::uint64_t offset, const Bytes& bytes);  // as if EADD had put them there
  void hammer(std::uint64_t arena_offset, std::uint8_t mask);
  // EREMOVE of a live page and EAUG of another in its place, as a kernel can do it that owns `machine`.
  void replace_page(LabMachine& machine, std::uint64_t offset);
  // errno of the driver, 0 if it obeyed.
  std::uint64_t driver(DriverOp op, std::uint64_t offset, std::uint64_t length, std::uint64_t value);

  // An ecall on this TCS by raw ENCLU. kCrashed: it did not end by itself (an ocall, say).
  template <std::uint32_t Id, typename R, typename... Args, typename... Given>
  Result<ValueOf<R>> raw_call(std::uint32_t tcs, const Ecall<Id, R(Args...)>&, Given&&... given) {
    const typename Ecall<Id, R(Args...)>::Arguments arguments(std::forward<Given>(given)...);
    const std::uint64_t bytes = put_call(tcs, Id, wire::encode(arguments));
    const EncluResult end = finish(tcs, enter(tcs, abi::Request::kCall, bytes));
    ValueOf<R> result{};
    const Errc e = take_call(tcs, end, result);
    if (e != Errc::kOk) return e;
    return result;
  }
  // Marshals a call into the TCS's slot; what kCall's first argument must be.
  std::uint64_t put_call(std::uint32_t tcs, std::uint32_t id, const Bytes& arguments);
  // The result of a call that has left with `end`.
  template <typename T>
  Errc take_call(std::uint32_t tcs, const EncluResult& end, T& result) {
    const Errc e = call_end(end);
    if (e != Errc::kOk) return e;
    return wire::decode(call_body(tcs, end.b), result) ? Errc::kOk : Errc::kMalformedCall;
  }

  template <std::uint32_t Id, typename R, typename... Args, typename... Given>
  Result<ValueOf<R>> call(const Ecall<Id, R(Args...)>&, Given&&... given) {
    const typename Ecall<Id, R(Args...)>::Arguments arguments(std::forward<Given>(given)...);
    Bytes out;
    const Errc e = request(Op::kCall, wire::encode(std::tuple(Id, wire::encode(arguments))), out);
    if (e != Errc::kOk) return e;
    ValueOf<R> result{};
    if (!wire::decode(out, result)) return Errc::kMalformedCall;
    return result;
  }
  // Of the oldest call_async, waited for.
  template <std::uint32_t Id, typename R, typename... Args>
  Result<ValueOf<R>> collect(const Ecall<Id, R(Args...)>&) {
    Bytes out;
    const Errc e = request(Op::kCollect, {}, out);
    if (e != Errc::kOk) return e;
    ValueOf<R> result{};
    if (!wire::decode(out, result)) return Errc::kMalformedCall;
    return result;
  }
  template <std::uint32_t Id, typename R, typename... Args, typename... Given>
  Errc call_async(const Ecall<Id, R(Args...)>&, Given&&... given) {
    const typename Ecall<Id, R(Args...)>::Arguments arguments(std::forward<Given>(given)...);
    Bytes out;
    return request(Op::kCallAsync, wire::encode(std::tuple(Id, wire::encode(arguments))), out);
  }

  std::uint64_t base = 0;
  std::string error;  // text of the last refusal

 private:
  static Errc call_end(const EncluResult& end);
  Bytes call_body(std::uint32_t tcs, std::uint64_t bytes);

  int fd_ = -1;
  int pid_ = -1;
};

// One migration, step by step; any step may be left out, repeated or tampered with between the calls.
class Migration {
 public:
  Migration(LabMachine& from, Peer& source, LabMachine& to);

  Errc prepare();                                      // hello, confirm, Prepare at A_s
  Errc offer();                                        // K to A_t
  Errc dump();                                         // quiesce and all records
  Errc meet(Peer& target);                             // T: restore role, hello, confirm, key
  Errc feed(Peer& target);                             // every record
  Errc ready(Peer& target);                            // ReadyNotice to A_t, on to A_s
  Errc commit();                                       // Ready to S, ticket to A_s
  Errc fetch_grant();                                  // A_t asks A_s for it: in `sealed_grant`
  Errc grant(Peer& target);                            // the grant to T, and its runtime told
  Errc run(Peer& target, const std::string& enclave);  // all of it, and both runtimes told

  LabMachine& from;
  Peer& source;
  LabMachine& to;
  agent::Attempt attempt{};
  std::vector<Bytes> records;
  Bytes ready_message, ticket_message, key_message, sealed_grant;  // as they passed through the host's hands
  agent::SessionId source_session = 0, target_session = 0;
  agent::LinkId at_source = 0, at_target = 0;

  void carry();  // between the agents, until nothing is left
};

}  // namespace sealift::lab

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

  std::string directory, path;
  std::uint8_t identity;
  std::uint64_t flags;
  std::unique_ptr<LabCpu> cpu;
  std::unique_ptr<agent::testing::TestChannels> channels;
  std::unique_ptr<agent::Agent> agent;
};

struct Entered {
  std::uint64_t end, reason, a, b;  // host::StayEnd, abi::Exit and its values
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
  abi::Status status();
  Entered enter(std::uint32_t tcs, abi::Request request, std::uint64_t a = 0, std::uint64_t b = 0);

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
  template <std::uint32_t Id, typename R, typename... Args, typename... Given>
  Errc call_async(const Ecall<Id, R(Args...)>&, Given&&... given) {
    const typename Ecall<Id, R(Args...)>::Arguments arguments(std::forward<Given>(given)...);
    Bytes out;
    return request(Op::kCallAsync, wire::encode(std::tuple(Id, wire::encode(arguments))), out);
  }

  std::uint64_t base = 0;
  std::string error;  // text of the last refusal

 private:
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
  Errc grant(Peer& target);                            // the grant to T
  Errc run(Peer& target, const std::string& enclave);  // all of it, and both runtimes told

  LabMachine& from;
  Peer& source;
  LabMachine& to;
  agent::Attempt attempt{};
  std::vector<Bytes> records;
  agent::SessionId source_session = 0, target_session = 0;
  agent::LinkId at_source = 0, at_target = 0;

 private:
  void carry();
};

}  // namespace sealift::lab

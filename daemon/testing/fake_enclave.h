// FakeEnclave: a ControlPort without an enclave. Its sessions with the agent are real (TestEnclave); its memory is a
// few pages and a counter that runs while the gate is open; its records are in the clear.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "daemon/testing/stage.h"
#include "host/link/control_port.h"
#include "host/link/daemon_link.h"
#include "trusted/agent/testing/enclave.h"

namespace sealift::daemon::testing {

struct FakeOptions {
  std::uint8_t machine = 1;  // TestCpu
  std::uint8_t lineage = 1;
  std::uint32_t records = 20;
};

class FakeEnclave final : public host::ControlPort {
 public:
  FakeEnclave(const FakeOptions& options, const Stage& stage);
  ~FakeEnclave() override;

  void start();
  void restore(const agent::Attempt& attempt);
  // Blocks until there is nothing more to do in this process.
  void wait_until_over();

  Errc control(abi::ControlOp op, std::span<const std::byte> in, std::vector<std::byte>& out) override;
  Errc quiesce(std::chrono::milliseconds budget) override;
  void resumed() override;
  void destroyed() override;
  void abandoned(Errc why) override;
  Errc status(abi::Status& out) override;

 private:
  using Gate = abi::GateState;
  Errc agent_hello(const agent::Bytes& in, agent::Bytes& out);
  Errc agent_confirm(const agent::Bytes& in, agent::Bytes& out);
  Errc install_key(const agent::Bytes& in);
  Errc dump(agent::Bytes& out);
  Errc cancel();
  Errc commit(const agent::Bytes& in, agent::Bytes& out);
  Errc record(const agent::Bytes& in);
  Errc grant(const agent::Bytes& in);
  void open_gate();
  void close_gate();
  void run();

  const FakeOptions options_;
  const Stage& stage_;
  agent::testing::TestCpu cpu_;
  std::unique_ptr<agent::testing::TestEnclave> session_;
  agent::Attempt attempt_{};
  std::atomic<Gate> gate_ = Gate::kUnborn;
  abi::Role role_ = abi::Role::kNone;
  std::uint64_t epoch_ = 1;
  std::atomic<std::uint64_t> counter_ = 0;
  std::uint64_t sequence_ = 0;
  std::uint8_t digest_ = 0;
  bool restored_ = false;
  agent::Bytes ticket_;
  agent::Bytes notice_;  // sealed once a session
  std::thread runner_;
  std::atomic<bool> running_ = false;
  std::atomic<bool> over_ = false;
};

}  // namespace sealift::daemon::testing

// AgentPort over the agent enclave: each call is one ecall. The enclave judges; this only carries.
#pragma once

#include <string>

#include "daemon/agent_server.h"
#include "sealift/enclave.h"

namespace sealift::daemon {

class EnclaveAgent final : public AgentPort {
 public:
  // Opens the agent enclave in the image at `path`. Throws host::Error. Not registered with sealiftd: an agent instance
  // never migrates.
  explicit EnclaveAgent(const std::string& path);

  // Asks the quoting service at `aesm_socket` for a quote of this instance, adds the collateral in the folder (may be
  // empty: the peer then needs its own), and installs it. Throws std::runtime_error with one line.
  void obtain_quote(const std::string& aesm_socket, const std::string& collateral_folder);

  Info info() override;
  Result<LocalReply> local_hello(ByteView enclave_hello) override;
  Result<Bytes> local_message(std::uint64_t session, ByteView sealed) override;
  Result<Bytes> local_poll(std::uint64_t session) override;
  void local_close(std::uint64_t session) override;
  Result<std::uint64_t> link_open(bool is_server) override;
  Errc link_feed(std::uint64_t link, ByteView from_network) override;
  Result<Bytes> link_take(std::uint64_t link) override;
  Result<LinkStatus> link_state(std::uint64_t link) override;
  void link_close(std::uint64_t link) override;
  Errc offer(const std::array<std::uint8_t, 16>& attempt, std::uint64_t link) override;
  Errc cancel(const std::array<std::uint8_t, 16>& attempt) override;
  Errc announce(std::uint64_t session, std::uint64_t link) override;
  Errc request_grant(std::uint64_t session, std::uint64_t link) override;
  void forget(const std::array<std::uint8_t, 16>& attempt) override;
  std::optional<Event> next_event() override;
  Result<AttemptStatus> attempt_status(const std::array<std::uint8_t, 16>& attempt) override;

 private:
  std::unique_ptr<Enclave> enclave_;
  bool quoted_ = false;
};

}  // namespace sealift::daemon

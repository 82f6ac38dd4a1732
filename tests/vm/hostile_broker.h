// HostileBroker: the VM of EnclaveWorld, where a liar stands between the guest's broker and the host's sealiftd, and a
// neighbour on the same host that must not notice: a program with an enclave, outside of any VM.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "tests/vm/enclave_steps.h"
#include "tests/vm/lying_broker.h"

namespace sealift::vm_test {

class HostileBroker : public EnclaveSteps {
 protected:
  using Op = wire::GuestCommand;

  void SetUp() override;
  void TearDown() override;

  [[nodiscard]] LyingBroker& liar() { return *liar_; }
  // From now on this host hears the guest's own broker, which has never lied.
  void liar_goes();
  // The same liar before the channel there, where the VM will be.
  void lie_there();
  // sealiftd is the one that was started, has not grown, serves others; the neighbour counts on.
  void expect_host_unharmed();
  // expect_back(), and every word of it is fit for a terminal.
  void expect_refused(VmCall& call, std::uint64_t newer, std::uint64_t newest = 0);

  // The liar keeps the enclaves' rows as the guest's broker last told them, and lets `change` have each report.
  void tell_of_rows(std::function<void(wire::GuestReport&)> change = {});
  // As the reply to `command`: all enclaves, in this state.
  void answer_with_all(const wire::Envelope& command, wire::GuestRow::State state);
  // Commands of this kind do not reach the guest; `instead` is done.
  void instead_of(Op::Op op, std::function<void(const wire::Envelope&)> instead);
  // Until the host has answered so many of the liar's own requests.
  void wait_answers(std::size_t count);
  // Until it has heard all that the liar has said so far.
  void wait_heard();

 private:
  [[nodiscard]] std::uint64_t neighbour_value();
  [[nodiscard]] std::size_t daemon_pages() const;

  std::unique_ptr<LyingBroker> liar_;
  std::unique_ptr<guest_test::Process> neighbour_;
  std::uint64_t neighbour_counted_ = 0;
  EnclaveHost* host_ = nullptr;  // the neighbour's
  pid_t daemon_ = -1;
  std::size_t pages_ = 0;
  std::mutex mutex_;
  std::map<std::uint64_t, wire::GuestRow> rows_;
};

}  // namespace sealift::vm_test

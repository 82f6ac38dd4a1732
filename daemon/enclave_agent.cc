#include "daemon/enclave_agent.h"

#include <spdlog/spdlog.h>

#include <cstring>
#include <stdexcept>

#include "attestation/aesm_client.h"
#include "attestation/collateral_files.h"
#include "attestation/evidence.h"
#include "migration/messages.h"
#include "trusted/agent/calls.h"

namespace sealift::daemon {
namespace {

namespace calls = agent::calls;

Bytes copy_of(ByteView view) {
  return {view.begin(), view.end()};
}

// An ecall that failed as a call (the enclave crashed, say) and an ecall that answered an error look the same to the
// daemon: the agent did not do it.
template <typename T>
Result<T> flatten(const Result<std::pair<Errc, T>>& r) {
  if (!r.ok()) return r.error();
  if (r->first != Errc::kOk) return r->first;
  return r->second;
}

// Ecalls that answer with nothing but a code carry it as a value of its own type.
Errc answer(const Result<calls::Code>& r) {
  return r.ok() ? r->errc : r.error();
}

void report(const char* what, Errc e) {
  if (e != Errc::kOk) spdlog::warn("agent: {}: {}", what, errc_name(e));
}

}  // namespace

EnclaveAgent::EnclaveAgent(const std::string& path)
    : enclave_(Enclave::open(path, {.arguments = {}, .daemon = false})) {}

void EnclaveAgent::obtain_quote(const std::string& aesm_socket, const std::string& collateral_folder) {
  const attestation::AesmClient aesm(aesm_socket);
  const auto target = aesm.get_target_info();
  if (!target) throw std::runtime_error(aesm_socket + ": no quoting service: " + target.error().message);
  Bytes target_bytes(sizeof(sgx::Targetinfo));
  std::memcpy(target_bytes.data(), &target.value(), target_bytes.size());
  const auto report_bytes = flatten(enclave_->call(calls::kQuoteReport, target_bytes));
  if (!report_bytes.ok() || report_bytes->size() != sizeof(sgx::Report)) {
    throw std::runtime_error(std::string("the agent enclave makes no report: ") + errc_name(report_bytes.error()));
  }
  sgx::Report report_struct;
  std::memcpy(&report_struct, report_bytes->data(), sizeof report_struct);
  const auto quote = aesm.get_quote(report_struct);
  if (!quote) throw std::runtime_error(aesm_socket + ": no quote: " + quote.error().message);
  attestation::Evidence evidence{quote.value(), {}};
  if (!collateral_folder.empty()) {
    const auto collateral = attestation::load_collateral(collateral_folder);
    if (!collateral) throw std::runtime_error(collateral.error());
    evidence.collateral = attestation::serialize_collateral(collateral.value());
  }
  const Errc e = answer(enclave_->call(calls::kInstallQuote, attestation::serialize_evidence(evidence)));
  if (e != Errc::kOk) throw std::runtime_error(std::string("the agent enclave refuses its quote: ") + errc_name(e));
  quoted_ = true;
}

AgentPort::Info EnclaveAgent::info() {
  Info out;
  const auto hello = enclave_->call(calls::kHello);
  if (!hello.ok()) {
    report("hello", hello.error());
    return out;
  }
  out.hello = *hello;
  messages::AgentHello parsed{};
  if (out.hello.size() == sizeof parsed) std::memcpy(&parsed, out.hello.data(), sizeof parsed);
  out.instance_key.assign(std::begin(parsed.instance_key), std::end(parsed.instance_key));
  const auto status = enclave_->status();
  out.mrenclave.assign(status.mrenclave.begin(), status.mrenclave.end());
  out.quote_ready = quoted_;
  return out;
}

Result<AgentPort::LocalReply> EnclaveAgent::local_hello(ByteView enclave_hello) {
  const auto r = enclave_->call(calls::kLocalHello, copy_of(enclave_hello));
  if (!r.ok()) return r.error();
  if (r->error != Errc::kOk) return r->error;
  return LocalReply{r->session, r->confirm};
}

Result<Bytes> EnclaveAgent::local_message(std::uint64_t session, ByteView sealed) {
  return flatten(enclave_->call(calls::kLocalMessage, session, copy_of(sealed)));
}

Result<Bytes> EnclaveAgent::local_poll(std::uint64_t session) {
  return flatten(enclave_->call(calls::kLocalPoll, session));
}

void EnclaveAgent::local_close(std::uint64_t session) {
  report("local_close", enclave_->call(calls::kLocalClose, session).error());
}

Result<std::uint64_t> EnclaveAgent::link_open(bool is_server) {
  return flatten(enclave_->call(calls::kLinkOpen, is_server));
}

Errc EnclaveAgent::link_feed(std::uint64_t link, ByteView from_network) {
  return answer(enclave_->call(calls::kLinkFeed, link, copy_of(from_network)));
}

Result<Bytes> EnclaveAgent::link_take(std::uint64_t link) {
  return flatten(enclave_->call(calls::kLinkTake, link));
}

Result<AgentPort::LinkStatus> EnclaveAgent::link_state(std::uint64_t link) {
  const auto r = enclave_->call(calls::kLinkState, link);
  if (!r.ok()) return r.error();
  if (r->call != Errc::kOk) return r->call;
  return LinkStatus{r->phase, r->error, r->verdict_expires};
}

void EnclaveAgent::link_close(std::uint64_t link) {
  report("link_close", enclave_->call(calls::kLinkClose, link).error());
}

Errc EnclaveAgent::offer(const std::array<std::uint8_t, 16>& attempt, std::uint64_t link) {
  return answer(enclave_->call(calls::kOffer, attempt, link));
}

Errc EnclaveAgent::cancel(const std::array<std::uint8_t, 16>& attempt) {
  return answer(enclave_->call(calls::kCancel, attempt));
}

Errc EnclaveAgent::announce(std::uint64_t session, std::uint64_t link) {
  return answer(enclave_->call(calls::kAnnounce, session, link));
}

Errc EnclaveAgent::request_grant(std::uint64_t session, std::uint64_t link) {
  return answer(enclave_->call(calls::kRequestGrant, session, link));
}

void EnclaveAgent::forget(const std::array<std::uint8_t, 16>& attempt) {
  report("forget", enclave_->call(calls::kForget, attempt).error());
}

std::optional<AgentPort::Event> EnclaveAgent::next_event() {
  const auto r = enclave_->call(calls::kNextEvent);
  if (!r.ok() || !r->there) return std::nullopt;
  return Event{r->kind, r->error, r->link, r->attempt};
}

Result<AgentPort::AttemptStatus> EnclaveAgent::attempt_status(const std::array<std::uint8_t, 16>& attempt) {
  const auto r = enclave_->call(calls::kAttemptStatus, attempt);
  if (!r.ok()) return r.error();
  if (r->call != Errc::kOk) return r->call;
  return AttemptStatus{r->as_source, r->state, r->holds_key};
}

}  // namespace sealift::daemon

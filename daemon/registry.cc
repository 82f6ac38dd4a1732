#include "daemon/registry.h"

#include <algorithm>
#include <asio/steady_timer.hpp>
#include <cstring>
#include <utility>

#include "daemon/journal.h"

namespace sealift::daemon {

namespace {

constexpr std::size_t kShortestPrefix = 4;
constexpr std::chrono::milliseconds kRefreshPatience{500};

std::string control_output(const wire::Envelope& reply, Errc& error) {
  if (!reply.has_control_result()) {
    error = Errc::kNoSession;
    return {};
  }
  error = static_cast<Errc>(reply.control_result().errc());
  return reply.control_result().output();
}

}  // namespace

Enclave::Enclave(std::shared_ptr<Connection> connection, wire::Register registration, std::uint32_t pid)
    : connection_(std::move(connection)), pid_(pid) {
  update(std::move(registration));
}

void Enclave::update(wire::Register registration) {
  registration_ = std::move(registration);
  set_status(registration_.status());
}

void Enclave::set_status(const std::string& bytes) {
  if (bytes.size() == sizeof(status_)) std::memcpy(&status_, bytes.data(), sizeof(status_));
}

void Enclave::control(abi::ControlOp op, const std::string& input, ControlHandler on_result) {
  if (!connection_) return on_result(Errc::kNoSession, {});
  wire::Envelope message;
  message.mutable_control()->set_local_id(local_id());
  message.mutable_control()->set_op(static_cast<std::uint32_t>(op));
  message.mutable_control()->set_input(input);
  connection_->request(std::move(message), [on_result = std::move(on_result)](const wire::Envelope& reply) {
    Errc error = Errc::kOk;
    const std::string output = control_output(reply, error);
    on_result(error, output);
  });
}

void Enclave::quiesce(std::uint32_t budget_ms, ControlHandler on_result) {
  if (!connection_) return on_result(Errc::kNoSession, {});
  wire::Envelope message;
  message.mutable_quiesce()->set_local_id(local_id());
  message.mutable_quiesce()->set_budget_ms(budget_ms);
  connection_->request(std::move(message), [on_result = std::move(on_result)](const wire::Envelope& reply) {
    Errc error = Errc::kOk;
    const std::string output = control_output(reply, error);
    on_result(error, output);
  });
}

void Enclave::request(wire::Envelope message, Connection::ReplyHandler on_reply) {
  if (connection_) return connection_->request(std::move(message), std::move(on_reply));
  wire::Envelope reply;
  *reply.mutable_failure() = make_failure(wire::Failure::UNREACHABLE, "the program is gone", registration_.name(), "");
  on_reply(reply);
}

void Enclave::notify(wire::Envelope message) {
  if (connection_) connection_->notify(std::move(message));
}

void Enclave::release_moved() {
  wire::Envelope message;
  message.mutable_release()->set_local_id(local_id());
  message.mutable_release()->set_destroyed(true);
  notify(std::move(message));
}

void Enclave::release_abandoned(Errc why) {
  wire::Envelope message;
  message.mutable_release()->set_local_id(local_id());
  message.mutable_release()->set_errc(static_cast<std::uint32_t>(why));
  notify(std::move(message));
}

void Enclave::refresh(std::function<void()> done) {
  control(abi::ControlOp::kStatus, {}, [this, done = std::move(done)](Errc error, const std::string& output) {
    if (error == Errc::kOk) set_status(output);
    done();
  });
}

void Enclave::gone() {
  connection_.reset();
  if (EnclaveUser* was = std::exchange(user, nullptr)) was->enclave_gone();
}

wire::EnclaveRow Enclave::row() const {
  wire::EnclaveRow out;
  out.set_lineage(lineage());
  out.set_epoch(status_.epoch);
  out.set_name(registration_.name());
  out.set_pid(pid_);
  out.set_gate(status_.gate);
  std::uint32_t threads = 0;
  for (std::uint32_t i = abi::kMainTcs; i < std::min(status_.tcs_count, abi::kMaxTcs); ++i) {
    const auto state = static_cast<abi::ThreadState>(status_.states[i]);
    if (state != abi::ThreadState::kUnbound) ++threads;
  }
  out.set_threads(threads);
  out.set_pages(status_.pages_in_use);
  out.set_image(registration_.image());
  out.set_mrenclave(registration_.mrenclave());
  out.set_elrange_base(registration_.elrange_base());
  out.set_elrange_size(registration_.elrange_size());
  return out;
}

std::shared_ptr<Enclave> Registry::add(const std::shared_ptr<Connection>& connection, wire::Register registration,
                                       std::uint32_t pid) {
  auto& slot = enclaves_[{connection.get(), registration.local_id()}];
  if (slot) {
    slot->update(std::move(registration));
  } else {
    slot = std::make_shared<Enclave>(connection, std::move(registration), pid);
  }
  return slot;
}

void Registry::remove(const Connection* connection, std::uint64_t local_id) {
  const auto found = enclaves_.find({connection, local_id});
  if (found == enclaves_.end()) return;
  const auto enclave = found->second;
  enclaves_.erase(found);
  enclave->gone();
}

void Registry::remove_all(const Connection* connection) {
  std::vector<std::shared_ptr<Enclave>> lost;
  for (const auto& [key, enclave] : enclaves_) {
    if (key.first == connection) lost.push_back(enclave);
  }
  std::erase_if(enclaves_, [&](const auto& entry) { return entry.first.first == connection; });
  for (const auto& enclave : lost) enclave->gone();
}

std::shared_ptr<Enclave> Registry::find(const Connection* connection, std::uint64_t local_id) const {
  const auto found = enclaves_.find({connection, local_id});
  return found == enclaves_.end() ? nullptr : found->second;
}

bool is_named(const std::string& id, const std::string& name, std::uint32_t pid, const std::string& lineage) {
  if (id == name || id == std::to_string(pid)) return !id.empty();
  return id.size() >= kShortestPrefix && hex(lineage).starts_with(id);
}

std::shared_ptr<Enclave> Registry::find(const std::string& id, wire::Failure& failure) const {
  std::shared_ptr<Enclave> found;
  for (const auto& [key, enclave] : enclaves_) {
    if (!is_named(id, enclave->registration().name(), enclave->pid(), enclave->lineage())) continue;
    if (found) {
      failure = make_failure(wire::Failure::AMBIGUOUS, "several enclaves fit", id, "use more digits of the lineage");
      return nullptr;
    }
    found = enclave;
  }
  if (!found) {
    failure = make_failure(wire::Failure::NOT_FOUND, "no such enclave on this host", id, "`sealift ps` lists them");
  }
  return found;
}

std::shared_ptr<Enclave> Registry::running(const std::string& lineage, std::uint64_t epoch) const {
  for (const auto& [key, enclave] : enclaves_) {
    if (enclave->lineage() == lineage && enclave->status().epoch == epoch &&
        enclave->status().gate == static_cast<std::uint32_t>(abi::GateState::kOpen)) {
      return enclave;
    }
  }
  return nullptr;
}

std::vector<std::shared_ptr<Enclave>> Registry::all() const {
  std::vector<std::shared_ptr<Enclave>> out;
  out.reserve(enclaves_.size());
  for (const auto& [key, enclave] : enclaves_) out.push_back(enclave);
  return out;
}

void Registry::refresh_all(asio::io_context& io, std::function<void()> done) {
  struct Wait {
    explicit Wait(asio::io_context& io) : timer(io) {}
    asio::steady_timer timer;
    std::size_t left = 0;
    std::function<void()> done;
    void finish() {
      timer.cancel();
      if (const auto once = std::exchange(done, nullptr)) once();
    }
  };
  auto wait = std::make_shared<Wait>(io);
  wait->left = enclaves_.size() + 1;
  wait->done = std::move(done);
  const auto one_less = [wait] {
    if (--wait->left == 0) wait->finish();
  };
  for (const auto& enclave : all()) {
    enclave->refresh([enclave, one_less] { one_less(); });
  }
  wait->timer.expires_after(kRefreshPatience);
  wait->timer.async_wait([wait](const std::error_code& error) {
    if (!error) wait->finish();
  });
  one_less();
}

}  // namespace sealift::daemon

// The enclaves of this host: who has registered, and how people name them.
//
// Threads: the io_context's. An Enclave lives as long as somebody holds it; after it is gone its calls fail.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "daemon/connection.h"
#include "daemon/failure.h"
#include "migration/abi.h"

namespace sealift::daemon {

// Who is migrating an enclave hears what it does.
class EnclaveUser {
 public:
  virtual ~EnclaveUser() = default;
  virtual void enclave_record(std::string& record) = 0;
  virtual void enclave_dump_end(Errc error) = 0;
  virtual void enclave_taken(std::uint64_t count, Errc error) = 0;
  virtual void enclave_gone() = 0;  // its process, or it alone
};

// One registered enclave of one connected process.
class Enclave {
 public:
  Enclave(std::shared_ptr<Connection> connection, wire::Register registration, std::uint32_t pid);

  using ControlHandler = std::function<void(Errc error, const std::string& output)>;
  // `on_result` gets kNoSession if the process is lost first (enclave_gone follows), or whatever the enclave says.
  void control(abi::ControlOp op, const std::string& input, ControlHandler on_result);
  void quiesce(std::uint32_t budget_ms, ControlHandler on_result);
  // Any other request; the reply has a failure if the process is lost first.
  void request(wire::Envelope message, Connection::ReplyHandler on_reply);
  void notify(wire::Envelope message);
  // Tells the process that it is needed no longer: its enclave has moved away, or (`why`) its restoring was given up.
  void release_moved();
  void release_abandoned(Errc why);
  // Brings `status` up to date first; keeps the old one if the process does not answer.
  void refresh(std::function<void()> done);

  void update(wire::Register registration);
  void gone();

  [[nodiscard]] bool connected() const noexcept { return connection_ != nullptr; }
  [[nodiscard]] const wire::Register& registration() const noexcept { return registration_; }
  [[nodiscard]] const abi::Status& status() const noexcept { return status_; }
  [[nodiscard]] bool destroyed() const noexcept {
    return status_.gate == static_cast<std::uint32_t>(abi::GateState::kDestroyed);
  }
  [[nodiscard]] std::uint64_t local_id() const noexcept { return registration_.local_id(); }
  [[nodiscard]] std::uint32_t pid() const noexcept { return pid_; }
  [[nodiscard]] std::string lineage() const { return {std::begin(status_.lineage), std::end(status_.lineage)}; }
  [[nodiscard]] std::string attempt() const { return {std::begin(status_.attempt), std::end(status_.attempt)}; }
  [[nodiscard]] wire::EnclaveRow row() const;

  EnclaveUser* user = nullptr;  // set while an attempt is under way

  // abi::Status, from whoever asked the enclave; anything else is ignored.
  void set_status(const std::string& bytes);

 private:
  std::shared_ptr<Connection> connection_;
  wire::Register registration_;
  abi::Status status_{};
  std::uint32_t pid_;
};

class Registry {
 public:
  // The same local id of the same connection again is an update.
  std::shared_ptr<Enclave> add(const std::shared_ptr<Connection>& connection, wire::Register registration,
                               std::uint32_t pid);
  void remove(const Connection* connection, std::uint64_t local_id);
  void remove_all(const Connection* connection);

  [[nodiscard]] std::shared_ptr<Enclave> find(const Connection* connection, std::uint64_t local_id) const;
  // By name, pid or the beginning of the lineage in hex. Fills `failure` if it is not exactly one.
  [[nodiscard]] std::shared_ptr<Enclave> find(const std::string& id, wire::Failure& failure) const;
  // The instance of this lineage and epoch that runs here, if one does.
  [[nodiscard]] std::shared_ptr<Enclave> running(const std::string& lineage, std::uint64_t epoch) const;
  [[nodiscard]] std::vector<std::shared_ptr<Enclave>> all() const;
  // Refreshes every status; `done` also if a process does not answer within a moment.
  void refresh_all(asio::io_context& io, std::function<void()> done);

 private:
  using Key = std::pair<const Connection*, std::uint64_t>;
  std::map<Key, std::shared_ptr<Enclave>> enclaves_;
};

// Whether `id` names this: its name, its pid, or the beginning (4 digits at least) of its lineage in hex.
[[nodiscard]] bool is_named(const std::string& id, const std::string& name, std::uint32_t pid,
                            const std::string& lineage);

}  // namespace sealift::daemon

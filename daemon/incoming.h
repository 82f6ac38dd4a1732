// IncomingMigration: one instance being restored on this host. It drives TargetMachine (migration/target.h): starts the
// program, lets the new enclave and the agent attest to each other, feeds it records, asks for the grant.
//
// Its owner is whoever feeds it: the session with the source's daemon, or, when an attempt is resumed on the source's
// host, the outgoing migration itself. A lost owner does not end it: see migration/target.h.
//
// Threads: the io_context's. Ownership: shared; callbacks of its own keep it alive only while they matter.
#pragma once

#include <asio/steady_timer.hpp>
#include <deque>
#include <functional>
#include <memory>
#include <string>

#include "daemon/agent_client.h"
#include "daemon/options.h"
#include "daemon/registry.h"
#include "daemon/spawn.h"
#include "migration/progress.h"
#include "migration/target.h"

namespace sealift::daemon {

class IncomingMigration : public std::enable_shared_from_this<IncomingMigration>,
                          public EnclaveUser,
                          private AgentClient::Watcher {
 public:
  class Owner {
   public:
    virtual ~Owner() = default;
    virtual void target_event(const std::string& attempt, wire::TargetEvent::Kind kind,
                              const wire::Failure& failure) = 0;
    virtual void target_taken(const std::string& attempt, std::uint64_t count) = 0;
    // The link to the agent that is the arbiter; 0: it is this machine's own.
    [[nodiscard]] virtual std::uint64_t agent_link() const = 0;
    [[nodiscard]] virtual std::string owner_name() const = 0;
  };

  IncomingMigration(asio::io_context& io, const Options& options, AgentClient& agent, wire::Incoming incoming,
                    std::function<void()> on_finished);
  ~IncomingMigration() override;

  // `kSpawn` of a program that may not be started, or cannot be, is a failure like any other.
  void start(Owner* owner);
  // A restored instance registered again after this daemon's restart.
  void reattach(std::shared_ptr<Enclave> enclave);

  // From the owner.
  void record(std::string record);
  void committed();
  void cancel();
  void owner_gone();
  void owner_back(Owner* owner);

  // From the process.
  [[nodiscard]] wire::Adoption adoption() const;
  void built(std::shared_ptr<Enclave> enclave);
  void build_failed(Errc error, const std::string& text);
  // This daemon ends. What may not run any more is stopped; see Options::stop_children.
  void shut_down();

  [[nodiscard]] const std::string& token() const noexcept { return token_; }
  [[nodiscard]] const std::string& attempt() const noexcept { return incoming_.attempt(); }
  [[nodiscard]] Owner* owner() const noexcept { return owner_; }
  [[nodiscard]] bool finished() const noexcept { return machine_.finished(); }
  [[nodiscard]] bool granted() const noexcept { return machine_.state() == TargetState::kGranted; }
  [[nodiscard]] bool takes_cancel() const;
  [[nodiscard]] wire::MigrationInfo info() const;

 private:
  // EnclaveUser
  void enclave_record(std::string& record) override;
  void enclave_dump_end(Errc error) override;
  void enclave_taken(std::uint64_t count, Errc error) override;
  void enclave_gone() override;
  // AgentClient::Watcher
  void agent_up(bool same) override;
  void agent_down() override;
  void agent_event(const wire::AgentEvent& event) override;

  void on(TargetEvent event);
  void fail_with(TargetEvent event, Errc error, const std::string& what);
  void perform(TargetAction action);
  void arm_timer();
  [[nodiscard]] std::chrono::milliseconds patience() const;
  // Wraps a callback so that it runs only if this still lives in the state it was made in.
  template <typename Handler>
  auto here(Handler handler) {
    return [weak = weak_from_this(), state = machine_.state(), handler = std::move(handler)](const auto&... arguments) {
      const auto self = weak.lock();
      if (self && self->machine_.state() == state) handler(arguments...);
    };
  }
  // The same in whatever state.
  template <typename Handler>
  auto alive(Handler handler) {
    return [weak = weak_from_this(), handler = std::move(handler)](const auto&... arguments) {
      if (const auto self = weak.lock()) handler(arguments...);
    };
  }

  void spawn();
  // incoming_session.cc
  using Then = std::function<void(const std::string&)>;
  using Refused = std::function<void(TargetEvent, Errc, const std::string&)>;
  void open_session();
  // Hello, both reports, confirmation; `then` gets the sealed KeyRequest.
  void attest(Then then, Refused refused);
  void fetch_key(const std::string& key_request);
  void take_notice();
  void send_notice(std::function<void()> then, Refused refused);
  void reopen_session();
  void introduce();
  void session_opened();
  void request_grant();
  void ask_for_grant();
  void poll_grant();
  void grant_answer(Errc error);
  void give_grant(const std::string& sealed);

  void stop_process();
  void tell(wire::TargetEvent::Kind kind);
  void finish();

  asio::io_context& io_;
  const Options& options_;
  AgentClient& agent_;
  wire::Incoming incoming_;
  std::function<void()> on_finished_;
  const std::string token_;

  TargetMachine machine_;
  Owner* owner_ = nullptr;  // null while it is out of reach
  std::string owner_name_;
  bool local_ = false;
  std::shared_ptr<Child> child_;
  std::shared_ptr<Enclave> enclave_;
  std::uint64_t session_ = 0;
  std::string enclave_hello_;
  bool session_open_ = false;  // the agent has taken the notice over `session_`
  std::string key_request_;    // sealed, of a new agent that does not know the attempt yet
  std::uint64_t fed_ = 0;
  bool final_fed_ = false;
  Progress progress_;
  double started_ = 0;
  wire::Failure failure_;
  asio::steady_timer timer_;
};

[[nodiscard]] double seconds_now();
// Whether these bytes begin like a final record; the enclave alone decides whether they are one.
[[nodiscard]] bool looks_final(const std::string& record);

}  // namespace sealift::daemon

// BrokerEnclave: what the broker does with one enclave of its guest: prepare, hold, commit, resume, abort. Each is a
// chain of messages to the enclave's process and to the agent of the host that the guest is on; both may be lost at any
// step.
//
// What a lost channel means: before the commit the enclave is cancelled and runs on. After it, everything can be asked
// again of whichever host is there next: the process keeps records and ticket, the agent answers repeats with the same
// bytes. An instance that may have been granted is never given up for another while its memory lasts (S7).
//
// Threads: the io_context's. Ownership: the broker's; a callback that comes after its step was left finds that out.
#pragma once

#include <asio/steady_timer.hpp>
#include <functional>
#include <memory>
#include <string>

#include "daemon/registry.h"
#include "daemon/wire.pb.h"

namespace sealift::daemon {

class BrokerEnclave : public std::enable_shared_from_this<BrokerEnclave> {
 public:
  using Row = wire::GuestRow;
  // What it needs of the broker.
  class Host {
   public:
    virtual ~Host() = default;
    // To the host's agent; the reply has a failure if there is no host.
    virtual void agent_request(wire::Envelope message, Connection::ReplyHandler on_reply) = 0;
    virtual void agent_notify(wire::Envelope message) = 0;
    [[nodiscard]] virtual std::string agent_hello() const = 0;  // empty: no agent
    virtual void enclave_changed(BrokerEnclave& enclave) = 0;
    // Building an enclave takes a CPU for a while: several take turns, so that the first need not wait for the last.
    virtual void want_turn(BrokerEnclave& enclave) = 0;
    virtual void turn_over() = 0;
  };
  // The step's result: the row has it as well. kOk: what was asked for is so now.
  using Done = std::function<void(Errc)>;

  BrokerEnclave(asio::io_context& io, Host& host, std::uint64_t id, std::shared_ptr<Enclave> enclave);
  ~BrokerEnclave();
  BrokerEnclave(const BrokerEnclave&) = delete;
  BrokerEnclave& operator=(const BrokerEnclave&) = delete;

  // Running -> Prepared; at once if it is that.
  void prepare(Done done);
  // Prepared -> Held. What fails leaves it Running.
  void hold(std::uint32_t quiesce_ms, Done done);
  // Held -> Committed. Unticketed if the ticket did not get through; then again at channel_up.
  void commit(Done done);
  // Prepared or Held -> Running.
  void abort(Done done);
  // Committed -> Running, an epoch later. Tries again until it runs, is lost for good, or give_up() is called.
  void resume(Done done);
  // What it asked for with want_turn(). It says turn_over() when it runs, has failed for once, or takes too long.
  void have_turn();
  // A resume under way ends with its last error; the enclave stays committed.
  void give_up();

  // The channel to a host, any host, is there (again), or was lost.
  void channel_up();
  void channel_lost();
  void agent_event(const wire::AgentEvent& event);

  // Its process registered it again, or is gone.
  void updated();
  void gone();
  // Brings its status up to date; what should run and has no memory any more is lost.
  void look_for_loss(std::function<void()> done);
  [[nodiscard]] Row row() const;
  [[nodiscard]] Row::State state() const noexcept { return state_; }
  [[nodiscard]] std::uint64_t id() const noexcept { return id_; }
  [[nodiscard]] const std::shared_ptr<Enclave>& enclave() const noexcept { return enclave_; }

 private:
  using Then = std::function<void(const std::string&)>;
  using Failed = std::function<void(Errc, const std::string&)>;
  // Wraps a step of a chain: it does not run once the chain was left.
  template <typename Handler>
  auto here(Handler handler) {
    return [weak = weak_from_this(), chain = chain_, handler = std::move(handler)](const auto&... arguments) {
      const auto self = weak.lock();
      if (self && self->chain_ == chain) handler(arguments...);
    };
  }
  void leave_chain();
  void after(std::chrono::milliseconds time, std::function<void()> step);
  void set(Row::State state);
  void finish(Errc error);
  void forget_attempt();

  void control(abi::ControlOp op, const std::string& input, const std::string& what, const Then& then,
               const Failed& failed);
  void seal_to_agent(const std::string& sealed, const std::string& what, const Then& then, const Failed& failed);
  void hello_agent(const std::string& hello, const Then& then, const Failed& failed);  // gets the agent's confirmation
  void attest(const Then& then, const Failed& failed);  // gets what the enclave seals first
  void close_session();
  void back_to_running(Errc error, const std::string& text);
  // The enclave has answered; or, if it could not, has not committed.
  void committed(Errc error, const std::string& ticket);
  void give_ticket();
  void ticket_given();

  // broker_resume.cc
  void end_turn();
  void try_resume();
  void offer_ticket();
  void look();
  void rebuild(Errc looked);  // what look() was answered
  void join_again();
  void fetch_key(const std::string& request);
  void refill();
  void show_notice();
  void ask_grant();
  void poll_grant();
  void install(const std::string& grant);
  void runs_again();
  void again(Errc error, const std::string& text, std::function<void()> step);
  void lost(Errc error, const std::string& text);
  [[nodiscard]] Failed from_the_start();

  asio::io_context& io_;
  Host& host_;
  const std::uint64_t id_;
  std::shared_ptr<Enclave> enclave_;
  asio::steady_timer retry_timer_, turn_timer_;
  std::function<void()> retry_;  // what the timer, or an event before it, does

  Row::State state_ = Row::RUNNING;
  std::uint64_t chain_ = 0;
  Done done_;
  enum class Turn { kNone, kWanted, kHeld } turn_ = Turn::kNone;
  bool restored_ = false;   // the instance that is there has every record
  bool recovered_ = false;  // known from its registration alone: the ticket may have been given before
  bool ticketed_ = false;   // an agent has the ticket
  bool elsewhere_ = false;  // it is another machine's agent that waits for it, not this one
  std::string attempt_;
  // What the agent has closed it never opens again, and the session of source_hello_ is the ticket's only way: it is
  // not closed before the ticket is given, and the same hello gives it back.
  std::uint64_t session_ = 0;
  std::string source_hello_, target_hello_, ticket_;
  std::uint64_t record_bytes_ = 0;
  Errc error_ = Errc::kOk;
  std::string text_;
  std::uint64_t gate_closed_ns_ = 0, held_ns_ = 0, committed_ns_ = 0, rebuilt_ns_ = 0, gate_opened_ns_ = 0;
};

}  // namespace sealift::daemon

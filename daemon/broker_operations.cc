// What the host tells the broker to do, for all enclaves of the guest at once.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "daemon/broker.h"
#include "daemon/failure.h"

namespace sealift::daemon {

namespace {

using Row = BrokerEnclave::Row;

constexpr std::size_t kAllAtOnce = ~std::size_t{0};

bool is_in(Row::State state, std::initializer_list<Row::State> states) {
  return std::find(states.begin(), states.end(), state) != states.end();
}

}  // namespace

void Broker::command(std::uint64_t request, const wire::GuestCommand& command) {
  using Op = wire::GuestCommand;
  // Asking changes nothing, and may be done at any time.
  if (command.op() == Op::REFRESH) {
    return find_lost([this, request, host = std::weak_ptr(host_)] {
      const auto connection = host.lock();
      if (!connection || connection != host_) return;
      wire::Envelope reply;
      *reply.mutable_guest_report() = whole_report();
      connection->reply(request, std::move(reply));
    });
  }
  if (request_ != 0 && command.op() != Op::ABORT) {
    return host_->reply(request, make_failure(wire::Failure::BUSY, "the guest is doing something else", options_.name,
                                              "wait, or abort it"));
  }
  if (request_ != 0) finish(make_failure(wire::Failure::CANCELLED, "aborted", options_.name, ""));
  begin(request);
  switch (command.op()) {
    case Op::PREPARE:
      return prepare();
    case Op::CHECKPOINT:
      return checkpoint(command);
    case Op::ABORT:
      return abort();
    case Op::RESUME:
      return resume(std::chrono::milliseconds(command.patience_ms()));
    default:
      return finish(make_failure(wire::Failure::BAD_REQUEST, "not a command for a guest", options_.name, ""));
  }
}

void Broker::begin(std::uint64_t request) {
  ++operation_;
  request_ = request;
}

void Broker::finish(wire::Failure failure) {
  ++operation_;
  patience_timer_.cancel();
  wire::Envelope reply;
  *reply.mutable_guest_report() = whole_report();
  if (failure.kind() != wire::Failure::KIND_UNSPECIFIED) {
    spdlog::info("operation ended: {}", to_line(failure));
    *reply.mutable_guest_report()->mutable_failure() = std::move(failure);
  }
  const std::uint64_t request = std::exchange(request_, 0);
  if (host_) host_->reply(request, std::move(reply));
}

void Broker::drop_operation() {
  ++operation_;
  request_ = 0;
  patience_timer_.cancel();
}

std::vector<Broker::EnclavePtr> Broker::in_state(std::initializer_list<Row::State> states) const {
  std::vector<EnclavePtr> out;
  for (const auto& [id, enclave] : enclaves_) {
    if (is_in(enclave->state(), states)) out.push_back(enclave);
  }
  return out;
}

void Broker::for_all(std::vector<EnclavePtr> enclaves, std::size_t limit, Step step, std::function<void()> done) {
  struct Work {
    std::vector<EnclavePtr> left;
    std::size_t running = 0;
    Step step;
    std::function<void()> done;
  };
  auto work = std::make_shared<Work>(Work{std::move(enclaves), 0, std::move(step), std::move(done)});
  std::reverse(work->left.begin(), work->left.end());
  // Calls itself through a weak pointer, so that the end of the last step frees it.
  auto next = std::make_shared<std::function<void()>>();
  *next = [this, work, limit, operation = operation_, weak = std::weak_ptr(next)] {
    if (operation != operation_) return;
    if (work->left.empty() && work->running == 0) return work->done();
    while (!work->left.empty() && work->running < limit) {
      const EnclavePtr enclave = work->left.back();
      work->left.pop_back();
      ++work->running;
      work->step(*enclave, [work, next = weak.lock()](Errc) {
        --work->running;
        (*next)();
      });
    }
  };
  asio::post(io_, [next] { (*next)(); });
}

wire::Failure Broker::unless_all(const std::vector<EnclavePtr>& enclaves, std::initializer_list<Row::State> states,
                                 const std::string& what) const {
  for (const auto& enclave : enclaves) {
    const Row row = enclave->row();
    if (!enclaves_.contains(row.id()) || is_in(row.state(), states)) continue;
    return make_failure(wire::Failure::REFUSED, what, row.name() + " (" + std::to_string(row.pid()) + ")", row.text(),
                        static_cast<Errc>(row.errc()));
  }
  return {};
}

void Broker::prepare() {
  const auto all = in_state({Row::RUNNING});
  for_all(
      all, kAllAtOnce, [](BrokerEnclave& enclave, BrokerEnclave::Done done) { enclave.prepare(std::move(done)); },
      [this, all] { finish(unless_all(all, {Row::PREPARED}, "an enclave cannot be prepared")); });
}

// First all come to rest, then all commit: as long as one may fail, none is past the point of no return.
void Broker::checkpoint(const wire::GuestCommand& command) {
  const auto all = in_state({Row::RUNNING, Row::PREPARED});
  const bool force = command.force();
  const std::uint32_t quiesce_ms = command.quiesce_ms();
  const auto hold_all = [this, all, force, quiesce_ms] {
    for_all(
        in_state({Row::PREPARED}), at_once(),
        [quiesce_ms](BrokerEnclave& enclave, BrokerEnclave::Done done) { enclave.hold(quiesce_ms, std::move(done)); },
        [this, all, force] {
          const wire::Failure why = unless_all(all, {Row::HELD}, "an enclave cannot be checkpointed");
          if (force || why.kind() == wire::Failure::KIND_UNSPECIFIED) return commit_held();
          for_all(
              in_state({Row::PREPARED, Row::HELD}), kAllAtOnce,
              [](BrokerEnclave& enclave, BrokerEnclave::Done done) { enclave.abort(std::move(done)); },
              [this, why] { finish(why); });
        });
  };
  for_all(
      in_state({Row::RUNNING}), kAllAtOnce,
      [](BrokerEnclave& enclave, BrokerEnclave::Done done) { enclave.prepare(std::move(done)); }, hold_all);
}

void Broker::commit_held() {
  const auto all = in_state({Row::HELD});
  for_all(
      all, kAllAtOnce, [](BrokerEnclave& enclave, BrokerEnclave::Done done) { enclave.commit(std::move(done)); },
      [this, all] { finish(unless_all(all, {Row::COMMITTED}, "an enclave's ticket is not safe yet")); });
}

void Broker::abort() {
  for_all(
      in_state({Row::RUNNING, Row::PREPARED, Row::HELD}), kAllAtOnce,
      [](BrokerEnclave& enclave, BrokerEnclave::Done done) { enclave.abort(std::move(done)); },
      [this] {
        const bool late = !in_state({Row::COMMITTED, Row::UNTICKETED, Row::RESUMING}).empty();
        finish(late ? make_failure(wire::Failure::BUSY, "some enclaves have committed", options_.name,
                                   "resume them on this host, or on the one that the guest moves to")
                    : wire::Failure());
      });
}

void Broker::resume(std::chrono::milliseconds patience) {
  patience_timer_.expires_after(patience);
  patience_timer_.async_wait([this, operation = operation_](const std::error_code& error) {
    if (error || operation != operation_) return;
    for (const auto& enclave : in_state({Row::RESUMING})) enclave->give_up();
  });
  const auto all = in_state({Row::RUNNING, Row::PREPARED, Row::COMMITTED, Row::UNTICKETED, Row::RESUMING});
  for_all(
      in_state({Row::COMMITTED, Row::UNTICKETED, Row::RESUMING}), kAllAtOnce,
      [](BrokerEnclave& enclave, BrokerEnclave::Done done) { enclave.resume(std::move(done)); },
      [this, all] {
        const std::uint64_t operation = operation_;
        find_lost([this, all, operation] {
          if (operation != operation_) return;
          finish(unless_all(all, {Row::RUNNING, Row::PREPARED}, "an enclave does not run again"));
        });
      });
}

// Of what takes a CPU: more than there are, as each also waits for messages.
std::size_t Broker::at_once() const {
  return 2 * std::max<std::size_t>(1, options_.cpus);
}

void Broker::want_turn(BrokerEnclave& enclave) {
  turns_.push_back(enclave.weak_from_this());
  asio::post(io_, [this] { give_turns(); });
}

void Broker::turn_over() {
  --working_;
  asio::post(io_, [this] { give_turns(); });
}

void Broker::give_turns() {
  while (!turns_.empty() && working_ < at_once() && !stopping_) {
    const auto enclave = turns_.front().lock();
    turns_.pop_front();
    if (!enclave) continue;
    ++working_;
    enclave->have_turn();
  }
}

// An enclave whose memory went without a checkpoint does not know it until somebody enters it.
void Broker::find_lost(std::function<void()> done) {
  auto waiting = std::make_shared<std::size_t>(1);
  const auto one_less = [waiting, done = std::move(done)] {
    if (--*waiting == 0) done();
  };
  for (const auto& enclave : in_state({Row::RUNNING, Row::PREPARED})) {
    ++*waiting;
    enclave->look_for_loss(one_less);
  }
  asio::post(io_, one_less);
}

}  // namespace sealift::daemon

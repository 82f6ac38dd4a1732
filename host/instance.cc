#include "host/instance.h"

#include <chrono>
#include <cstring>
#include <system_error>
#include <utility>

#include "host/error.h"
#include "host/signals.h"
#include "migration/ocalls.h"

namespace sealift::host {
namespace {

std::span<const std::byte> as_bytes(const void* p, std::size_t n) {
  return {static_cast<const std::byte*>(p), n};
}

}  // namespace

Instance::Instance(Image image, std::optional<std::uint64_t> base)
    : image_(std::move(image)),
      config_(image_.config()),
      device_((install_signal_handlers(), unblock_enclave_signals(), std::make_unique<Device>(image_, base))),
      entries_(device_->base(), image_.config(), gate_) {}

Instance::~Instance() {
  if (on_close_) on_close_();
  gate_.end(Errc::kDestroyed, "the enclave was closed");
  wake_waiting_threads();
  // Our threads leave at the next AEX or ocall; spawn() adds none once the gate has ended.
  auto threads = threads_.close();
  do {
    entries_.kick_all();
  } while (!threads_.wait_ended(Entries::kKickAgain));
  for (std::thread& t : threads) t.join();
}

std::uint8_t* Instance::slot(std::uint32_t tcs) const {
  return device_->arena() + abi::slot_offset(tcs, config().slot_bytes);
}

void Instance::start(const std::vector<std::string>& arguments) {
  std::string argv = reinterpret_cast<const char*>(config().name);
  argv.push_back('\0');
  for (const std::string& a : arguments) argv.append(a).push_back('\0');
  std::vector<std::byte> none;
  if (const Errc e = control(abi::ControlOp::kStart, as_bytes(argv.data(), argv.size()), none); e != Errc::kOk) {
    throw Error(e, image_.name() + ": the enclave refuses to start: " + errc_name(e));
  }
  spawn(abi::kMainTcs, abi::Request::kThreadStart);
  std::unique_lock lock(mutex_);
  while (gate_.gone() == Errc::kOk && !(started_ && idle_.size() == config().ecall_threads)) {
    changed_.wait(lock);
  }
  if (gate_.gone() != Errc::kOk) throw Error(gate_.gone(), image_.name() + ": " + gate_.report());
}

Result<Reply> Instance::drive(std::uint32_t tcs, abi::Request request, std::uint64_t a, std::uint64_t b) {
  for (;;) {
    const Result<Reply> reply = entries_.stay(tcs, request, a, b);
    if (!reply || reply->reason != abi::Exit::kOcall) return reply;
    const auto op = static_cast<abi::OcallOp>(reply->a);
    if (op == abi::OcallOp::kIdle || (tcs == abi::kMainTcs && main_rests(op))) return reply;
    const Answer answer = answer_ocall(tcs, op, reply->b);
    request = abi::Request::kOcallAnswered;  // also if the enclave was rebuilt around this thread meanwhile
    a = answer.value;
    b = answer.bytes;
  }
}

void Instance::spawn(std::uint32_t tcs, abi::Request request) {
  if (gate_.gone() != Errc::kOk) return;
  threads_.start([this, tcs, request] {
    unblock_enclave_signals();
    const Result<Reply> reply = drive(tcs, request, 0, 0);
    if (reply && reply->reason == abi::Exit::kThreadExit) futex_wake(reply->a);
    // An ecall thread that is idle, or whose call was in flight when it was adopted: nobody waits for that result.
    const bool left = reply && (reply->reason == abi::Exit::kOcall || reply->reason == abi::Exit::kDone);
    if (left && tcs != abi::kMainTcs) give_idle(tcs);
    if (!reply) wake_waiting_threads();
  });
}

std::optional<std::uint32_t> Instance::take_idle() {
  std::unique_lock lock(mutex_);
  if (!called_) changed_.notify_all();
  called_ = true;
  changed_.wait(lock, [&] { return !idle_.empty() || gate_.gone() != Errc::kOk; });
  if (gate_.gone() != Errc::kOk) return std::nullopt;
  const std::uint32_t tcs = idle_.front();
  idle_.pop_front();
  return tcs;
}

void Instance::give_idle(std::uint32_t tcs) {
  const std::lock_guard lock(mutex_);
  idle_.push_back(tcs);
  changed_.notify_all();
}

void Instance::wake_waiting_threads() {
  if (gate_.gone() != Errc::kOk) wake_all_futexes();
  const std::lock_guard lock(mutex_);
  changed_.notify_all();
}

Errc Instance::raw_call(std::uint32_t id, const Bytes& arguments, Bytes& result) {
  if (config().ecall_threads == 0) return Errc::kNoThread;
  if (arguments.size() > config().slot_bytes - sizeof(abi::CallHeader)) return Errc::kTooLarge;
  unblock_enclave_signals();
  const std::optional<std::uint32_t> tcs = take_idle();
  if (!tcs) return gate_.gone();
  const abi::CallHeader header{id, static_cast<std::uint32_t>(arguments.size())};
  std::memcpy(slot(*tcs), &header, sizeof header);
  if (!arguments.empty()) std::memcpy(slot(*tcs) + sizeof header, arguments.data(), arguments.size());
  const Result<Reply> reply = drive(*tcs, abi::Request::kCall, sizeof header + arguments.size(), 0);
  if (!reply) {
    wake_waiting_threads();
    return reply.error();
  }
  if (reply->reason != abi::Exit::kDone) return Errc::kCrashed;
  const auto errc = static_cast<Errc>(reply->a);
  abi::CallHeader answered{};
  std::memcpy(&answered, slot(*tcs), sizeof answered);
  const bool sound =
      reply->b >= sizeof answered && reply->b <= config().slot_bytes && answered.bytes == reply->b - sizeof answered;
  if (errc == Errc::kOk && sound) {
    const std::uint8_t* body = slot(*tcs) + sizeof answered;
    result.assign(body, body + answered.bytes);
  }
  give_idle(*tcs);
  return errc == Errc::kOk && !sound ? Errc::kMalformedCall : errc;
}

void Instance::set_handler(std::uint32_t id, Handler handler) {
  const std::lock_guard lock(mutex_);
  handlers_[id] = std::move(handler);
  changed_.notify_all();
}

Result<int> Instance::run_main() {
  bool rests = false;
  {
    const std::lock_guard lock(mutex_);
    main_wanted_ = true;
    called_ = true;
    rests = std::exchange(main_rests_, false);
    changed_.notify_all();
  }
  try {
    if (rests) spawn(abi::kMainTcs, abi::Request::kOcallAnswered);
  } catch (const std::system_error&) {
    const std::lock_guard lock(mutex_);
    main_rests_ = true;  // no thread is to be had now: the caller may try again
    throw;
  }
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return main_status_.has_value() || gate_.gone() != Errc::kOk; });
  if (!main_status_) return gate_.gone();
  return *main_status_;
}

EnclaveStatus Instance::status() {
  EnclaveStatus out;
  const auto* name = reinterpret_cast<const char*>(config().name);
  out.name.assign(name, strnlen(name, sizeof config().name));
  std::memcpy(out.mrenclave.data(), image_.sigstruct().enclavehash.bytes, out.mrenclave.size());
  out.destroyed = gate_.gone() == Errc::kDestroyed;
  {
    const std::lock_guard lock(mutex_);
    out.adopted = adopted_;
  }
  abi::Status inside{};
  if (status(inside) != Errc::kOk) return out;
  std::memcpy(out.lineage.data(), inside.lineage, out.lineage.size());
  out.epoch = inside.epoch;
  out.pages_in_use = inside.pages_in_use;
  out.unknown_syscalls = inside.enosys;
  return out;
}

// --- ControlPort
// -------------------------------------------------------------------------------------------------------

Errc Instance::control(abi::ControlOp op, std::span<const std::byte> in, std::vector<std::byte>& out) {
  out.clear();
  return operate(op, in, [&out](std::span<const std::byte> output) { out.assign(output.begin(), output.end()); });
}

Errc Instance::dump(const Output& output) {
  return operate(abi::ControlOp::kDump, {}, output);
}

Errc Instance::operate(abi::ControlOp op, std::span<const std::byte> in, const Output& output) {
  if (in.size() > abi::kControlSlotBytes) return Errc::kBadSize;
  const std::lock_guard lock(control_mutex_);
  unblock_enclave_signals();
  if (!in.empty()) std::memcpy(device_->arena(), in.data(), in.size());
  const Result<Reply> reply = entries_.control(op, in.size());
  if (!reply) {
    wake_waiting_threads();
    return reply.error();
  }
  if (reply->reason == abi::Exit::kRefused) return static_cast<Errc>(reply->a);
  if (reply->reason != abi::Exit::kDone || reply->b > abi::kControlSlotBytes) return Errc::kCrashed;
  const auto errc = static_cast<Errc>(reply->a);
  if (op == abi::ControlOp::kCommitHeld && errc == Errc::kOk) {
    committed_held_ = true;
    entries_.may_vanish(true);
  }
  if (errc == Errc::kOk) output(as_bytes(device_->arena(), reply->b));  // last: it may throw
  return errc;
}

void Instance::trim() {
  const std::lock_guard lock(control_mutex_);
  device_->empty_control_slot();
}

Errc Instance::quiesce(std::chrono::milliseconds budget) {
  const auto deadline = std::chrono::steady_clock::now() + budget;
  gate_.quiesce();
  std::vector<std::byte> out;
  for (;;) {
    const std::uint64_t seen = entries_.parked_count();
    const Errc e = control(abi::ControlOp::kQuiesce, {}, out);
    if (e != Errc::kOk) {
      gate_.open();
      return e;
    }
    std::uint32_t running = 0;
    if (out.size() != sizeof running) return Errc::kBadSize;
    std::memcpy(&running, out.data(), sizeof running);
    if (running == 0) return Errc::kOk;
    if (std::chrono::steady_clock::now() >= deadline) return Errc::kNotQuiescent;
    entries_.kick_all();
    entries_.wait_for_parking(seen);
  }
}

Errc Instance::settle(std::chrono::milliseconds budget) {
  const auto deadline = std::chrono::steady_clock::now() + budget;
  for (;;) {
    const std::uint64_t seen = entries_.parked_count();
    if (entries_.all_outside()) return Errc::kOk;
    if (std::chrono::steady_clock::now() >= deadline) return Errc::kNotQuiescent;
    entries_.wait_for_parking(seen);
  }
}

Errc Instance::rebuild(const std::array<std::uint8_t, 16>& attempt, std::string& text) {
  if (const Errc gone = gate_.gone(); gone != Errc::kOk) {
    text = std::string("the program has been told that its enclave is gone: ") + errc_name(gone);
    return Errc::kNotReady;
  }
  if (!committed_held_) {
    text = "the enclave has not committed: it still runs, or is somewhere else";
    return Errc::kNotReady;
  }
  try {
    const std::lock_guard lock(control_mutex_);
    futexes_held_ = futex_values();
    device_->rebuild(image_);
    entries_.rebuilt();
  } catch (const Error& e) {
    text = e.what();
    return e.code();
  }
  rebuilt_ = true;
  std::vector<std::byte> none;
  const Errc e = control(abi::ControlOp::kRestore, as_bytes(attempt.data(), attempt.size()), none);
  if (e != Errc::kOk) text = std::string("the enclave refuses to restore: ") + errc_name(e);
  return e;
}

void Instance::resumed() {
  if (std::exchange(rebuilt_, false)) {
    committed_held_ = false;
    entries_.may_vanish(false);
    // The records brought the words back to what they were at the checkpoint, but threads in ocalls went on meanwhile:
    // a wake-up that came then must not be lost.
    renew_futexes(futexes_held_);
  }
  bool adopting = false;
  {
    const std::lock_guard lock(mutex_);
    adopting = adopted_ && !granted_;
  }
  gate_.open();
  if (adopting) adopt_threads();
}

void Instance::destroyed() {
  gate_.end(Errc::kDestroyed, "the enclave has migrated to another machine and destroyed itself here");
  wake_waiting_threads();
}

void Instance::abandoned(Errc why) {
  gate_.end(why, std::string("the migration to this machine was abandoned: ") + errc_name(why));
  wake_waiting_threads();
}

Errc Instance::status(abi::Status& out) {
  std::vector<std::byte> bytes;
  const Errc e = control(abi::ControlOp::kStatus, {}, bytes);
  if (e != Errc::kOk) return e;
  if (bytes.size() != sizeof out) return Errc::kBadSize;
  std::memcpy(&out, bytes.data(), sizeof out);
  return Errc::kOk;
}

// --- Adoption
// ----------------------------------------------------------------------------------------------------------

void Instance::begin_restore(const std::array<std::uint8_t, 16>& attempt) {
  {
    const std::lock_guard lock(mutex_);
    adopted_ = true;
  }
  std::vector<std::byte> none;
  const Errc e = control(abi::ControlOp::kRestore, as_bytes(attempt.data(), attempt.size()), none);
  if (e != Errc::kOk) throw Error(e, image_.name() + ": the enclave refuses to restore: " + errc_name(e));
}

// A host thread for every thread that was inside, starting, or waiting for an ocall.
void Instance::adopt_threads() {
  abi::Status inside{};
  if (const Errc e = status(inside); e != Errc::kOk) return abandoned(e);
  for (std::uint32_t i = abi::kMainTcs; i < config().tcs_count; ++i) {
    switch (static_cast<abi::ThreadState>(inside.states[i])) {
      case abi::ThreadState::kFree:
        give_idle(i);
        break;
      case abi::ThreadState::kStarting:
        spawn(i, abi::Request::kThreadStart);
        break;
      case abi::ThreadState::kInOcall:
      case abi::ThreadState::kParked:
        spawn(i, abi::Request::kOcallReturn);
        break;
      case abi::ThreadState::kUnbound:
      case abi::ThreadState::kRunning:
        break;
    }
  }
  const std::lock_guard lock(mutex_);
  granted_ = true;
  started_ = true;
  changed_.notify_all();
}

void Instance::wait_adopted() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return granted_ || gate_.gone() != Errc::kOk; });
  if (!granted_) throw Error(gate_.gone(), image_.name() + ": " + gate_.report());
}

}  // namespace sealift::host

// The runtime's ocalls, answered on the thread that made them. The enclave does not trust any of these answers.
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstring>
#include <ctime>

#include "host/instance.h"
#include "migration/ocalls.h"

namespace sealift::host {
namespace {

template <typename T>
T read_slot(const std::uint8_t* slot) {
  T value;
  std::memcpy(&value, slot, sizeof value);
  return value;
}

long futex(std::uint32_t* word, int op, std::uint32_t value, const timespec* timeout) {
  return ::syscall(SYS_futex, word, op | FUTEX_PRIVATE_FLAG, value, timeout, nullptr, 0);
}

}  // namespace

Instance::Answer Instance::answer_ocall(std::uint32_t tcs, abi::OcallOp op, std::uint64_t bytes) {
  std::uint8_t* s = slot(tcs);
  switch (op) {
    case abi::OcallOp::kStarted:
      return {0, 0};  // main_rests() has seen that it may go on
    case abi::OcallOp::kSpawn:
      return spawn_requested(s);
    case abi::OcallOp::kSyscall:
      return syscall(s);
    case abi::OcallOp::kFutexWait:
      return futex_wait(s);
    case abi::OcallOp::kFutexWake:
      futex_wake(read_slot<abi::FutexWakeArgs>(s).word);
      return {0, 0};
    case abi::OcallOp::kAppOcall:
      return app_ocall(s, bytes);
    case abi::OcallOp::kClock:
      return clock(s);
    case abi::OcallOp::kIdle:
    case abi::OcallOp::kMainDone:
      break;  // never get here: see drive()
  }
  return {static_cast<std::uint64_t>(-ENOSYS), 0};
}

Instance::Answer Instance::spawn_requested(const std::uint8_t* slot) {
  const auto args = read_slot<abi::SpawnArgs>(slot);
  if (args.tcs <= abi::kMainTcs || args.tcs >= config().tcs_count) return {static_cast<std::uint64_t>(-EINVAL), 0};
  spawn(args.tcs, abi::Request::kThreadStart);
  return {0, 0};
}

namespace {
std::uint32_t* futex_word(std::uint8_t* arena, const EnclaveConfig& c, std::uint64_t word) {
  return reinterpret_cast<std::uint32_t*>(arena + abi::futex_offset(c.tcs_count, c.slot_bytes)) +
         word % abi::kFutexWords;
}
}  // namespace

Instance::Answer Instance::futex_wait(const std::uint8_t* slot) {
  const auto args = read_slot<abi::FutexWaitArgs>(slot);
  timespec timeout{args.timeout_ns / 1'000'000'000, args.timeout_ns % 1'000'000'000};
  std::uint32_t* word = futex_word(device_->arena(), config(), args.word);
  // wake_all_futexes changes the word first, so an enclave that is gone cannot be missed here.
  if (gate_.gone() != Errc::kOk) return {0, 0};
  const long r = futex(word, FUTEX_WAIT, args.expected, args.timeout_ns < 0 ? nullptr : &timeout);
  return {r < 0 && errno == ETIMEDOUT ? static_cast<std::uint64_t>(-ETIMEDOUT) : 0, 0};
}

void Instance::futex_wake(std::uint64_t word) {
  std::uint32_t* w = futex_word(device_->arena(), config(), word);
  __atomic_add_fetch(w, 1, __ATOMIC_SEQ_CST);
  futex(w, FUTEX_WAKE, INT_MAX, nullptr);
}

void Instance::wake_all_futexes() {
  for (std::uint64_t i = 0; i < abi::kFutexWords; ++i) futex_wake(i);
}

std::vector<std::uint32_t> Instance::futex_values() const {
  std::vector<std::uint32_t> out(abi::kFutexWords);
  for (std::uint64_t i = 0; i < abi::kFutexWords; ++i) {
    out[i] = __atomic_load_n(futex_word(device_->arena(), config(), i), __ATOMIC_SEQ_CST);
  }
  return out;
}

// The words only ever grow: a thread that is about to wait expects at most what was there when it last ran.
void Instance::renew_futexes(const std::vector<std::uint32_t>& values) {
  for (std::uint64_t i = 0; i < abi::kFutexWords; ++i) {
    __atomic_store_n(futex_word(device_->arena(), config(), i), values[i], __ATOMIC_SEQ_CST);
    futex_wake(i);
  }
}

Instance::Answer Instance::clock(std::uint8_t* slot) const {
  auto args = read_slot<abi::ClockArgs>(slot);
  timespec now{};
  if (clock_gettime(args.id, &now) != 0) return {static_cast<std::uint64_t>(-errno), 0};
  args.seconds = now.tv_sec;
  args.nanoseconds = now.tv_nsec;
  std::memcpy(slot, &args, sizeof args);
  return {0, sizeof args};
}

// The enclave chose the call from its own table; pointers are offsets into the slot.
Instance::Answer Instance::syscall(std::uint8_t* slot) const {
  auto args = read_slot<abi::SyscallArgs>(slot);
  std::uint64_t a[6];
  for (int i = 0; i < 6; ++i) {
    const bool pointer = ((args.pointers >> i) & 1) != 0;
    a[i] = pointer ? reinterpret_cast<std::uint64_t>(slot) + args.args[i] % config().slot_bytes : args.args[i];
  }
  const long r = ::syscall(static_cast<long>(args.number), a[0], a[1], a[2], a[3], a[4], a[5]);
  args.result = r < 0 ? -errno : r;
  std::memcpy(slot, &args, sizeof args);
  return {0, config().slot_bytes};
}

Instance::Answer Instance::app_ocall(std::uint8_t* slot, std::uint64_t bytes) {
  const auto refuse = [](Errc e) { return Answer{static_cast<std::uint64_t>(e), 0}; };
  abi::CallHeader header{};
  if (bytes < sizeof header || bytes > config().slot_bytes) return refuse(Errc::kMalformedCall);
  std::memcpy(&header, slot, sizeof header);
  if (header.bytes != bytes - sizeof header) return refuse(Errc::kMalformedCall);
  const Bytes in(slot + sizeof header, slot + bytes);
  Handler handler;
  {
    std::unique_lock lock(mutex_);
    // An adopted enclave repeats ocalls before the program could say who answers them.
    changed_.wait(lock,
                  [&] { return !adopted_ || called_ || handlers_.contains(header.id) || gate_.gone() != Errc::kOk; });
    const auto found = handlers_.find(header.id);
    if (found == handlers_.end()) return refuse(Errc::kUnknownCall);
    handler = found->second;
  }
  Bytes out;
  try {
    if (const Errc e = handler(in, out); e != Errc::kOk) return refuse(e);
  } catch (const std::exception&) {
    return refuse(Errc::kAppException);  // documented: the enclave learns that it threw, not what
  }
  if (out.size() > config().slot_bytes - sizeof header) return refuse(Errc::kTooLarge);
  header.bytes = static_cast<std::uint32_t>(out.size());
  std::memcpy(slot, &header, sizeof header);
  if (!out.empty()) std::memcpy(slot + sizeof header, out.data(), out.size());
  return {static_cast<std::uint64_t>(Errc::kOk), sizeof header + out.size()};
}

// No host thread waits with main, which may rest for as long as the enclave lives: run_main() brings another.
bool Instance::main_rests(abi::OcallOp op) {
  const std::lock_guard lock(mutex_);
  if (op == abi::OcallOp::kStarted) {
    started_ = true;
    changed_.notify_all();
    main_rests_ = !main_wanted_;
    return main_rests_;
  }
  if (op != abi::OcallOp::kMainDone) return false;
  main_status_ = static_cast<int>(read_slot<std::uint32_t>(slot(abi::kMainTcs)) & 0xff);
  changed_.notify_all();
  return true;
}

}  // namespace sealift::host

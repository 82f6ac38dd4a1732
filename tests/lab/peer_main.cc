// A host process under a test's orders: builds an enclave, obeys, misbehaves. Run under `softsgx run`; descriptor 3 is
// the test's socket.
#include <asm/sgx.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <deque>
#include <future>
#include <thread>
#include <vector>

#include "host/error.h"
#include "host/instance.h"
#include "tests/lab/measure.h"
#include "tests/lab/raw.h"
#include "tests/lab/rpc.h"

namespace sealift::lab {
namespace {

constexpr int kSocket = 3;

// Flips bits of one byte of untrusted memory for as long as it lives.
class Hammer {
 public:
  Hammer(std::uint8_t* at, std::uint8_t mask)
      : thread_([this, at, mask] {
          while (!stop_.load(std::memory_order_relaxed)) {
            __atomic_fetch_xor(at, mask, __ATOMIC_RELAXED);
            running_.store(true, std::memory_order_relaxed);
          }
        }) {
    while (!running_.load(std::memory_order_relaxed)) sched_yield();
  }
  ~Hammer() {
    stop_ = true;
    thread_.join();
  }
  Hammer(const Hammer&) = delete;
  Hammer& operator=(const Hammer&) = delete;

 private:
  std::atomic<bool> stop_{false}, running_{false};
  std::thread thread_;
};

class Peer {
 public:
  Errc handle(Op op, wire::Reader& in, Bytes& out) {
    if (!instance_ && op != Op::kBuild && op != Op::kClose) return Errc::kNotReady;
    switch (op) {
      case Op::kBuild:
        return build(in, out);
      case Op::kStart:
        instance_->start({});
        return Errc::kOk;
      case Op::kRestore:
        return restore(in);
      case Op::kControl:
        return control(in, out);
      case Op::kQuiesce:
        return quiesce(in);
      case Op::kResumed:
        instance_->resumed();
        return Errc::kOk;
      case Op::kDestroyed:
        instance_->destroyed();
        return Errc::kOk;
      case Op::kCall:
        return call(in, out, false);
      case Op::kCallAsync:
        return call(in, out, true);
      case Op::kEnclu:
        return enclu(in, out);
      case Op::kHammer:
        return hammer(in);
      case Op::kClose:
        return close();
      case Op::kConfig:
        return copy_out(&config(), sizeof(EnclaveConfig), out);
      case Op::kSymbol:
        return symbol(in, out);
      case Op::kPeek:
        return peek(in, out, instance_->base());
      case Op::kPeekArena:
        return peek(in, out, arena());
      case Op::kPoke:
        return poke(in, arena());
      case Op::kPoison:
        return poke(in, instance_->base());
      case Op::kDriver:
        return driver(in, out);
      case Op::kSettle:
        return settle(in);
      case Op::kRebuild:
        return rebuild(in, out);
      case Op::kCollect:
        return collect(out);
      case Op::kReport:
        out = report();
        return Errc::kOk;
      case Op::kMeasureDump:
        return measure_dump(*instance_, in, out);
      case Op::kMeasureFeed:
        return measure_feed(*instance_, in, out);
      case Op::kMeasureCall:
        return measure_call(*instance_, in, out);
    }
    return Errc::kBadRequest;
  }

  // Why the enclave crashed, for people.
  Bytes report() const {
    const std::string text = instance_ ? instance_->crash_report() : "";
    return {text.begin(), text.end()};
  }

  Errc close() {
    // Detached callers leave on their own once the gate has ended; they hold the instance until then.
    if (instance_) instance_->destroyed();
    callers_.clear();
    hammer_.reset();
    instance_.reset();
    return Errc::kOk;
  }

 private:
  const EnclaveConfig& config() const { return instance_->image().config(); }
  std::uint64_t arena() const { return instance_->base() + config().elrange_size; }

  static Errc copy_out(const void* from, std::size_t n, Bytes& out) {
    const auto* p = static_cast<const std::uint8_t*>(from);
    out.assign(p, p + n);
    return Errc::kOk;
  }

  Errc build(wire::Reader& in, Bytes& out) {
    std::string path;
    std::uint64_t base = 0;
    if (!in.get(path) || !in.get(base)) return Errc::kBadMessage;
    instance_ = std::make_unique<host::Instance>(host::Image::load(path),
                                                 base == 0 ? std::nullopt : std::optional<std::uint64_t>(base));
    out = wire::encode(instance_->base());
    return Errc::kOk;
  }
  Errc restore(wire::Reader& in) {
    std::array<std::uint8_t, 16> attempt{};
    if (!in.get(attempt)) return Errc::kBadMessage;
    instance_->begin_restore(attempt);
    return Errc::kOk;
  }
  Errc control(wire::Reader& in, Bytes& out) {
    std::uint64_t op = 0;
    Bytes body;
    if (!in.get(op) || !in.get(body)) return Errc::kBadMessage;
    std::vector<std::byte> answer;
    const Errc e = instance_->control(static_cast<abi::ControlOp>(op), std::as_bytes(std::span(body)), answer);
    return e == Errc::kOk ? copy_out(answer.data(), answer.size(), out) : e;
  }
  Errc quiesce(wire::Reader& in) {
    std::uint32_t ms = 0;
    return in.get(ms) ? instance_->quiesce(std::chrono::milliseconds(ms)) : Errc::kBadMessage;
  }
  Errc call(wire::Reader& in, Bytes& out, bool async) {
    std::uint32_t id = 0;
    Bytes body;
    if (!in.get(id) || !in.get(body)) return Errc::kBadMessage;
    if (!async) return instance_->raw_call(id, body, out);
    callers_.push_back(std::async(std::launch::async, [this, id, body] {
      Bytes result;
      const Errc e = instance_->raw_call(id, body, result);
      return std::pair(e, result);
    }));
    return Errc::kOk;
  }
  Errc collect(Bytes& out) {
    if (callers_.empty()) return Errc::kNoThread;
    auto [e, result] = callers_.front().get();
    callers_.pop_front();
    out = std::move(result);
    return e;
  }
  Errc settle(wire::Reader& in) {
    std::uint32_t ms = 0;
    return in.get(ms) ? instance_->settle(std::chrono::milliseconds(ms)) : Errc::kBadMessage;
  }
  Errc rebuild(wire::Reader& in, Bytes& out) {
    std::array<std::uint8_t, 16> attempt{};
    if (!in.get(attempt)) return Errc::kBadMessage;
    std::string text;
    const Errc e = instance_->rebuild(attempt, text);
    out.assign(text.begin(), text.end());
    return e;
  }

  Errc enclu(wire::Reader& in, Bytes& out) {
    EncluArgs args;
    if (!in.get(args)) return Errc::kBadMessage;
    RawCall c{};
    c.leaf = args.leaf;
    c.tcs = instance_->base() + tcs_offset(config(), args.tcs);
    c.rdi = args.request;
    c.rsi = args.a;
    c.rdx = args.b;
    c.dirty = args.dirty ? 1 : 0;
    std::vector<Breakpoint> breakpoints;
    for (const std::uint64_t offset : args.before) breakpoints.push_back({instance_->base() + offset, false});
    for (const std::uint64_t offset : args.after_write) breakpoints.push_back({instance_->base() + offset, true});
    std::string why;
    if (!raw_enclu(c, breakpoints, args.kick_us, why)) {
      out.assign(why.begin(), why.end());
      return Errc::kPolicy;
    }
    EncluResult r{c.outcome, c.out_rdi, c.out_rsi, c.out_rdx, c.out_r8, c.exception, c.hit != 0, {}, {}};
    if (static_cast<RawOutcome>(c.outcome) == RawOutcome::kExit) {
      r.rest = {c.out_rax, c.out_r9, c.out_r10, c.out_r11, c.out_r12, c.out_r13, c.out_r14, c.out_r15, c.out_rflags};
      r.vectors.assign(lab_xsave, lab_xsave + kXsaveImage);
    }
    out = wire::encode(r);
    return Errc::kOk;
  }

  Errc hammer(wire::Reader& in) {
    std::uint64_t offset = 0;
    std::uint8_t mask = 0;
    if (!in.get(offset) || !in.get(mask)) return Errc::kBadMessage;
    hammer_.reset();
    if (mask != 0) hammer_ = std::make_unique<Hammer>(reinterpret_cast<std::uint8_t*>(arena() + offset), mask);
    return Errc::kOk;
  }
  Errc symbol(wire::Reader& in, Bytes& out) {
    std::string name;
    if (!in.get(name)) return Errc::kBadMessage;
    const std::uint64_t value = instance_->image().symbol(name);
    std::uint64_t size = 0;
    for (const host::Image::Function& f : instance_->image().functions()) {
      if (f.vaddr == value) size = f.size;
    }
    out = wire::encode(std::tuple(value, size));
    return Errc::kOk;
  }
  static Errc peek(wire::Reader& in, Bytes& out, std::uint64_t base) {
    std::uint64_t offset = 0, length = 0;
    if (!in.get(offset) || !in.get(length)) return Errc::kBadMessage;
    return copy_out(reinterpret_cast<const void*>(base + offset), length, out);
  }
  static Errc poke(wire::Reader& in, std::uint64_t base) {
    std::uint64_t offset = 0;
    Bytes body;
    if (!in.get(offset) || !in.get(body)) return Errc::kBadMessage;
    std::memcpy(reinterpret_cast<void*>(base + offset), body.data(), body.size());
    return Errc::kOk;
  }

  // The enclave's descriptor is the runtime's own; a hostile host finds it all the same.
  template <typename Request>
  static std::uint64_t ioctl_somewhere(unsigned long number, const Request& wanted, std::uint64_t& done) {
    constexpr int kMaxDescriptor = 64;
    for (int fd = kSocket + 1; fd < kMaxDescriptor; ++fd) {
      Request request = wanted;
      if (ioctl(fd, number, &request) == 0) {
        done = request.count;
        return 0;
      }
      if (errno == ENOTTY || errno == EBADF) continue;
      done = request.count;
      return static_cast<std::uint64_t>(errno);
    }
    return ENODEV;
  }
  Errc driver(wire::Reader& in, Bytes& out) {
    std::uint32_t op = 0;
    std::uint64_t offset = 0, length = 0, value = 0, done = 0, error = EINVAL;
    if (!in.get(op) || !in.get(offset) || !in.get(length) || !in.get(value)) return Errc::kBadMessage;
    switch (static_cast<DriverOp>(op)) {
      case DriverOp::kRestrict: {
        const sgx_enclave_restrict_permissions r{offset, length, value, 0, 0};
        error = ioctl_somewhere(SGX_IOC_ENCLAVE_RESTRICT_PERMISSIONS, r, done);
        break;
      }
      case DriverOp::kModifyType: {
        const sgx_enclave_modify_types r{offset, length, value, 0, 0};
        error = ioctl_somewhere(SGX_IOC_ENCLAVE_MODIFY_TYPES, r, done);
        break;
      }
      case DriverOp::kRemap: {  // the TLB shootdown of a kernel that has changed the page behind the driver's back
        void* at = reinterpret_cast<void*>(instance_->base() + offset);
        const bool done_both =
            mprotect(at, length, PROT_NONE) == 0 && mprotect(at, length, static_cast<int>(value)) == 0;
        error = done_both ? 0 : static_cast<std::uint64_t>(errno);
        break;
      }
      case DriverOp::kRemove: {
        const sgx_enclave_remove_pages r{offset, length, 0};
        error = ioctl_somewhere(SGX_IOC_ENCLAVE_REMOVE_PAGES, r, done);
        break;
      }
    }
    out = wire::encode(std::tuple(error, done));
    return Errc::kOk;
  }

  std::unique_ptr<host::Instance> instance_;
  std::deque<std::future<std::pair<Errc, Bytes>>> callers_;
  std::unique_ptr<Hammer> hammer_;
};

int serve() {
  raw_install();
  Peer peer;
  while (auto request = receive_message(kSocket)) {
    Bytes out;
    Errc e = Errc::kBadMessage;
    if (!request->empty()) {
      wire::Reader in{std::span(*request).subspan(1)};
      try {
        e = peer.handle(static_cast<Op>(request->front()), in, out);
      } catch (const host::Error& error) {
        e = error.code();
        const std::string text = error.what();
        out.assign(text.begin(), text.end());
      }
      if (e == Errc::kCrashed) out = peer.report();
    }
    Bytes reply = wire::encode(static_cast<std::uint32_t>(e));
    reply.insert(reply.end(), out.begin(), out.end());
    if (!send_message(kSocket, reply)) break;
  }
  return peer.close() == Errc::kOk ? 0 : 1;
}

}  // namespace
}  // namespace sealift::lab

int main() {
  return sealift::lab::serve();
}

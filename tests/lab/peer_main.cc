// A host process under a test's orders: builds an enclave, obeys, misbehaves. Run under `softsgx run`; descriptor 3 is
// the test's socket.
#include <cstdio>
#include <thread>
#include <vector>

#include "host/enclu.h"
#include "host/error.h"
#include "host/instance.h"
#include "migration/ocalls.h"
#include "tests/lab/rpc.h"

namespace sealift::lab {
namespace {

constexpr int kSocket = 3;

class Peer {
 public:
  Errc handle(Op op, wire::Reader& in, Bytes& out) {
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
      case Op::kEnter:
        return enter(in, out);
      case Op::kClose:
        return close();
      case Op::kPeek:
        return peek(in, out);
      case Op::kPoke:
        return poke(in);
      case Op::kStatus:
      case Op::kReresume:
      case Op::kResumeTcs:
        break;
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
    for (std::thread& t : callers_) t.join();
    callers_.clear();
    instance_.reset();
    return Errc::kOk;
  }

 private:
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
    const auto* p = reinterpret_cast<const std::uint8_t*>(answer.data());
    out.assign(p, p + answer.size());
    return e;
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
    callers_.emplace_back([this, id, body] {
      Bytes ignored;
      [[maybe_unused]] const Errc dropped = instance_->raw_call(id, body, ignored);
    });
    return Errc::kOk;
  }
  Errc enter(wire::Reader& in, Bytes& out) {
    std::uint32_t tcs = 0;
    std::uint64_t request = 0, a = 0, b = 0;
    if (!in.get(tcs) || !in.get(request) || !in.get(a) || !in.get(b)) return Errc::kBadMessage;
    const std::uint64_t address = instance_->base() + tcs_offset(instance_->image().config(), tcs);
    host::Stay stay{address, request, a, b, 0, host::StayEnd::kExit, {}, 1, nullptr};
    host::HostGate gate;
    host::Entries entries(instance_->base(), instance_->image().config(), gate);
    struct {
      host::Entries* entries;
      std::uint32_t tcs;
    } context{&entries, tcs};
    stay.context = &context;
    host::sealift_enclu(&stay);
    out = wire::encode(std::tuple(static_cast<std::uint64_t>(stay.end), stay.rdi, stay.rsi, stay.rdx));
    return Errc::kOk;
  }
  Errc peek(wire::Reader& in, Bytes& out) {
    std::uint64_t offset = 0, length = 0;
    if (!in.get(offset) || !in.get(length)) return Errc::kBadMessage;
    const auto* p = reinterpret_cast<const std::uint8_t*>(instance_->base() + offset);
    out.assign(p, p + length);
    return Errc::kOk;
  }
  Errc poke(wire::Reader& in) {
    std::uint64_t offset = 0;
    Bytes body;
    if (!in.get(offset) || !in.get(body)) return Errc::kBadMessage;
    std::memcpy(reinterpret_cast<void*>(instance_->base() + instance_->image().config().elrange_size + offset),
                body.data(), body.size());
    return Errc::kOk;
  }

  std::unique_ptr<host::Instance> instance_;
  std::vector<std::thread> callers_;
};

int serve() {
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

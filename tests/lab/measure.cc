#include "tests/lab/measure.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <ctime>
#include <tuple>

#include "host/error.h"
#include "migration/record.h"

namespace sealift::lab {
namespace {

using Clock = std::chrono::steady_clock;

std::uint64_t ns_since(Clock::time_point begin) {
  return static_cast<std::uint64_t>(std::chrono::nanoseconds(Clock::now() - begin).count());
}

std::uint64_t thread_cpu_ns() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000u + static_cast<std::uint64_t>(t.tv_nsec);
}

// A file's bytes, mapped and touched.
class Stream {
 public:
  Stream(const std::string& path, std::uint64_t bytes) : bytes_(bytes) {
    const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, static_cast<off_t>(bytes)) != 0) throw host::Error(Errc::kBadRequest, path);
    void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    ::close(fd);
    if (p == MAP_FAILED) throw host::Error(Errc::kBadRequest, path);
    data_ = static_cast<std::uint8_t*>(p);
    // MAP_POPULATE alone leaves shared pages read-only in the page table, and each first write a fault.
    if (madvise(data_, bytes, MADV_POPULATE_WRITE) != 0) throw host::Error(Errc::kBadRequest, path);
  }
  ~Stream() { munmap(data_, bytes_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  [[nodiscard]] std::uint8_t* data() const { return data_; }

 private:
  std::uint8_t* data_ = nullptr;
  std::uint64_t bytes_;
};

// The control thread's operations, without the copies that Instance::control makes for its callers.
class Control {
 public:
  explicit Control(const host::Instance& instance)
      : entries_(instance.base(), instance.image().config(), gate_),
        slot_(reinterpret_cast<std::uint8_t*>(instance.base() + instance.image().config().elrange_size)) {}

  Errc operator()(abi::ControlOp op, std::uint64_t len, std::uint64_t& out) {
    const auto begin = Clock::now();
    const std::uint64_t cpu = thread_cpu_ns();
    const Result<host::Reply> reply = entries_.control(op, len);
    inside_cpu_ns += thread_cpu_ns() - cpu;
    inside_ns += ns_since(begin);
    if (!reply) return reply.error();
    if (reply->b > abi::kControlSlotBytes) return Errc::kCrashed;
    out = reply->b;
    return static_cast<Errc>(reply->a);
  }
  [[nodiscard]] std::uint8_t* slot() const { return slot_; }
  std::uint64_t inside_ns = 0, inside_cpu_ns = 0;

 private:
  host::HostGate gate_;
  host::Entries entries_;
  std::uint8_t* slot_;
};

std::uint64_t record_size(const std::uint8_t* at) {
  record::RecordHeader h{};
  std::memcpy(&h, at, sizeof h);
  return sizeof h + h.body_len + record::kTagBytes;
}

bool is_final(const std::uint8_t* at) {
  record::RecordHeader h{};
  std::memcpy(&h, at, sizeof h);
  return h.kind == static_cast<std::uint16_t>(record::Kind::kFinal);
}

}  // namespace

Errc measure_dump(host::Instance& instance, wire::Reader& in, Bytes& out) {
  std::string path;
  std::uint64_t capacity = 0;
  if (!in.get(path) || !in.get(capacity)) return Errc::kBadMessage;
  const Stream stream(path, capacity);
  Control control(instance);
  const auto begin = Clock::now();
  if (const Errc e = instance.quiesce(std::chrono::seconds(60)); e != Errc::kOk) return e;
  const std::uint64_t quiesce_ns = ns_since(begin);
  const std::uint64_t cpu = thread_cpu_ns();
  std::uint64_t used = 0;
  for (bool final = false; !final;) {
    std::uint64_t n = 0;
    if (const Errc e = control(abi::ControlOp::kDump, 0, n); e != Errc::kOk) return e;
    if (n > capacity - used) return Errc::kBadSize;
    std::memcpy(stream.data() + used, control.slot(), n);
    final = is_final(stream.data() + used);
    used += n;
  }
  out = wire::encode(
      std::tuple(quiesce_ns, control.inside_ns, control.inside_cpu_ns, ns_since(begin), thread_cpu_ns() - cpu, used));
  return Errc::kOk;
}

Errc measure_feed(host::Instance& instance, wire::Reader& in, Bytes& out) {
  std::string path;
  std::uint64_t bytes = 0;
  if (!in.get(path) || !in.get(bytes)) return Errc::kBadMessage;
  const Stream stream(path, bytes);
  Control control(instance);
  const auto begin = Clock::now();
  const std::uint64_t cpu = thread_cpu_ns();
  for (std::uint64_t at = 0; at < bytes;) {
    std::uint64_t n = 0;
    do {
      n += record_size(stream.data() + at + n);
    } while (at + n < bytes && n + record_size(stream.data() + at + n) <= abi::kControlSlotBytes);
    std::memcpy(control.slot(), stream.data() + at, n);
    std::uint64_t ignored = 0;
    if (const Errc e = control(abi::ControlOp::kRecord, n, ignored); e != Errc::kOk) return e;
    at += n;
  }
  out = wire::encode(std::tuple(control.inside_ns, control.inside_cpu_ns, ns_since(begin), thread_cpu_ns() - cpu));
  return Errc::kOk;
}

Errc measure_call(host::Instance& instance, wire::Reader& in, Bytes& out) {
  std::uint32_t id = 0;
  Bytes arguments, result;
  if (!in.get(id) || !in.get(arguments)) return Errc::kBadMessage;
  const auto begin = Clock::now();
  const std::uint64_t cpu = thread_cpu_ns();
  const Errc e = instance.raw_call(id, arguments, result);
  out = wire::encode(std::tuple(ns_since(begin), thread_cpu_ns() - cpu, result));
  return e;
}

}  // namespace sealift::lab

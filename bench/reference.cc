#include "bench/reference.h"

#include <intel-ipsec-mb.h>
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <ctime>
#include <stdexcept>

#include "migration/record.h"

namespace sealift::bench {
namespace {

class Watch {
 public:
  [[nodiscard]] Reference::Times times() const {
    const auto passed = std::chrono::steady_clock::now() - begin_;
    return {static_cast<double>(std::chrono::nanoseconds(passed).count()), thread_cpu_ns() - cpu_};
  }

 private:
  static double thread_cpu_ns() {
    timespec t{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
  }
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  double cpu_ = thread_cpu_ns();
};

// Touched anonymous memory, not shared with children: after a fork each first write would be a page fault, and the
// reference would look slower than it is.
class Buffer {
 public:
  Buffer(std::size_t bytes, int value) : bytes_(bytes) {
    void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED || madvise(p, bytes, MADV_DONTFORK) != 0) {
      throw std::runtime_error("the reference: no memory for its buffers");
    }
    data_ = static_cast<std::uint8_t*>(p);
    std::memset(data_, value, bytes);
  }
  ~Buffer() { munmap(data_, bytes_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  [[nodiscard]] std::uint8_t* data() const { return data_; }
  [[nodiscard]] std::size_t size() const { return bytes_; }

 private:
  std::uint8_t* data_;
  std::size_t bytes_;
};

struct FreeManager {
  void operator()(IMB_MGR* m) const { free_mb_mgr(m); }
};

}  // namespace

struct Reference::State {
  std::unique_ptr<IMB_MGR, FreeManager> manager{alloc_mb_mgr(0)};
  alignas(64) gcm_key_data key{};  // the library stores into it with aligned moves
  Buffer plain, sealed;

  explicit State(std::uint64_t bytes) : plain(bytes, 0x5a), sealed(bytes, 0xa5) {}

  // One pass over the buffers, record by record, with `function` the library's seal or open.
  template <typename F>
  Times pass(F function, const std::uint8_t* from, std::uint8_t* to) {
    const std::uint8_t aad[sizeof(record::RecordHeader) + 16] = {};
    const Watch watch;
    std::uint64_t sequence = 0;
    for (std::size_t at = 0; at < plain.size(); at += record::kMaxBody, ++sequence) {
      const std::size_t n = std::min(record::kMaxBody, plain.size() - at);
      std::uint8_t nonce[12] = {}, tag[16];
      std::memcpy(nonce + 4, &sequence, sizeof sequence);
      gcm_context_data context;
      function(&key, &context, to + at, from + at, n, nonce, aad, sizeof aad, tag, sizeof tag);
    }
    return watch.times();
  }
};

Reference::Reference(std::uint64_t bytes) : state_(std::make_unique<State>(bytes)) {
  if (!state_->manager) throw std::runtime_error("the reference: no memory for intel-ipsec-mb");
  init_mb_mgr_auto(state_->manager.get(), nullptr);
  const std::uint8_t raw[32] = {1, 2, 3};
  IMB_AES256_GCM_PRE(state_->manager.get(), raw, &state_->key);
}

Reference::~Reference() = default;

Reference::Times Reference::seal() {
  return state_->pass(state_->manager->gcm256_enc, state_->plain.data(), state_->sealed.data());
}

Reference::Times Reference::open() {
  return state_->pass(state_->manager->gcm256_dec, state_->sealed.data(), state_->plain.data());
}

Reference::Times Reference::copy() {
  const Watch watch;
  std::memcpy(state_->sealed.data(), state_->plain.data(), state_->plain.size());
  return watch.times();
}

}  // namespace sealift::bench

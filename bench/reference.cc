#include "bench/reference.h"

#include <intel-ipsec-mb.h>

#include <chrono>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "migration/record.h"

namespace sealift::bench {
namespace {

double ns_since(std::chrono::steady_clock::time_point begin) {
  return static_cast<double>(std::chrono::nanoseconds(std::chrono::steady_clock::now() - begin).count());
}

struct FreeManager {
  void operator()(IMB_MGR* m) const { free_mb_mgr(m); }
};

}  // namespace

struct Reference::State {
  std::unique_ptr<IMB_MGR, FreeManager> manager{alloc_mb_mgr(0)};
  alignas(64) gcm_key_data key{};  // the library stores into it with aligned moves
  std::vector<std::uint8_t> plain, sealed;

  // One pass over the buffers, record by record, with `function` the library's seal or open.
  template <typename F>
  double pass(F function, const std::uint8_t* from, std::uint8_t* to) {
    const std::uint8_t aad[sizeof(record::RecordHeader) + 16] = {};
    const auto begin = std::chrono::steady_clock::now();
    std::uint64_t sequence = 0;
    for (std::size_t at = 0; at < plain.size(); at += record::kMaxBody, ++sequence) {
      const std::size_t n = std::min(record::kMaxBody, plain.size() - at);
      std::uint8_t nonce[12] = {}, tag[16];
      std::memcpy(nonce + 4, &sequence, sizeof sequence);
      gcm_context_data context;
      function(&key, &context, to + at, from + at, n, nonce, aad, sizeof aad, tag, sizeof tag);
    }
    return ns_since(begin);
  }
};

Reference::Reference(std::uint64_t bytes) : state_(std::make_unique<State>()) {
  if (!state_->manager) throw std::runtime_error("the reference: no memory for intel-ipsec-mb");
  init_mb_mgr_auto(state_->manager.get(), nullptr);
  const std::uint8_t raw[32] = {1, 2, 3};
  IMB_AES256_GCM_PRE(state_->manager.get(), raw, &state_->key);
  state_->plain.assign(bytes, 0x5a);
  state_->sealed.assign(bytes, 0xa5);
}

Reference::~Reference() = default;

double Reference::seal() {
  return state_->pass(state_->manager->gcm256_enc, state_->plain.data(), state_->sealed.data());
}

double Reference::open() {
  return state_->pass(state_->manager->gcm256_dec, state_->sealed.data(), state_->plain.data());
}

double Reference::copy() {
  const auto begin = std::chrono::steady_clock::now();
  std::memcpy(state_->sealed.data(), state_->plain.data(), state_->plain.size());
  return ns_since(begin);
}

}  // namespace sealift::bench

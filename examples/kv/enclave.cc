// The enclave: all data, and all that understands it.
#include <cstdio>
#include <ctime>

#include "examples/kv/calls.h"
#include "examples/kv/store/batch.h"
#include "sealift/trusted.h"

namespace {

// kv-small.toml, for small EPC sections, has another heap.
#ifndef KV_HEAP_MIB
#define KV_HEAP_MIB 256
#define KV_HEADROOM_MIB 48
#endif
constexpr std::size_t kHeapBytes = std::size_t{KV_HEAP_MIB} << 20;  // [memory] heap in kv.toml
// What the heap must keep for calls: eight at a time (ecall threads), each with a few copies of a slot, and gaps.
constexpr std::size_t kHeadroom = std::size_t{KV_HEADROOM_MIB} << 20;

kv::Milliseconds monotonic_ms() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<kv::Milliseconds>(now.tv_sec) * 1000 + now.tv_nsec / 1'000'000;
}

// Which logical enclave this is, and how often it has moved.
std::string about() {
  const sealift::Identity id = sealift::identity();
  std::string text = "lineage:";
  for (const std::uint8_t byte : id.lineage) {
    char digits[3];
    std::snprintf(digits, sizeof digits, "%02x", byte);
    text += digits;
  }
  return text + "\r\nepoch:" + std::to_string(id.epoch) + "\r\n";
}

kv::Store& store() {
  static kv::Store the_store{monotonic_ms, about};
  return the_store;
}

const sealift::Define kExecuteDefinition{kv::kExecute, [](std::uint64_t client, const std::string& request) {
                                           return kv::execute(store(), client, request);
                                         }};

const bool kLimited = (kv::Memory::set_limit(kHeapBytes - kHeadroom), true);

}  // namespace

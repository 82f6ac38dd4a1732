// What the enclave's work is measured against: the same library's AES-256-GCM, and memcpy, in this process, from memory
// to memory, one thread, both buffers touched.
#pragma once

#include <cstdint>
#include <memory>

namespace sealift::bench {

class Reference {
 public:
  explicit Reference(std::uint64_t bytes);
  ~Reference();
  Reference(const Reference&) = delete;
  Reference& operator=(const Reference&) = delete;

  struct Times {
    double ns, cpu_ns;
  };
  // For all bytes, in records of the size that the enclave uses.
  [[nodiscard]] Times seal();
  [[nodiscard]] Times open();
  [[nodiscard]] Times copy();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace sealift::bench

// Builds the test enclave through Linux's SGX ABI and nothing else: <asm/sgx.h>, SIGSTRUCT signed with OpenSSL here.
#pragma once

#include <asm/sgx.h>

#include <cstdint>
#include <string>
#include <vector>

#include "sgx/arch.h"
#include "sgx/measure.h"

namespace third_party {

struct EnclaveOptions {
  unsigned threads = 1;
  std::uint64_t attributes = sgx::attribute::kMode64Bit;
  std::uint64_t xfrm = sgx::xfrm::kLegacy | sgx::xfrm::kAvx | sgx::xfrm::kAvx512;
  std::uint32_t miscselect = 0;
  std::uint64_t size = 16u << 20;  // ELRANGE
  std::uint64_t heap_pages = 0;    // unmeasured RW pages behind the threads
  std::uint64_t base = 0;          // 0: anywhere
  bool map_before_add = false;
  bool initialise = true;
  bool corrupt_signature = false;
  bool provision = false;
};

// Offsets in ELRANGE are fixed by construction: image, then for each thread block, stack, TCS and SSA frames.
class TestEnclave {
 public:
  explicit TestEnclave(const EnclaveOptions& options);  // errors: see error()
  ~TestEnclave();
  TestEnclave(const TestEnclave&) = delete;
  TestEnclave& operator=(const TestEnclave&) = delete;

  // 0, or the errno of the step that failed, named in failed_step().
  [[nodiscard]] int error() const { return error_; }
  [[nodiscard]] const std::string& failed_step() const { return failed_step_; }

  [[nodiscard]] int fd() const { return fd_; }
  [[nodiscard]] std::uint64_t base() const { return base_; }
  [[nodiscard]] std::uint64_t size() const { return options_.size; }
  [[nodiscard]] std::uint64_t tcs(unsigned thread = 0) const;
  [[nodiscard]] std::uint64_t thread_block(unsigned thread = 0) const;
  [[nodiscard]] std::uint64_t heap() const { return base_ + heap_offset_; }
  // First offset that has no page.
  [[nodiscard]] std::uint64_t end_offset() const { return end_offset_; }
  [[nodiscard]] std::uint64_t address_of(const char* symbol) const;

  // ADD_PAGES of zero pages; errno or 0.
  int add(std::uint64_t offset, const void* source, std::uint64_t length, std::uint64_t secinfo_flags, bool measure,
          std::uint64_t* count = nullptr);
  int map(std::uint64_t offset, std::uint64_t length, int prot);
  int init();
  void unmap();
  void close_fd();

 private:
  bool fail(const char* step);
  bool create();
  bool load_image();
  bool add_threads();
  bool map_all();
  void measure(const void* record, std::size_t bytes);

  EnclaveOptions options_;
  int fd_ = -1;
  int error_ = 0;
  std::string failed_step_;
  std::uint64_t reserved_at_ = 0, reserved_bytes_ = 0;
  std::uint64_t base_ = 0, entry_ = 0, threads_offset_ = 0, heap_offset_ = 0, end_offset_ = 0;
  std::vector<std::uint8_t> measured_;  // MRENCLAVE's input
  struct Segment {
    std::uint64_t offset, bytes;
    int prot;
  };
  std::vector<Segment> segments_;
};

// Pages of one thread: block, stacks, TCS, two SSA frames.
inline constexpr std::uint64_t kBlockPages = 1, kStackPages = 4, kTcsPages = 1, kSsaFrames = 2;
inline constexpr std::uint64_t kThreadPages = kBlockPages + kStackPages + kTcsPages + kSsaFrames;

}  // namespace third_party

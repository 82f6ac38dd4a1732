// MappedBytes: bytes in a mapping of their own, so that all their memory is given back when they go. What malloc hands
// out it may keep for later, and in a VM that memory is sent with every move.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstring>
#include <new>
#include <span>
#include <utility>

namespace sealift::host {

class MappedBytes {
 public:
  // A copy. Throws std::bad_alloc.
  explicit MappedBytes(std::span<const std::byte> from) : bytes_(from.size()) {
    if (bytes_ == 0) return;
    at_ = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at_ == MAP_FAILED) throw std::bad_alloc();
    // In a huge page the rest would be zeros.
    ::madvise(at_, bytes_, MADV_NOHUGEPAGE);
    std::memcpy(at_, from.data(), bytes_);
  }
  ~MappedBytes() {
    if (bytes_ != 0) ::munmap(at_, bytes_);
  }
  MappedBytes(MappedBytes&& other) noexcept : at_(other.at_), bytes_(std::exchange(other.bytes_, 0)) {}
  MappedBytes& operator=(MappedBytes&& other) noexcept {
    std::swap(at_, other.at_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }

  [[nodiscard]] std::span<const std::byte> get() const noexcept { return {static_cast<const std::byte*>(at_), bytes_}; }
  [[nodiscard]] std::size_t size() const noexcept { return bytes_; }

 private:
  void* at_ = nullptr;
  std::size_t bytes_;
};

}  // namespace sealift::host

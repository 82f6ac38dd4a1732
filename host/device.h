// Building an enclave through Linux's SGX driver: Documentation/arch/x86/sgx.rst and <asm/sgx.h>, nothing else.
#pragma once

#include <cstdint>
#include <optional>

#include "host/image.h"

namespace sealift::host {

// An initialised enclave in this process's address space, with the arena behind ELRANGE. Owns both; unmapped at the
// end.
class Device {
 public:
  // `base`: build exactly there (an adopted enclave's pointers must stay valid), or anywhere. Throws Error:
  // kEpcLost (no SGX, no EPC), kWrongBase (the address is taken), kWrongEnclave (EINIT refused).
  Device(const Image& image, std::optional<std::uint64_t> base);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  // Another enclave from the same image at the same address, in place of this one, whose memory is gone or given up.
  // The arena and its contents stay: host threads may be using them. No thread may be inside. After an Error nothing is
  // there but the reservation, and it may be tried again.
  void rebuild(const Image& image);

  // Gives its memory back; it reads as zeroes.
  void empty_control_slot() const;

  [[nodiscard]] std::uint64_t base() const noexcept { return base_; }
  [[nodiscard]] std::uint8_t* arena() const noexcept { return reinterpret_cast<std::uint8_t*>(base_ + size_); }

 private:
  void open_device();
  void build(const Image& image);
  void reserve(std::optional<std::uint64_t> base);
  void create(const Image& image) const;
  void add(const PageRun& run) const;
  void init(const Image& image) const;
  void map(const Image& image) const;

  int fd_ = -1;
  std::uint64_t base_ = 0;
  std::uint64_t size_ = 0;
  std::uint64_t arena_size_ = 0;
};

}  // namespace sealift::host

// GuestMemory: how much of this guest's RAM holds zeros. The host wants to know when QEMU will have sent all RAM, and
// pages of zeros take no time.
//
// Pure but for look(). Threads: one at a time.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string_view>

namespace sealift::daemon {

// Whether a kernel with this command line clears memory as soon as it is freed (init_on_free,
// Documentation/admin-guide/kernel-parameters.txt).
[[nodiscard]] bool clears_freed_memory(std::string_view command_line);

class GuestMemory {
 public:
  explicit GuestMemory(bool cleared_when_freed) : cleared_(cleared_when_freed) {}
  // Of the kernel that runs. If its command line cannot be read, it clears nothing.
  [[nodiscard]] static GuestMemory of_this_kernel();

  // Asks the kernel. Often enough to see memory that a program takes for a while.
  void look();
  void saw(std::uint64_t free) {
    free_ = free;
    least_ = std::min(least_, free);
  }

  // Bytes, about: what is free, if it is cleared when it is freed. Otherwise what was free at all times: the kernel
  // does not tell which pages it has never given out, and that is as near as one comes to it. 0 before it has looked.
  [[nodiscard]] std::uint64_t untouched() const { return cleared_ ? free_ : std::min(least_, free_); }

 private:
  bool cleared_;
  std::uint64_t free_ = 0;
  std::uint64_t least_ = ~std::uint64_t{0};
};

}  // namespace sealift::daemon

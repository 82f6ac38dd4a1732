// GuestMemory: how much of this guest's RAM holds zeros and lies together. The host wants to know when QEMU will have
// sent all RAM, and such pages take no time.
//
// Pure but for of_this_kernel() and look(). Threads: one at a time.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string_view>

namespace sealift::daemon {

// Whether a kernel with this command line clears memory as soon as it is freed (init_on_free,
// Documentation/admin-guide/kernel-parameters.txt).
[[nodiscard]] bool clears_freed_memory(std::string_view command_line);
// Of /proc/buddyinfo's text (Documentation/filesystems/proc.rst), bytes: free blocks of 2 MiB and more, in which QEMU
// meets nothing else for a while.
[[nodiscard]] std::uint64_t free_in_large_blocks(std::string_view buddyinfo);

class GuestMemory {
 public:
  explicit GuestMemory(bool cleared_when_freed) : cleared_(cleared_when_freed) {}
  // Of the kernel that runs. If its command line cannot be read, it clears nothing.
  [[nodiscard]] static GuestMemory of_this_kernel();

  // Asks the kernel. Often enough to see memory that a program takes for a while.
  void look();
  void saw(std::uint64_t free) { untouched_ = cleared_ ? free : std::min(untouched_.value_or(free), free); }

  // Bytes, about: what is free, if it is cleared when it is freed. Otherwise what was free at all times: the kernel
  // does not tell which pages it has never given out, and that is as near as one comes to it. 0 before it has looked.
  [[nodiscard]] std::uint64_t untouched() const { return untouched_.value_or(0); }

 private:
  bool cleared_;
  std::optional<std::uint64_t> untouched_;
};

}  // namespace sealift::daemon

// The memory system calls as the program means them: kernel calling convention, -errno on failure.
#pragma once

#include <cstdint>

namespace softsgx::preload {

long do_mmap(std::uint64_t address, std::uint64_t length, int prot, int flags, int fd, std::uint64_t offset);
long do_munmap(std::uint64_t address, std::uint64_t length);
long do_mprotect(std::uint64_t address, std::uint64_t length, int prot);

}  // namespace softsgx::preload

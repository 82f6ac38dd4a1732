// Opening the device nodes and talking to them: kernel calling convention, -errno on failure.
#pragma once

#include <cstdint>
#include <optional>

namespace softsgx::preload {

// The answer if `path` is one of our nodes.
[[nodiscard]] std::optional<long> open_node(const char* path, int flags);
// The answer if `fd` is an enclave and the command SGX's.
[[nodiscard]] std::optional<long> enclave_ioctl(int fd, unsigned long command, std::uint64_t argument);
long do_close(int fd);

}  // namespace softsgx::preload

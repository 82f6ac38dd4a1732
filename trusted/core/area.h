// The core area and the enclave's own view of its layout.
//
// Everything writable that core owns carries SEALIFT_CORE_DATA, or comes from a library that the build prelinks into
// core with its writable sections renamed likewise: it lies between sealift_core_begin and sealift_core_end, never
// enters a checkpoint and is never restored over (design §6.2).
#pragma once

#include <atomic>
#include <cstdint>

#include "migration/abi.h"
#include "migration/config.h"
#include "migration/messages.h"
#include "migration/record.h"

#define SEALIFT_CORE_DATA [[gnu::section(".bss.sealift_core")]]

extern "C" {
extern const sealift::EnclaveConfig sealift_config;
extern std::uint8_t sealift_core_begin[], sealift_core_end[];  // set by the linker script
extern const std::uint8_t __ehdr_start[];                      // ELRANGE's base: the image is linked at 0
extern std::atomic<std::uint32_t> sealift_gate;                // abi::GateState
}

namespace sealift::core {

[[nodiscard]] inline const EnclaveConfig& config() noexcept {
  return sealift_config;
}
[[nodiscard]] inline std::uint64_t base() noexcept {
  return reinterpret_cast<std::uint64_t>(__ehdr_start);
}
[[nodiscard]] inline std::uint64_t arena_base() noexcept {
  return base() + config().elrange_size;
}
[[nodiscard]] inline void* at(std::uint64_t offset) noexcept {
  return reinterpret_cast<void*>(base() + offset);
}
[[nodiscard]] inline std::uint8_t* control_slot() noexcept {
  return reinterpret_cast<std::uint8_t*>(arena_base());
}

// The gate (design §6.3). Transitions: Unborn → Open | Restoring (role latch); Open → Quiescing → Open (cancel) |
// Destroyed; Restoring → Open (granted) | Destroyed. Only the control thread moves it; all others read it.
[[nodiscard]] inline abi::GateState gate() noexcept {
  return static_cast<abi::GateState>(sealift_gate.load(std::memory_order_seq_cst));
}
// False, and nothing changed, when the transition is not on the list.
[[nodiscard]] bool gate_move(abi::GateState from, abi::GateState to) noexcept;

}  // namespace sealift::core

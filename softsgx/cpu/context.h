// A signal frame's registers as the leaf functions want them, and back. Async-signal-safe.
#pragma once

#include <ucontext.h>

#include <cstddef>
#include <cstdint>

#include "softsgx/isa/leaf.h"

namespace softsgx {

// General registers, RIP and RFLAGS. FS and GS base are not in a signal frame: the caller fills them.
void read_registers(const ucontext_t& context, Registers& regs) noexcept;
void write_registers(const Registers& regs, ucontext_t& context) noexcept;

// The frame's XSAVE image (host layout), and its whole size with the trailing magic number. An image without extended
// state (a kernel booted with noxsave) has size 512.
[[nodiscard]] std::byte* xsave_image(const ucontext_t& context) noexcept;
[[nodiscard]] std::size_t xsave_bytes(const ucontext_t& context) noexcept;

// Exception details as the kernel stores them in a frame.
[[nodiscard]] unsigned trap_number(const ucontext_t& context) noexcept;
[[nodiscard]] std::uint32_t trap_error(const ucontext_t& context) noexcept;
void set_trap(ucontext_t& context, unsigned number, std::uint32_t error_code) noexcept;

[[nodiscard]] std::uint64_t rip(const ucontext_t& context) noexcept;
void set_rip(ucontext_t& context, std::uint64_t value) noexcept;

}  // namespace softsgx

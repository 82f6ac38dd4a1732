// System calls that are passed out, by a table: what each argument is decides what is copied, and how much.
//
// Every buffer passes through the thread's arena slot. Buffers too large for it are cut where the call allows a partial
// result (read, write and their kin), else refused. What comes back is bounded by what was asked for: a host that
// claims more is answered with EIO.
#include <asm/unistd_64.h>

#include "migration/ocalls.h"
#include "trusted/core/memory.h"
#include "trusted/runtime/syscall.h"

namespace sealift::runtime {
namespace {

enum class Kind : std::uint8_t {
  kNone,  // not passed
  kValue,
  kString,  // in, zero-terminated
  kIn,      // in, fixed size
  kInLen,   // in, size in argument `size`; may be cut short
  kInAll,   // in, size in argument `size`; may not be cut
  kOut,     // out, fixed size, on success
  kOutLen,  // out, size in argument `size`; as many bytes as the result says
  kInOutN,  // in and out, argument `size` elements of `unit` bytes
};

struct Arg {
  Kind kind = Kind::kNone;
  std::uint16_t size = 0;
  std::uint16_t unit = 1;
};

struct Call {
  std::uint16_t number;
  bool restartable;  // issued again after a migration; the others answer EINTR
  Arg args[6];
};

constexpr Arg kV{Kind::kValue};
constexpr Arg kStr{Kind::kString};
constexpr Arg in(std::uint16_t size) {
  return {Kind::kIn, size};
}
constexpr Arg in_len(std::uint16_t arg) {
  return {Kind::kInLen, arg};
}
constexpr Arg in_all(std::uint16_t arg) {
  return {Kind::kInAll, arg};
}
constexpr Arg out(std::uint16_t size) {
  return {Kind::kOut, size};
}
constexpr Arg out_len(std::uint16_t arg) {
  return {Kind::kOutLen, arg};
}
constexpr Arg in_out_n(std::uint16_t arg, std::uint16_t unit) {
  return {Kind::kInOutN, arg, unit};
}

constexpr Call kCalls[] = {
    {__NR_read, false, {kV, out_len(2), kV}},
    {__NR_write, false, {kV, in_len(2), kV}},
    {__NR_pread64, false, {kV, out_len(2), kV, kV}},
    {__NR_pwrite64, false, {kV, in_len(2), kV, kV}},
    {__NR_open, false, {kStr, kV, kV}},
    {__NR_openat, false, {kV, kStr, kV, kV}},
    {__NR_close, false, {kV}},
    {__NR_fstat, false, {kV, out(144)}},
    {__NR_newfstatat, false, {kV, kStr, out(144), kV}},
    {__NR_lseek, false, {kV, kV, kV}},
    {__NR_readlink, false, {kStr, out_len(2), kV}},
    {__NR_readlinkat, false, {kV, kStr, out_len(3), kV}},
    {__NR_getcwd, false, {out_len(1), kV}},
    {__NR_access, false, {kStr, kV}},
    {__NR_faccessat, false, {kV, kStr, kV}},
    {__NR_unlink, false, {kStr}},
    {__NR_unlinkat, false, {kV, kStr, kV}},
    {__NR_mkdir, false, {kStr, kV}},
    {__NR_rename, false, {kStr, kStr}},
    {__NR_ftruncate, false, {kV, kV}},
    {__NR_fsync, false, {kV}},
    {__NR_fcntl, false, {kV, kV, kV}},
    {__NR_getdents64, false, {kV, out_len(2), kV}},
    {__NR_uname, false, {out(390)}},
    {__NR_sysinfo, false, {out(112)}},
    {__NR_socket, false, {kV, kV, kV}},
    {__NR_bind, false, {kV, in_all(2), kV}},
    {__NR_connect, false, {kV, in_all(2), kV}},
    {__NR_listen, false, {kV, kV}},
    {__NR_setsockopt, false, {kV, kV, kV, in_all(4), kV}},
    {__NR_shutdown, false, {kV, kV}},
    {__NR_sendto, false, {kV, in_len(2), kV, kV, in_all(5), kV}},
    {__NR_poll, false, {in_out_n(1, 8), kV, kV}},
    {__NR_nanosleep, true, {in(16)}},
    {__NR_clock_nanosleep, true, {kV, kV, in(16)}},
    {__NR_clock_getres, true, {kV, out(16)}},
};

const Call* find(std::uint64_t number) noexcept {
  for (const Call& c : kCalls) {
    if (c.number == number) return &c;
  }
  return nullptr;
}

// One call's way through the slot: header first, buffers behind it.
class Marshal {
 public:
  Marshal(const SyscallRegs& r, const Call& call) noexcept
      : call_(call), values_{r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9} {
    header_.number = r.rax;
  }

  // 0, or an error when something does not fit.
  std::uint64_t put() noexcept {
    used_ = sizeof header_;
    for (int i = 0; i < 6; ++i) {
      const std::uint64_t e = put_arg(i);
      if (e != 0) return e;
    }
    core::copy(core::slot(), &header_, sizeof header_);
    return 0;
  }

  std::uint64_t take() noexcept {
    core::copy(&header_, core::slot(), sizeof header_);
    const auto result = static_cast<std::uint64_t>(header_.result);
    if (is_error(result)) return result;
    for (int i = 0; i < 6; ++i) {
      const Arg& a = call_.args[i];
      if (values_[i] == 0 || sizes_[i] == 0) continue;
      std::uint64_t n = 0;
      if (a.kind == Kind::kOut || a.kind == Kind::kInOutN) n = sizes_[i];
      if (a.kind == Kind::kOutLen) n = result;
      if (n > sizes_[i] || (a.kind == Kind::kInLen && result > sizes_[i])) return kEio;
      if (n != 0) core::copy(reinterpret_cast<void*>(values_[i]), core::slot() + offsets_[i], n);
    }
    return result;
  }

  [[nodiscard]] std::uint64_t bytes() const noexcept { return used_; }

 private:
  std::uint64_t room() const noexcept { return core::slot_bytes() - used_; }

  static std::uint64_t string_size(std::uint64_t address, std::uint64_t limit) noexcept {
    const auto* text = reinterpret_cast<const char*>(address);
    std::uint64_t n = 0;
    while (n < limit && text[n] != '\0') ++n;
    return n + 1;
  }

  std::uint64_t size_of(int i) const noexcept {
    const Arg& a = call_.args[i];
    switch (a.kind) {
      case Kind::kString:
        return string_size(values_[i], room());
      case Kind::kIn:
      case Kind::kOut:
        return a.size;
      case Kind::kInLen:
      case Kind::kInAll:
      case Kind::kOutLen:
        return values_[a.size];
      case Kind::kInOutN:
        return values_[a.size] > room() ? room() + 1 : values_[a.size] * a.unit;
      case Kind::kNone:
      case Kind::kValue:
        break;
    }
    return 0;
  }

  std::uint64_t put_arg(int i) noexcept {
    const Arg& a = call_.args[i];
    if (a.kind == Kind::kNone) return 0;
    if (a.kind == Kind::kValue || values_[i] == 0) {
      if (a.kind == Kind::kValue && !is_length_[i]) header_.args[i] = values_[i];
      return 0;
    }
    std::uint64_t n = size_of(i);
    const bool may_cut = a.kind == Kind::kInLen || a.kind == Kind::kOutLen;
    if (n > room()) {
      if (!may_cut) return kEinval;
      n = room();
    }
    if (may_cut) {
      header_.args[a.size] = n;
      is_length_[a.size] = true;
    }
    sizes_[i] = n;
    offsets_[i] = used_;
    header_.args[i] = used_;
    header_.pointers |= std::uint64_t{1} << i;
    const bool input = a.kind != Kind::kOut && a.kind != Kind::kOutLen;
    if (input) core::copy(core::slot() + used_, reinterpret_cast<const void*>(values_[i]), n);
    used_ += (n + 15) & ~std::uint64_t{15};
    if (used_ > core::slot_bytes()) used_ = core::slot_bytes();
    return 0;
  }

  const Call& call_;
  std::uint64_t values_[6];
  std::uint64_t sizes_[6] = {};
  std::uint64_t offsets_[6] = {};
  bool is_length_[6] = {};  // already set by the buffer that it measures
  std::uint64_t used_ = 0;
  abi::SyscallArgs header_{};
};

}  // namespace

std::uint64_t forward(const SyscallRegs& r) noexcept {
  const Call* call = find(r.rax);
  if (call == nullptr) return core::enosys(r.rax);
  for (;;) {
    Marshal m(r, *call);
    const std::uint64_t e = m.put();
    if (e != 0) return e;
    const core::OcallResult done = core::ocall(abi::OcallOp::kSyscall, m.bytes());
    if (!done.migrated) return m.take();
    if (!call->restartable) return kEintr;
  }
}

}  // namespace sealift::runtime

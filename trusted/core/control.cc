// The control thread: a TCS of its own, never parked. One operation an entry: input is copied out of the arena once,
// bounded; output is copied into it when the operation has succeeded.
#include "trusted/core/area.h"
#include "trusted/core/core.h"
#include "trusted/core/instance.h"
#include "trusted/core/memory.h"

extern "C" {
alignas(64) SEALIFT_CORE_DATA std::uint8_t sealift_control_stack[64 * 1024];
SEALIFT_CORE_DATA std::uint8_t sealift_control_tls[256];  // libraries read their stack guard at FS:0x28

struct ControlResult {
  std::uint64_t errc, bytes;
};
ControlResult sealift_control(std::uint64_t op, std::uint64_t len);
}

namespace sealift::core {
namespace {

using abi::ControlOp;
using abi::GateState;

// The longest input is kStart's argument strings; records have their own way in (restore.cc).
constexpr std::uint64_t kMaxIo = 64 * 1024;

alignas(64) SEALIFT_CORE_DATA std::uint8_t scratch_in[kMaxIo];
alignas(64) SEALIFT_CORE_DATA std::uint8_t scratch_out[sgx::kPageSize];
alignas(64) SEALIFT_CORE_DATA std::uint8_t scratch_record[record::kMaxBody];
alignas(64) SEALIFT_CORE_DATA std::uint8_t instance_storage[sizeof(Instance)];

void init_blocks() noexcept {
  for (std::uint32_t i = 0; i < config().tcs_count; ++i) sealift_thread_blocks[i].index = i;
}

// The frame from which main enters `_start`.
void bind_main(const std::uint8_t* argv, std::uint64_t len) noexcept {
  const EnclaveConfig& c = config();
  const std::uint64_t top = base() + stack_offset(c, abi::kMainTcs) + c.stack_size;
  const std::uint64_t rsp = sealift_boot(top, reinterpret_cast<const char*>(argv), len);
  const std::uint64_t frame = (rsp - 128 - FRAME_SIZE) & ~std::uint64_t{63};
  fill(reinterpret_cast<void*>(frame), 0, FRAME_SIZE);
  const std::uint16_t x87_control = 0x37f;
  const std::uint32_t mxcsr = sgx::xsave::kMxcsrDefault;
  copy(reinterpret_cast<void*>(frame + FRAME_FXSAVE), &x87_control, sizeof x87_control);
  copy(reinterpret_cast<void*>(frame + FRAME_FXSAVE + sgx::xsave::kMxcsrOffset), &mxcsr, sizeof mxcsr);
  auto& regs = *reinterpret_cast<SyscallRegs*>(frame + FRAME_GPRS);
  regs.rsp = rsp;
  regs.rip = reinterpret_cast<std::uint64_t>(&_start);
  regs.rflags = 2;
  ThreadBlock& tb = sealift_thread_blocks[abi::kMainTcs];
  tb.resume_rsp = frame;
  publish(tb, ThreadState::kStarting);
}

Errc latch(abi::Role role, GateState gate_state) noexcept {
  if (gate() != GateState::kUnborn) return gate() == GateState::kDestroyed ? Errc::kDestroyed : Errc::kWrongRole;
  if (config().magic != kConfigMagic || config().tcs_count > abi::kMaxTcs) return Errc::kWrongEnclave;
  relocate();
  crypto_init();
  init_blocks();
  instance().role = role;
  if (role == abi::Role::kRestore) return gate_move(GateState::kUnborn, gate_state) ? Errc::kOk : Errc::kWrongRole;
  if (!random_bytes(instance().lineage, sizeof instance().lineage)) return Errc::kEntropy;
  instance().epoch = 1;
  return Errc::kOk;
}

Errc start(ControlIo& io) noexcept {
  // The strings go onto main's stack; a quarter of it, as execve(2) allows.
  if (io.in_len > config().stack_size / 4) return Errc::kBadSize;
  const Errc e = latch(abi::Role::kStart, GateState::kOpen);
  if (e != Errc::kOk) return e;
  bind_main(io.in, io.in_len);
  return gate_move(GateState::kUnborn, GateState::kOpen) ? Errc::kOk : Errc::kWrongRole;
}

Errc restore(ControlIo& io) noexcept {
  const auto* begin = io.input<abi::RestoreBegin>();
  if (begin == nullptr) return Errc::kBadSize;
  const Errc e = latch(abi::Role::kRestore, GateState::kRestoring);
  if (e == Errc::kOk) copy(instance().attempt, begin->attempt, sizeof begin->attempt);
  return e;
}

std::uint32_t count_running() noexcept {
  std::uint32_t n = 0;
  for (std::uint32_t i = 0; i < config().tcs_count; ++i) {
    if (state_of(sealift_thread_blocks[i]) == ThreadState::kRunning) ++n;
  }
  return n;
}

Errc quiesce(ControlIo& io) noexcept {
  if (!instance().has_key || instance().role == abi::Role::kNone) return Errc::kNoSession;
  if (gate() == GateState::kOpen && !gate_move(GateState::kOpen, GateState::kQuiescing)) return Errc::kNotReady;
  if (gate() != GateState::kQuiescing) return Errc::kNotReady;
  io.output<std::uint32_t>() = count_running();
  return Errc::kOk;
}

Errc cancel() noexcept {
  const GateState g = gate();
  if (g != GateState::kQuiescing && g != GateState::kOpen) return Errc::kWrongState;
  forget_attempt();
  fill(instance().attempt, 0, sizeof instance().attempt);
  if (g == GateState::kQuiescing && !gate_move(GateState::kQuiescing, GateState::kOpen)) return Errc::kWrongState;
  return Errc::kOk;
}

Errc status(ControlIo& io) noexcept {
  Instance& me = instance();
  auto& s = io.output<abi::Status>();
  s = {};
  s.gate = static_cast<std::uint32_t>(gate());
  s.role = static_cast<std::uint32_t>(me.role);
  copy(s.lineage, me.lineage, sizeof s.lineage);
  s.epoch = me.epoch;
  copy(s.attempt, me.attempt, sizeof s.attempt);
  s.running = count_running();
  s.tcs_count = config().tcs_count;
  s.pages_in_use = gate() == GateState::kUnborn ? 0 : count_used_pages();
  s.records = me.sequence;
  s.enosys = me.enosys.load(std::memory_order_relaxed);
  s.last_enosys = me.last_enosys.load(std::memory_order_relaxed);
  s.restored = me.restored ? 1 : 0;
  for (std::uint32_t i = 0; i < config().tcs_count; ++i) {
    s.states[i] = static_cast<std::uint8_t>(state_of(sealift_thread_blocks[i]));
  }
  return Errc::kOk;
}

Errc dispatch(ControlOp op, ControlIo& io) noexcept {
  switch (op) {
    case ControlOp::kStart:
      return start(io);
    case ControlOp::kRestore:
      return restore(io);
    case ControlOp::kStatus:
      return status(io);
    case ControlOp::kAgentHello:
      return agent_hello(io);
    case ControlOp::kAgentConfirm:
      return agent_confirm(io);
    case ControlOp::kQuiesce:
      return quiesce(io);
    case ControlOp::kCancel:
      return cancel();
    case ControlOp::kCommit:
      return commit(io);
    case ControlOp::kCommitHeld:
      return commit_held(io);
    case ControlOp::kInstallKey:
      return install_key(io);
    case ControlOp::kReady:
      return ready(io);
    case ControlOp::kGrant:
      return grant(io);
    case ControlOp::kTicketAgain:
      return ticket_again(io);
    case ControlOp::kDump:
    case ControlOp::kRecord:  // sealift_control handles both: their bytes are not copied as a whole
    case ControlOp::kPrecopyDump:
      break;
  }
  return Errc::kBadRequest;
}

ControlResult result(Errc e, std::uint64_t bytes) noexcept {
  return {static_cast<std::uint64_t>(e), e == Errc::kOk ? bytes : 0};
}

}  // namespace

std::uint8_t* scratch_body() noexcept {
  return scratch_record;
}

std::uint8_t* scratch_piece() noexcept {
  alignas(64) SEALIFT_CORE_DATA static std::uint8_t piece[kPiece];
  return piece;
}

Instance& instance() noexcept {
  return *reinterpret_cast<Instance*>(instance_storage);
}

}  // namespace sealift::core

asm(".globl sealift_control_stack_top\n.hidden sealift_control_stack_top\n"
    ".set sealift_control_stack_top, sealift_control_stack + 65536\n");

ControlResult sealift_control(std::uint64_t op, std::uint64_t len) {
  using namespace sealift;
  using namespace sealift::core;
  if (op == static_cast<std::uint64_t>(abi::ControlOp::kRecord)) return result(restore_records(len), 0);
  if (op == static_cast<std::uint64_t>(abi::ControlOp::kDump)) {
    std::uint64_t bytes = 0;
    const Errc e = dump(bytes);
    return result(e, bytes);
  }
  if (len > kMaxIo) return result(Errc::kBadSize, 0);
  ControlIo io{scratch_in, len, scratch_out, 0};
  copy(io.in, control_slot(), len);
  const Errc e = dispatch(static_cast<abi::ControlOp>(op), io);
  if (e == Errc::kOk) copy(control_slot(), io.out, io.out_len);
  return result(e, io.out_len);
}

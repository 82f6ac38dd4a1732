// The binary interface between `trusted/core` and the host runtime: what travels in registers at EENTER and EEXIT,
// the layout of the untrusted arena, and the control thread's operations.
//
// Everything here is visible to, and forgeable by, the host. No pointer ever crosses: lengths and numbers only; bytes
// pass through the arena, whose address is fixed beside ELRANGE (design §6.2).
#pragma once

#include <cstddef>
#include <cstdint>

namespace sealift::abi {

// Request, in RDI at EENTER. RSI and RDX are its arguments.
enum class Request : std::uint64_t {
  kControl = 1,      // control TCS only; RSI = ControlOp, RDX = bytes of input in the control slot
  kCall = 2,         // RSI = bytes of the marshalled call in this thread's slot
  kOcallReturn = 3,  // RSI = result, RDX = bytes of the marshalled result in this thread's slot
  kThreadStart = 4,  // first entry of a thread made inside
  kHandle = 5,       // at CSSA = 1 only: an AEX happened; handle the exception, park or un-park
  // kOcallReturn by the host thread that made the ocall, in an instance that was restored around it (a VM's move): the
  // answer is one, though the thread came with the checkpoint.
  kOcallAnswered = 6,
};

// Why the enclave was left, in RDI at EEXIT. RSI, RDX and R8 carry the rest. All other registers are cleared.
enum class Exit : std::uint64_t {
  kDone = 1,        // control or call: RSI = Errc, RDX = bytes of output
  kOcall = 2,       // RSI = OcallOp, RDX = bytes of arguments in this thread's slot
  kRefused = 3,     // RSI = Errc; nothing has changed
  kResume = 4,      // ERESUME now
  kParked = 5,      // the thread is parked: do not ERESUME; enter with kHandle when the gate is open again
  kCrash = 6,       // RSI = EXITINFO, RDX = RIP, R8 = faulting address if known
  kThreadExit = 7,  // the thread has ended; its TCS is free
};

// Ocalls of the runtime itself. Numbers from kFirstAppOcall on are the application's.
enum class OcallOp : std::uint64_t {
  kStarted = 1,    // main thread: glibc and constructors are up; waits for kOcallReturn to go on into main
  kIdle = 2,       // an ecall thread waits for calls (never returned to; a kCall enters instead)
  kSpawn = 3,      // slot: u32 TCS number. A host thread must enter it with kThreadStart
  kSyscall = 4,    // slot: SyscallFrame and its bytes
  kFutexWait = 5,  // slot: FutexWait
  kFutexWake = 6,  // slot: FutexWake
  kMainDone = 7,   // slot: u32 exit status of main / exit_group
  kAppOcall = 8,   // slot: marshalled typed ocall
  kClock = 9,      // slot: i32 clock id -> i64 seconds, i64 nanoseconds
};

// The arena: [control slot][one slot a TCS][futex words]. The slot size is measured (EnclaveConfig::slot_bytes).
inline constexpr std::size_t kControlSlotBytes = 4u << 20;
inline constexpr std::size_t kFutexWords = 1024;  // u32 each
[[nodiscard]] constexpr std::uint64_t slot_offset(std::uint32_t tcs, std::uint64_t slot_bytes) noexcept {
  return kControlSlotBytes + std::uint64_t{tcs} * slot_bytes;
}
[[nodiscard]] constexpr std::uint64_t futex_offset(std::uint32_t tcs_count, std::uint64_t slot_bytes) noexcept {
  return slot_offset(tcs_count, slot_bytes);
}
[[nodiscard]] constexpr std::uint64_t arena_bytes(std::uint32_t tcs_count, std::uint64_t slot_bytes) noexcept {
  return futex_offset(tcs_count, slot_bytes) + kFutexWords * 4;
}

// Operations of the control thread. Input and output are in the control slot.
enum class ControlOp : std::uint64_t {
  kStart = 1,         // latches the role *start*: relocates, draws the lineage. No input, no output
  kRestore = 2,       // latches the role *restore*; input RestoreBegin
  kStatus = 3,        // output Status; allowed in every gate state
  kAgentHello = 4,    // input messages::AgentHello, output messages::EnclaveHello
  kAgentConfirm = 5,  // input messages::AgentConfirm; source: output sealed Prepare; target: output sealed KeyRequest
  kQuiesce = 6,       // closes the gate; output u32 threads still running (0: quiescent)
  kDump = 7,          // output: whole records, as many as fit; needs quiescence. The final record comes alone
  kCancel = 8,        // reopens the gate, erases the attempt's key
  kCommit = 9,        // input sealed Ready; self-destroys; output sealed Ticket. Repeats give the same bytes
  kInstallKey = 10,   // target: input sealed KeyDelivery
  kRecord = 11,       // target: input whole records, one or more; the final record completes the restore
  kReady = 12,        // target: output sealed ReadyNotice
  kGrant = 13,        // target: input sealed Grant; opens the gate
  kTicketAgain = 14,  // source, destroyed: output the sealed Ticket once more
  kPrecopyDump = 15,  // output: the next record of a pre-copy round, gate open (not offered yet: kBadRequest)
  kCommitHeld = 16,   // source inside a VM, its records in guest memory: as kCommit, but without any Ready. No input
};

enum class GateState : std::uint32_t { kOpen = 1, kQuiescing = 2, kRestoring = 3, kDestroyed = 4, kUnborn = 0 };
enum class Role : std::uint32_t { kNone = 0, kStart = 1, kRestore = 2 };

// Thread states as the host may see them (design §6.3).
enum class ThreadState : std::uint32_t {
  kUnbound = 0,   // no thread; free for one made inside
  kFree = 1,      // an ecall thread without an ecall
  kStarting = 2,  // reserved inside, not yet entered
  kRunning = 3,
  kInOcall = 4,
  kParked = 5,
};

inline constexpr std::uint32_t kMaxTcs = 80;  // control, main and up to 78 others
inline constexpr std::uint32_t kControlTcs = 0;
inline constexpr std::uint32_t kMainTcs = 1;
inline constexpr std::uint32_t kFirstEcallTcs = 2;

struct RestoreBegin {
  std::uint8_t attempt[16];
};
static_assert(sizeof(RestoreBegin) == 16);

// What anybody may know of an instance. Lineage and epoch are public identifiers (a quote carries them).
struct Status {
  std::uint32_t gate;  // GateState
  std::uint32_t role;  // Role
  std::uint8_t lineage[16];
  std::uint64_t epoch;
  std::uint8_t attempt[16];  // zero: none
  std::uint32_t running;     // threads in state kRunning
  std::uint32_t tcs_count;
  std::uint64_t pages_in_use;    // writable pages that a checkpoint taken now would contain
  std::uint64_t records;         // of the current attempt, sealed or accepted
  std::uint64_t enosys;          // system calls that were answered ENOSYS
  std::uint32_t last_enosys;     // number of the last of them
  std::uint32_t restored;        // 1: every record is in and verified
  std::uint8_t states[kMaxTcs];  // ThreadState of each TCS
};
static_assert(sizeof(Status) == 8 + 16 + 8 + 16 + 8 + 8 + 8 + 8 + 8 + 80);

}  // namespace sealift::abi

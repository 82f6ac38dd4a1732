// A software SGX machine: one file that holds a CPU package's fuses, its EPCM and its EPC, mapped shared by every
// process that runs on it.
//
// Threads and processes. Any number of both share a machine.
//  1. The leaf functions never take the machine's lock. As on silicon, an EPCM entry is changed by one atomic update, a
//     leaf that needs a page for longer sets the entry's kLocked bit, and a leaf that finds it set raises #GP(0).
//     EENTER, EEXIT, ERESUME and AEX are lock-free and async-signal-safe.
//  2. Allocation (allocate_run, release, reclaim_dead, power_cycle) takes the machine's lock: an open-file-description
//     lock of the file, so the death of a holder frees it, and it also works on a device such as a guest's /dev/mem,
//     where shared futexes do not. It is not async-signal-safe.
//     A forked child must open the machine anew.
//  3. The file's contents may be exchanged under a running process: a virtual machine that moves to another host finds
//     that host's section at the same address. Whoever remembers something about EPC therefore remembers generation()
//     with it, and what was learnt under another one is worth nothing: that EPC is lost. Nothing that must outlive the
//     exchange lies in the file: the lock of rule 2 is the kernel's.
//  4. Every allocated page has an owner process. A dead owner's pages are reclaimed whatever state they are in: the
//     locked bits, TCS busy bits and counters that it left behind go with them.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "sgx/arch.h"

namespace softsgx {

// Number of an EPC page in the machine file.
using EpcIndex = std::uint32_t;
inline constexpr EpcIndex kNotEpc = 0xffffffff;

// The packed, atomically updated part of an EPCM entry (SDM 3D, section 34.19).
namespace epcm {
inline constexpr std::uint64_t kValid = 1u << 0;
inline constexpr std::uint64_t kR = 1u << 1;
inline constexpr std::uint64_t kW = 1u << 2;
inline constexpr std::uint64_t kX = 1u << 3;
inline constexpr std::uint64_t kRights = kR | kW | kX;
inline constexpr std::uint64_t kPending = 1u << 4;
inline constexpr std::uint64_t kModified = 1u << 5;
inline constexpr std::uint64_t kPr = 1u << 6;
inline constexpr std::uint64_t kBlocked = 1u << 7;
inline constexpr unsigned kTypeShift = 8;
inline constexpr std::uint64_t kTypeMask = 0xffu << kTypeShift;
inline constexpr std::uint64_t kLocked = 1u << 16;  // a leaf is working on the page
inline constexpr std::uint64_t kBusy = 1u << 17;    // PT_TCS: a logical processor is inside through it
inline constexpr unsigned kSecsShift = 32;          // ENCLAVESECS: index of the SECS page

[[nodiscard]] constexpr sgx::PageType type(std::uint64_t state) noexcept {
  return static_cast<sgx::PageType>((state & kTypeMask) >> kTypeShift);
}
[[nodiscard]] constexpr std::uint64_t of_type(sgx::PageType t) noexcept {
  return static_cast<std::uint64_t>(t) << kTypeShift;
}
[[nodiscard]] constexpr EpcIndex secs(std::uint64_t state) noexcept {
  return static_cast<EpcIndex>(state >> kSecsShift);
}
[[nodiscard]] constexpr std::uint64_t of_secs(EpcIndex i) noexcept {
  return std::uint64_t{i} << kSecsShift;
}
// SECINFO's R, W, X (bits 0..2) as EPCM bits and back.
[[nodiscard]] constexpr std::uint64_t from_secinfo(std::uint64_t flags) noexcept {
  return (flags & sgx::secinfo::kPermMask) << 1;
}
[[nodiscard]] constexpr std::uint64_t to_secinfo(std::uint64_t state) noexcept {
  return (state & kRights) >> 1;
}
}  // namespace epcm

// A process, told apart from a later one with the same pid.
struct Owner {
  std::uint32_t pid = 0;     // 0: nobody
  std::uint32_t pid_ns = 0;  // inode of its PID namespace
  std::uint64_t start = 0;   // start time, clock ticks since boot (/proc/PID/stat, field 22)
  std::uint64_t boot = 0;    // hash of the kernel's boot id
  friend bool operator==(const Owner&, const Owner&) = default;
  // The calling process. Reads /proc.
  [[nodiscard]] static Owner self();
  // False only if it certainly no longer exists: owners of another kernel or PID namespace count as alive.
  [[nodiscard]] bool alive() const;
};

struct alignas(64) EpcmEntry {
  std::atomic<std::uint64_t> state;            // epcm:: bits
  std::atomic<std::uint64_t> enclave_address;  // ENCLAVEADDRESS; constant while kValid
  // PT_SECS only: logical processors inside, as tracking epoch << 32 | entered before it << 16 | entered in it. Here
  // and not in the SECS page, because EENTER counts itself in before it knows that the SECS is still there.
  std::atomic<std::uint64_t> active;
  std::atomic<std::uint64_t> children;     // PT_SECS only: pages whose ENCLAVESECS is this page
  Owner owner;                             // guarded by the machine's lock
  std::atomic<std::uint32_t> block_epoch;  // tracking epoch in which EBLOCK, EMODPR or EMODT touched the page
  std::uint32_t reserved;
};
static_assert(sizeof(Owner) == 24 && sizeof(EpcmEntry) == 64 && std::atomic<std::uint64_t>::is_always_lock_free);

// What the CPU keeps with a SECS beyond its architectural fields; lives in the SECS page's reserved bytes, which no
// software can read, so that any process can continue what another began.
struct SecsState {
  std::uint32_t sha256_h[8];      // MRENCLAVE's running SHA-256; all records are whole 64-byte blocks
  std::uint64_t measured_blocks;  // 64-byte blocks hashed so far
  std::uint8_t isvfamilyid[16];   // from SIGSTRUCT at EINIT (KSS)
  std::uint8_t isvextprodid[16];
};

// The fuses and revocable state of the package.
struct Fuses {
  std::uint8_t root_provisioning_key[16];
  std::uint8_t root_seal_key[16];
  std::uint8_t owner_epoch[16];
  std::uint8_t platform_id[16];  // public name of the package, for people and for the quoting service
};

inline constexpr std::array<std::uint8_t, 16> kDefaultCpusvn = {2, 2, 2, 2, 2, 2, 2, 2};

struct CreateOptions {
  std::uint64_t epc_bytes = 0;                         // a multiple of 4 KiB
  std::optional<std::array<std::uint8_t, 16>> cpusvn;  // default: kDefaultCpusvn
  std::optional<std::uint64_t> xfrm_allowed;           // default: what the host's CPUID leaf 0xD and XCR0 allow
  // A machine file whose fuses, CPUSVN and XFRM the new file shares: an EPC section of that package, e.g. for a VM.
  std::string section_of;
  // Made for a VM: free EPC reads as 0xff, and the file's size is a multiple of 2 MiB.
  bool section = false;
};

struct OpenOptions {
  std::uint64_t file_offset = 0;  // where the machine begins in the file (a guest's /dev/mem)
  EpcIndex first = 0;             // the section of the EPC to use …
  EpcIndex count = kNotEpc;       // … all of it
};

class Machine {
 public:
  // Makes a machine file with fresh random fuses. The file must not exist; it is sparse. Null and one line in `error`
  // on failure.
  [[nodiscard]] static std::unique_ptr<Machine> create(const std::string& path, const CreateOptions& options,
                                                       std::string& error);
  // Maps an existing machine. A file whose header is not a sound machine header is refused. Null and one line in
  // `error` on failure.
  [[nodiscard]] static std::unique_ptr<Machine> open(const std::string& path, const OpenOptions& options,
                                                     std::string& error);
  ~Machine();
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  struct Header;  // the file's format: machine_format.h
  struct Control;
  struct Layout;

  // --- Constant properties; async-signal-safe. ---
  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  [[nodiscard]] EpcIndex epc_pages() const noexcept { return epc_pages_; }  // in the whole file
  [[nodiscard]] EpcIndex section_first() const noexcept { return first_; }
  [[nodiscard]] EpcIndex section_pages() const noexcept { return count_; }
  [[nodiscard]] const Fuses& fuses() const noexcept;
  // REPORT.KEYID: random, fresh at each power cycle.
  [[nodiscard]] const std::array<std::uint8_t, 32>& report_keyid() const noexcept;
  [[nodiscard]] const std::array<std::uint8_t, 16>& cpusvn() const noexcept;
  [[nodiscard]] std::uint64_t xfrm_allowed() const noexcept;
  [[nodiscard]] bool is_section() const noexcept;
  // Random, new at creation and at each power cycle. When it changes, every page that was in EPC before is lost.
  [[nodiscard]] std::uint64_t generation() const noexcept;
  // Null if the file still holds a machine of the size that was opened; else what is wrong. After an exchange it may
  // hold anything.
  [[nodiscard]] const char* unsound() const noexcept;
  // This process has (has no longer) something mapped of that generation. One at a time; false if the kernel refuses.
  [[nodiscard]] bool enter_generation(std::uint64_t generation) noexcept;
  void leave_generation(std::uint64_t generation) noexcept;
  // Whether another process has not left some other generation.
  [[nodiscard]] bool others_in_past_generations(std::uint64_t generation) const noexcept;
  [[nodiscard]] int fd() const noexcept { return fd_; }  // for mapping EPC pages; owned by the machine
  [[nodiscard]] std::uint64_t file_offset(EpcIndex i) const noexcept;

  // --- Pages; async-signal-safe. `i` must be below epc_pages(). ---
  [[nodiscard]] bool is_epc(EpcIndex i) const noexcept { return i - first_ < count_; }
  [[nodiscard]] std::byte* page(EpcIndex i) const noexcept {
    if (!parts_[i / kPartPages].load(std::memory_order_acquire)) map_part(i / kPartPages);
    return epc_ + (std::size_t{i} << sgx::kPageShift);
  }
  [[nodiscard]] EpcmEntry& epcm(EpcIndex i) const noexcept { return epcm_[i]; }
  [[nodiscard]] sgx::Secs& secs(EpcIndex i) const noexcept;
  [[nodiscard]] sgx::Tcs& tcs(EpcIndex i) const noexcept;
  [[nodiscard]] SecsState& secs_state(EpcIndex secs) const noexcept;
  // PROT_READ|PROT_WRITE|PROT_EXEC bits that an enclave's access to the page can have now: none unless the entry is a
  // valid, accepted PT_REG page (a driver maps with at most these).
  [[nodiscard]] int page_rights(EpcIndex i) const noexcept;
  // Logical processors inside the enclave; and of these, those that entered before the last ETRACK.
  [[nodiscard]] unsigned active_processors(EpcIndex secs) const noexcept;
  [[nodiscard]] unsigned untracked_processors(EpcIndex secs) const noexcept;

  // --- Allocation; takes the machine's lock, not async-signal-safe. ---
  // `count` adjacent pages, owned by `owner`, EPCM entries invalid: first fit where this process allocates already,
  // then where nobody does, then anywhere. Reclaims dead owners' pages before it gives up; nullopt when the section has
  // no such run, or when `generation` is past.
  [[nodiscard]] std::optional<EpcIndex> allocate_run(EpcIndex count, const Owner& owner, std::uint64_t generation);
  [[nodiscard]] std::optional<EpcIndex> allocate_run(EpcIndex count, const Owner& owner) {
    return allocate_run(count, owner, generation());
  }
  // Gives pages back that were allocated in `generation`; nothing if that is past. Their EPCM entries must be invalid
  // (EREMOVE first); valid ones are kept and counted in the answer.
  EpcIndex release(EpcIndex first, EpcIndex count, std::uint64_t generation);
  EpcIndex release(EpcIndex first, EpcIndex count) { return release(first, count, generation()); }
  // Frees the pages of processes that no longer exist, by force. The number of pages freed.
  EpcIndex reclaim_dead();
  // What happens to EPC when power is lost: every page of the section is freed. Nothing may be running in it.
  void power_cycle();
  // Touches the pages so that first use does not fault (MADV_POPULATE_WRITE); an optimisation, failure is ignored.
  void prefault(EpcIndex first, EpcIndex count) const noexcept;

  struct Usage {
    EpcIndex total = 0, free = 0, enclaves = 0, processes = 0;
    std::uint64_t threads_inside = 0;
  };
  [[nodiscard]] Usage usage();

 private:
  class Lock;
  Machine() = default;
  [[nodiscard]] static const char* header_problem(const Header& h) noexcept;
  bool map(const OpenOptions& options, std::string& error);
  bool reserve_epc();
  void map_part(EpcIndex part) const noexcept;
  [[nodiscard]] std::byte* run(EpcIndex first, EpcIndex count) const noexcept;
  [[nodiscard]] bool allocated(EpcIndex i) const noexcept;
  [[nodiscard]] std::optional<EpcIndex> first_fit(EpcIndex count, std::uint64_t begin,
                                                  std::uint64_t end) const noexcept;
  [[nodiscard]] std::optional<EpcIndex> find_run(EpcIndex count) noexcept;
  EpcIndex reclaim_dead_locked();
  void free_locked(EpcIndex i) noexcept;
  [[nodiscard]] std::uint64_t presence_byte(std::uint64_t generation) const noexcept;

  std::string path_;
  int fd_ = -1;
  std::mutex mutex_;          // excludes this process's threads; the file lock excludes other processes
  std::byte* map_ = nullptr;  // all before the EPC
  std::size_t map_bytes_ = 0;
  std::uint64_t base_offset_ = 0, epc_offset_ = 0;  // in the file
  const Header* header_ = nullptr;
  Control* control_ = nullptr;
  std::uint64_t* bitmap_ = nullptr;  // one bit a page: allocated; guarded by the lock
  EpcmEntry* epcm_ = nullptr;
  // EPC is mapped part by part, when a page of it is first asked for: the kernel fills a device mapping's page tables
  // at once, which would cost a guest's every process 2 KiB of RAM for each MiB of EPC. Never unmapped before the end.
  static constexpr EpcIndex kPartPages = 512;  // what one page table maps
  std::byte* epc_ = nullptr;                   // all of it, reserved
  std::byte* reserved_ = nullptr;              // with what its alignment takes
  std::size_t reserved_bytes_ = 0;
  std::unique_ptr<std::atomic<bool>[]> parts_;
  EpcIndex epc_pages_ = 0, first_ = 0, count_ = 0;
  EpcIndex home_ = kNotEpc;  // first page of the part that this process fills; guarded by the lock
};

}  // namespace softsgx

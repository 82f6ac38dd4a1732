// One open /dev/sgx_enclave: the enclave, its page table and its mappings in this process.
//
// Threads. `lock_` guards everything except what is marked lock-free; it is taken in signal handlers (page faults), so
// whoever takes it blocks all signals first (Locked). Objects are recycled but never freed, and their page tables'
// address ranges with them: a leaf in another thread may look at any time.
//  1. A page is in the table exactly while its EPC page belongs to this enclave.
//  2. Its kMapped bit is set exactly while a mapping of this file with any rights covers it: then the CPU finds it.
//  3. What is really mapped at the address has at most the rights of the mapping and of the EPCM.
//  4. An enclave belongs to the generation of EPC in which it was created. In any other one it is lost: no leaf finds a
//     page of it, it touches no EPC, and nothing of EPC stays mapped in it (machine.h, rule 3).
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <mutex>

#include "softsgx/cpu/platform.h"
#include "softsgx/cpu/signal_table.h"
#include "softsgx/driver/page_table.h"
#include "softsgx/driver/vma_table.h"
#include "softsgx/isa/encls.h"

namespace softsgx {

// Attributes that need no permission (Linux: SGX_ATTR_UNPRIV_MASK).
inline constexpr std::uint64_t kUnprivilegedAttributes =
    sgx::attribute::kDebug | sgx::attribute::kMode64Bit | sgx::attribute::kKss | sgx::attribute::kAexNotify;

class Enclave {
 public:
  Enclave(Machine& machine, const Owner& owner) noexcept : machine_(machine), owner_(owner) {}
  Enclave(const Enclave&) = delete;
  Enclave& operator=(const Enclave&) = delete;

  // --- Lock-free, async-signal-safe. ---
  [[nodiscard]] EpcIndex epc_page(std::uint64_t linaddr) const noexcept {
    return lost() ? kNotEpc : table_.mapped_page(linaddr);
  }
  // The same of a page that is not mapped any more.
  [[nodiscard]] EpcIndex fetched_page(std::uint64_t linaddr) const noexcept {
    return lost() ? kNotEpc : table_.any_page(linaddr);
  }
  // Its EPC pages are gone.
  [[nodiscard]] bool lost() const noexcept {
    const std::uint64_t born = generation_.load(std::memory_order_acquire);
    return born != 0 && born != machine_.generation();
  }
  // No mapping of this file lies outside this range.
  [[nodiscard]] Range hull() const noexcept { return {hull_begin_.load(), hull_end_.load()}; }

  // --- The ioctls: 0 or -errno (Linux's arch/x86/kernel/cpu/sgx/ioctl.c). `argument` is the program's pointer. ---
  long ioctl(unsigned long command, std::uint64_t argument);

  // --- Mappings. The caller has already put a placeholder (map) or nothing (unmap) at the range. ---
  // 0 or -EACCES if a page's SECINFO forbids `prot`.
  [[nodiscard]] long may_map(const Range& range, int prot);
  long mapped(const Range& range, int prot);
  void unmapped(const Range& range);
  // mprotect of the parts of `range` that are this file's: 0, -EACCES or -ENOMEM.
  long protect(const Range& range, int prot);
  // Calls `visit(Range)` for the mapped parts of the range.
  void for_each_mapping(const Range& range, const std::function<void(const VmaTable::Vma&)>& visit);

  // --- In signal handlers. ---
  FaultAnswer page_fault(std::uint64_t address, std::uint32_t access) noexcept;
  void rights_changed(std::uint64_t address) noexcept;
  // If it is lost: unmaps what now is other enclaves' EPC.
  void drop_if_lost() noexcept;

  // --- Lifetime (device.h). ---
  void opened() noexcept { open_ = true; }
  // The last descriptor is closed; the enclave goes with its last mapping.
  void closed();
  [[nodiscard]] bool in_use();
  // Frees EPC pages if nothing refers to the enclave any more; pages that a thread is still using stay until next time.
  void release_if_unused();
  void lock_for_fork() { lock_.lock(); }
  void unlock_after_fork() { lock_.unlock(); }

 private:
  class Locked {  // signals blocked, then the lock
   public:
    explicit Locked(Enclave& e) : guard_(e.lock_) {}

   private:
    SignalsBlocked blocked_;
    std::lock_guard<std::mutex> guard_;
  };
  struct AddRequest;
  struct Sgx2Range;

  // ioctl.cc
  [[nodiscard]] long dispatch(unsigned long command, std::uint64_t argument);
  [[nodiscard]] long dispatch_lost(unsigned long command, std::uint64_t argument);
  long create(std::uint64_t argument);
  long add_pages(std::uint64_t argument);
  long init(std::uint64_t argument);
  long provision(std::uint64_t argument);
  long add_run(const AddRequest& r, std::uint64_t first_page, EpcIndex wanted, EpcIndex& added);
  long add_page(const AddRequest& r, std::uint64_t page, EpcIndex epc);
  // ioctl_sgx2.cc
  long restrict_permissions(std::uint64_t argument);
  long modify_types(std::uint64_t argument);
  long remove_pages(std::uint64_t argument);
  [[nodiscard]] bool valid_range(std::uint64_t offset, std::uint64_t length) const noexcept;
  long restrict_page(std::uint64_t page, const sgx::Secinfo& secinfo, std::uint64_t& result);
  long modify_page(std::uint64_t page, sgx::PageType type, std::uint64_t& result);
  long remove_page(std::uint64_t page);
  void track();
  void forget() noexcept;
  void drop() noexcept;
  // mapping.cc
  [[nodiscard]] Range elrange() const noexcept { return {base_, base_ + size_}; }
  long install(const Range& range) noexcept;
  long install_in(const VmaTable::Vma& vma) noexcept;
  void uninstall(const Range& range) noexcept;
  void refresh_mapped_bits(const Range& range);
  void update_hull();
  bool augment(std::uint64_t address) noexcept;
  // base_writes.cc: makes WRFSBASE and WRGSBASE in the code of pages [first, end) trap, where the kernel would not keep
  // what they write (cpu/bases.h). Behind the measurement; a page that can be written is left as it is.
  void trap_base_writes(std::uint64_t first, std::uint64_t end) noexcept;
  [[nodiscard]] std::uint8_t* code(std::uint64_t page) noexcept;

  Machine& machine_;
  const Owner owner_;
  std::mutex lock_;
  std::atomic<bool> ioctl_running_ = false;
  std::atomic<std::uint64_t> hull_begin_ = 0, hull_end_ = 0;
  bool open_ = false;
  bool created_ = false, initialized_ = false;
  bool dropped_ = false;                       // lost, and nothing of it is mapped any more
  std::atomic<std::uint64_t> generation_ = 0;  // Machine::generation at ECREATE; 0: no enclave
  std::uint64_t base_ = 0, size_ = 0;
  EpcIndex secs_ = kNotEpc;
  std::uint64_t attributes_ = 0, attributes_allowed_ = kUnprivilegedAttributes;
  PageTable table_;
  VmaTable vmas_;
};

// The attribute that an open /dev/sgx_provision grants, by the program's descriptor; device.cc.
[[nodiscard]] bool is_provision_device(int fd) noexcept;

// Devices::settle, of the process's devices.
[[nodiscard]] bool settle_generation(std::uint64_t generation);

}  // namespace softsgx

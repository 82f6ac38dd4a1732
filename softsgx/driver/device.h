// The process's enclave files: which descriptor is which enclave, and the CPU layer's view of all of them.
//
// A descriptor is a memfd and known by its inode, so dup, fork and SCM_RIGHTS within the process need no bookkeeping.
// Enclaves are created and found under a lock, and never freed, so that fault handlers can walk them without one.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>

#include "softsgx/cpu/platform.h"
#include "softsgx/driver/enclave.h"

namespace softsgx {

enum class DeviceNode { kNone, kEnclave, kProvision };
// Which of our device nodes a path names.
[[nodiscard]] DeviceNode device_node(const char* path) noexcept;

class Devices final : public Platform, private AddressSpace {
 public:
  static constexpr std::size_t kMaxEnclaves = 4096;  // alive at one time in one process

  explicit Devices(Machine& machine);

  // open(2) of a node: a descriptor or -errno.
  long open(DeviceNode node, int flags);
  // The enclave behind a descriptor, or null. Cheap while the process has no enclave.
  [[nodiscard]] Enclave* find(int fd);
  [[nodiscard]] bool is_provision(int fd);
  // After a close of an enclave's descriptor: finds out whether another one is left.
  void after_close();

  // Calls `visit(Enclave&)` for every enclave with a mapping that may touch the range. Lock-free.
  template <typename Visit>
  void for_each_touching(const Range& range, Visit&& visit) {
    for (std::size_t i = 0; i < count_.load(std::memory_order_acquire); ++i) {
      Enclave& e = *slots_[i].enclave;
      if (!e.hull().intersect(range).empty()) visit(e);
    }
  }
  [[nodiscard]] bool touches(const Range& range) {
    bool any = false;
    for_each_touching(range, [&](Enclave&) { any = true; });
    return any;
  }
  // After unmappings: gives back the EPC of enclaves that nothing refers to any more.
  void release_unused();
  // Makes `generation` this process's, and sees to it that no process has another one mapped any more. False if one
  // does not let go in time, or if the generation is past.
  bool settle(std::uint64_t generation);
  // fork: no lock must be held by a thread that the child does not have.
  void before_fork();
  void after_fork();

  // Platform.
  [[nodiscard]] const AddressSpace& address_space() const noexcept override { return *this; }
  FaultAnswer page_fault(std::uint64_t address, std::uint32_t access) noexcept override;
  void rights_changed(std::uint64_t address) noexcept override;
  [[nodiscard]] EpcIndex fetched_page(std::uint64_t linaddr) const noexcept override;
  void epc_lost() noexcept override;

 private:
  struct Identity {
    std::uint64_t device = 0, inode = 0;
    friend bool operator==(const Identity&, const Identity&) = default;
  };
  struct Slot {
    std::unique_ptr<Enclave> enclave;
    Identity identity;  // {0, 0}: not open
  };
  static bool identify(int fd, Identity& out) noexcept;
  [[nodiscard]] EpcIndex epc_page(std::uint64_t linaddr) const noexcept override;
  // What `look` finds in the first enclave where it finds any.
  template <class Look>
  [[nodiscard]] EpcIndex first_page(Look look) const noexcept;
  void leave_presence() noexcept;
  Slot* free_slot();
  // Closes the enclaves that no descriptor of this process names any more.
  void sweep();

  Machine& machine_;
  const Owner owner_;
  std::mutex lock_;
  std::array<Slot, kMaxEnclaves> slots_;
  std::atomic<std::size_t> count_ = 0;
  std::atomic<bool> any_provision_ = false;
  Identity provision_;  // all opens of the node share one inode
  int provision_fd_ = -1;
  std::mutex presence_lock_;
  std::uint64_t presence_ = 0;  // the generation that the machine knows this process to use; 0: none
  std::uint64_t settled_ = 0;   // the same, once no process uses another
};

// The process's devices; set by the preload library before anything else runs.
extern Devices* g_devices;

}  // namespace softsgx

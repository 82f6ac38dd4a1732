#include "softsgx/driver/device.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "softsgx/isa/raw_syscall.h"

namespace softsgx {

Devices* g_devices = nullptr;

namespace {

int make_node_fd(const char* name, int flags) noexcept {
  const std::uint64_t memfd_flags = flags & O_CLOEXEC ? MFD_CLOEXEC : 0;
  return static_cast<int>(raw::call(SYS_memfd_create, raw::arg(name), memfd_flags));
}

void complain(const char* problem) noexcept {
  for (const char* text : {"softsgx: where the EPC was there now is: ", problem, "\n"}) {
    raw::call(SYS_write, 2, raw::arg(text), std::strlen(text));
  }
}

}  // namespace

DeviceNode device_node(const char* path) noexcept {
  // The second name of each is what the out-of-tree driver and its udev rules used; programs still try it.
  if (!path || std::strncmp(path, "/dev/sgx", 8) != 0) return DeviceNode::kNone;
  const char* rest = path + 8;
  if (!std::strcmp(rest, "_enclave") || !std::strcmp(rest, "/enclave")) return DeviceNode::kEnclave;
  if (!std::strcmp(rest, "_provision") || !std::strcmp(rest, "/provision")) return DeviceNode::kProvision;
  return DeviceNode::kNone;
}

Devices::Devices(Machine& machine) : machine_(machine), owner_(Owner::self()) {}

bool Devices::identify(int fd, Identity& out) noexcept {
  struct stat st {};  // the analyser does not know that the call fills it
  if (raw::call(SYS_fstat, static_cast<std::uint64_t>(fd), raw::arg(&st)) != 0) return false;
  out = {st.st_dev, st.st_ino};
  return true;
}

Devices::Slot* Devices::free_slot() {
  sweep();
  const std::size_t n = count_.load();
  for (std::size_t i = 0; i < n; ++i) {
    Slot& s = slots_[i];
    if (s.identity != Identity{}) continue;
    s.enclave->release_if_unused();
    if (!s.enclave->in_use()) return &s;
  }
  if (n == kMaxEnclaves) return nullptr;
  slots_[n].enclave = std::make_unique<Enclave>(machine_, owner_);
  count_.store(n + 1, std::memory_order_release);
  return &slots_[n];
}

long Devices::open(DeviceNode node, int flags) {
  SignalsBlocked blocked;
  std::lock_guard guard(lock_);
  if (node == DeviceNode::kProvision) {
    const int fd = make_node_fd("sgx_provision", flags);
    if (fd >= 0) {
      // Every open shares the first one's inode, so that any of them is recognised.
      if (provision_fd_ < 0) {
        provision_fd_ = make_node_fd("sgx_provision", O_CLOEXEC);
        identify(provision_fd_, provision_);
      }
      raw::call(SYS_dup3, static_cast<std::uint64_t>(provision_fd_), static_cast<std::uint64_t>(fd),
                static_cast<std::uint64_t>(flags & O_CLOEXEC));
      any_provision_ = true;
    }
    return fd;
  }
  if (const char* problem = machine_.unsound()) {
    complain(problem);
    return -ENODEV;
  }
  Slot* slot = free_slot();
  if (!slot) return -ENOMEM;
  const int fd = make_node_fd("sgx_enclave", flags);
  if (fd < 0) return fd;
  identify(fd, slot->identity);
  slot->enclave->opened();
  return fd;
}

Enclave* Devices::find(int fd) {
  const std::size_t n = count_.load(std::memory_order_acquire);
  Identity id;
  if (n == 0 || fd < 0 || !identify(fd, id)) return nullptr;
  SignalsBlocked blocked;
  std::lock_guard guard(lock_);
  for (std::size_t i = 0; i < n; ++i) {
    if (slots_[i].identity == id) return slots_[i].enclave.get();
  }
  return nullptr;
}

bool Devices::is_provision(int fd) {
  Identity id;
  return any_provision_ && identify(fd, id) && id == provision_;
}

// dup, dup2 over a descriptor, close_range and fork are not watched: what /proc shows is what is open.
void Devices::sweep() {
  DIR* dir = opendir("/proc/self/fd");
  if (!dir) return;
  std::vector<Identity> open;
  while (const dirent* entry = readdir(dir)) {
    Identity id;
    if (entry->d_name[0] != '.' && identify(std::atoi(entry->d_name), id)) open.push_back(id);
  }
  closedir(dir);
  for (std::size_t i = 0; i < count_.load(); ++i) {
    Slot& s = slots_[i];
    if (s.identity == Identity{} || std::find(open.begin(), open.end(), s.identity) != open.end()) continue;
    s.identity = {};
    s.enclave->closed();
  }
}

void Devices::after_close() {
  SignalsBlocked blocked;
  std::lock_guard guard(lock_);
  sweep();
}

void Devices::release_unused() {
  for (std::size_t i = 0; i < count_.load(std::memory_order_acquire); ++i) slots_[i].enclave->release_if_unused();
}

void Devices::before_fork() {
  lock_.lock();
  presence_lock_.lock();
  for (std::size_t i = 0; i < count_.load(); ++i) slots_[i].enclave->lock_for_fork();
}

void Devices::after_fork() {
  for (std::size_t i = 0; i < count_.load(); ++i) slots_[i].enclave->unlock_after_fork();
  presence_lock_.unlock();
  lock_.unlock();
}

template <class Look>
EpcIndex Devices::first_page(Look look) const noexcept {
  for (std::size_t i = 0; i < count_.load(std::memory_order_acquire); ++i) {
    if (const EpcIndex epc = look(*slots_[i].enclave); epc != kNotEpc) return epc;
  }
  return kNotEpc;
}

EpcIndex Devices::epc_page(std::uint64_t linaddr) const noexcept {
  return first_page([&](const Enclave& e) { return e.epc_page(linaddr); });
}

EpcIndex Devices::fetched_page(std::uint64_t linaddr) const noexcept {
  return first_page([&](const Enclave& e) { return e.fetched_page(linaddr); });
}

FaultAnswer Devices::page_fault(std::uint64_t address, std::uint32_t access) noexcept {
  FaultAnswer answer = FaultAnswer::kNotOurs;
  for_each_touching({address, address + 1}, [&](Enclave& e) {
    if (answer == FaultAnswer::kNotOurs) answer = e.page_fault(address, access);
  });
  return answer;
}

void Devices::rights_changed(std::uint64_t address) noexcept {
  for_each_touching({address, address + 1}, [&](Enclave& e) { e.rights_changed(address); });
}

bool is_provision_device(int fd) noexcept {
  return g_devices && g_devices->is_provision(fd);
}

}  // namespace softsgx
